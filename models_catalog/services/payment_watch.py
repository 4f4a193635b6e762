"""What a payment provider told and the staff must look at: money moved, and the order could not follow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from marketplace.accounts.models import User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from models_catalog import policies
from models_catalog.models import PaymentEvent
from models_catalog.models.orders import OrderStatus
from models_catalog.payment_outcomes import ATTENTION, UNMATCHED, Outcome

MAX_DECISION = 500  # characters
_CLOSED = "charge.dispute.closed"


@dataclass(frozen=True, slots=True)
class Advice:
    title: str
    todo: str


_ADVICE: dict[str, Advice] = {
    Outcome.AMOUNT_MISMATCH: Advice(
        "Another amount than agreed was paid",
        "No license was granted. Refund the order on its page, which sends back what was paid, or ask the buyer for the "
        "rest and mark the order as paid to this site.",
    ),
    Outcome.PARTIAL_REFUND: Advice(
        "A part of the money went back",
        "The license stands and the books still show the whole price. Refund the rest here, or agree with the vendor "
        "who bears the part.",
    ),
    Outcome.NOT_GRANTED: Advice(
        "Paid, and no license could be granted",
        "The detail says why. Refund the order on its page, or mark it as paid to this site once the reason is gone.",
    ),
    Outcome.DISPUTED: Advice(
        "The buyer's bank asks for the money back",
        "Answer at the provider before its deadline; acceptance, receipt and downloads are on the order's page.",
    ),
}
_OTHER = Advice("A provider told something unknown", "Look the event up at the provider.")


def open_events() -> QuerySet[PaymentEvent]:
    """Returns the events that nothing has settled since: nobody of the staff has dealt with it; the order was not
    refunded; where no license came of the payment, not paid either; and the buyer's bank has not closed the dispute."""
    late = PaymentEvent.objects.filter(order=OuterRef("order"), kind=_CLOSED, pk__gt=OuterRef("pk"))
    over = Q(order__status=OrderStatus.REFUNDED) | Q(order__status=OrderStatus.PAID, outcome__in=UNMATCHED)
    told = PaymentEvent.objects.filter(outcome__in=ATTENTION, attended_at=None).annotate(is_over=Exists(late))
    return told.exclude(over & Q(order__isnull=False)).exclude(outcome=Outcome.DISPUTED, is_over=True)


def attended_events() -> QuerySet[PaymentEvent]:
    """Returns the events that the staff have dealt with, the latest first."""
    return PaymentEvent.objects.filter(attended_at__isnull=False).order_by("-attended_at")


def advice(event: PaymentEvent) -> Advice:
    """Returns what such an event means, and what the staff can do."""
    return _ADVICE.get(event.outcome, _OTHER)


def attend(*, event: PaymentEvent, actor: User, decision: str, now: datetime) -> None:
    """Records what the staff did about an event; it waits no longer. Raises Denied (`not_staff`), Invalid
    (`decision_missing`), Conflict (`nothing_to_attend`) for an event that does not wait."""
    require(policies.may_attend(actor))
    words = decision.strip()[:MAX_DECISION]
    if not words:
        raise Invalid("decision_missing", "Say what was done: it stays on record.", field="decision")
    with transaction.atomic():
        # One statement finds and marks, so that of two at once one is told of the other.
        waiting = PaymentEvent.objects.filter(pk__in=open_events().filter(pk=event.pk).values("pk"))
        if not waiting.update(attended_by=actor, attended_at=now, decision=words):
            raise Conflict("nothing_to_attend", "This payment waits for nobody: it was settled or dealt with already.")
        details = {"event": event.event_id, "outcome": event.outcome, "decision": words}
        audit.record("payment.attend", actor=actor, namespace=None, subject=event.order, details=details)
