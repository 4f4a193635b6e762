"""Giving money back: the whole of an order, with a reason; what it had granted ends, what it had shared returns."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.contrib.auth.models import AnonymousUser
from django.db import transaction

from marketplace.accounts.models import User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Denied, Invalid
from marketplace.webhooks.events import EventType
from models_catalog import policies
from models_catalog.models import LedgerAccount, Order, Payout
from models_catalog.models.ledger import PayoutStatus
from models_catalog.models.orders import OrderStatus, Receiver
from models_catalog.postings import AccountKind
from models_catalog.services import bookkeeping, debts, orders, payments, returns, sale_notices, webhooks


def refund_order(*, order: Order, actor: User, reason: str, now: datetime, amount_minor: int | None = None) -> Order:
    """Refunds a paid order; refunding twice changes nothing. Money that a payment provider took is sent back through
    it first. Raises Denied (`not_billing`), Invalid (`reason_missing`, `partial_refund`), Conflict (`not_paid`,
    `nothing_paid`; `term_over` where a vendor would take royalties back for a license that was used to its end,
    `balance_too_low` where this site has paid out what a vendor would take back), Denied (`paid_to_site`), Unavailable
    (`payment_unavailable`)."""
    require(policies.may_bill(actor, order.listing))
    if not reason.strip():
        raise Invalid("reason_missing", "Say why the money goes back: the buyer reads it.", field="reason")
    if amount_minor is not None and amount_minor != order.amount_minor:
        raise Invalid(
            "partial_refund", "Only the whole amount is refunded, because the license ends.", field="amount_minor"
        )
    if order.status == OrderStatus.REFUNDED:
        return order
    is_stranded = actor.is_staff and orders.is_stranded(order)  # paid, though nothing came of it
    if order.status != OrderStatus.PAID and not is_stranded:
        raise Conflict("not_paid", "This order is not paid, so nothing can go back. Cancel it.")
    if not order.amount_minor:
        raise Conflict("nothing_paid", "Nothing was paid for this order, so nothing can go back.")
    if returns.is_used_up(order, now=now) and not actor.is_staff:
        raise Conflict(
            "term_over", "The term that this order bought is over, and its royalties stay: ask the site's staff."
        )
    if is_left_to_staff(order, actor):
        raise Denied("paid_to_site", "This site was paid, and its staff send the money back: ask them for the refund.")
    if actor.is_staff:
        payments.provider_named(order.provider).refund(order)
        record(order_id=order.pk, actor=actor, reason=reason, now=now)
    else:
        _refund_what_is_covered(order.pk, actor=actor, reason=reason, now=now)
    order.refresh_from_db()
    return order


def is_left_to_staff(order: Order, actor: User | AnonymousUser) -> bool:
    """Is the money on this site's own account, where neither a vendor nor a provider sends it back?"""
    by_hand = order.received_by == Receiver.SITE and order.provider == payments.MANUAL.name
    return by_hand and not (actor.is_authenticated and actor.is_staff)


def _refund_what_is_covered(order_id: uuid.UUID, *, actor: User, reason: str, now: datetime) -> None:
    """Refunds out of the balances of those who would bear it, which stay locked, beside the order, until that is
    recorded: also while the provider is asked, or a payout could take meanwhile what was counted on."""
    with transaction.atomic():
        row = Order.objects.locked(order_id)
        if row.status == OrderStatus.PAID:
            _require_cover(row)
            payments.provider_named(row.provider).refund(row)
            record(order_id=row.pk, actor=actor, reason=reason, now=now)


def _require_cover(order: Order) -> None:
    """Raises Conflict (`balance_too_low`). Of what the vendor was paid directly only royalties that were paid out
    since can be missing. Locks the accounts."""
    taken = bookkeeping.taken_by_refund(order)
    if order.received_by != Receiver.SITE:
        since = Payout.objects.filter(batch__currency=order.currency, batch__created_at__gte=order.settled_at)
        paid = since.exclude(batch__status=PayoutStatus.CANCELED).filter(namespace__in=list(taken))
        taken = {pk: taken[pk] for pk in set(paid.values_list("namespace_id", flat=True))}
    rows = LedgerAccount.objects.filter(
        kind=AccountKind.PAYABLE.value, currency=order.currency, namespace__in=list(taken)
    )
    owners = dict(rows.select_for_update(of=("self",)).order_by("pk").values_list("pk", "namespace_id"))
    if any(amount < taken[owners[pk]] for pk, amount in debts.balances(owners).items()):
        text = "The balances do not cover what this refund takes back, because it was paid out: ask the site's staff."
        raise Conflict("balance_too_low", text)


def record(*, order_id: uuid.UUID, actor: User | None, reason: str, now: datetime) -> bool:
    """Takes over that an order's money went back: what it bought ends, the ledger is reversed. False where that was done
    before. Locks the order."""
    with transaction.atomic():
        row = Order.objects.locked(order_id)
        fields = {"refunded_by": actor, "refunded_at": now, "refund_reason": reason.strip()[:300]}
        if not Order.objects.transition(row.pk, to=OrderStatus.REFUNDED, **fields):
            return False
        orders.give_back(row.pk)
        bookkeeping.record_refund(order=row, actor=actor, now=now)
        details = {"order": str(row.pk), "reason": reason.strip()[:300]}
        audit.record("order.refund", actor=actor, namespace=row.buyer, subject=row.listing, details=details)
        if row.amount_minor:
            sale_notices.refunded(row, reason=reason.strip(), actor=actor)
            webhooks.of_order(EventType.ORDER_REFUNDED, row, now=now)
        returns.take_back(order=row, actor=actor, reason=f"Refunded: {reason.strip()}", now=now)
    return True
