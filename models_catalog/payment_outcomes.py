"""What may become of what a payment provider tells."""

from __future__ import annotations

from enum import StrEnum

# The kinds of events that say that an order was paid.
PAYS = ("checkout.session.completed", "checkout.session.async_payment_succeeded")


class Outcome(StrEnum):
    """What became of an event; stored beside it and answered to Stripe with 200, so that it is not sent again."""

    SETTLED = "settled"
    WAITING = "waiting"  # a slow kind of payment was begun
    CANCELED = "canceled"
    REFUNDED = "refunded"
    REPLAYED = "replayed"
    NOTHING_TO_DO = "nothing_to_do"  # the order is in that state, or in a later one, already
    IGNORED = "ignored"  # of no kind that concerns orders
    UNKNOWN_ORDER = "unknown_order"
    # The staff must look: money moved, and the order could not follow.
    AMOUNT_MISMATCH = "amount_mismatch"
    PARTIAL_REFUND = "partial_refund"
    NOT_GRANTED = "not_granted"
    DISPUTED = "disputed"  # the buyer's bank asks for the money back: answer at Stripe


ATTENTION = (Outcome.AMOUNT_MISMATCH, Outcome.PARTIAL_REFUND, Outcome.NOT_GRANTED, Outcome.DISPUTED)
# The money is here, and it bought nothing.
UNMATCHED = (Outcome.AMOUNT_MISMATCH, Outcome.NOT_GRANTED)
