"""Giving money back: the whole of an order, with a reason; what it had granted ends, what it had shared returns."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import transaction

from marketplace.accounts.models import User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from models_catalog import policies
from models_catalog.models import Order
from models_catalog.models.orders import OrderStatus
from models_catalog.services import bookkeeping, payments, returns, sale_notices


def refund_order(*, order: Order, actor: User, reason: str, now: datetime, amount_minor: int | None = None) -> Order:
    """Refunds a paid order; refunding twice changes nothing. Money that a payment provider took is sent back through
    it first. Raises Denied (`not_billing`), Invalid (`reason_missing`, `partial_refund`), Conflict (`not_paid`,
    `nothing_paid`; `term_over` where a vendor would take royalties back for a license that was used to its end), Unavailable (`payment_unavailable`)."""
    require(policies.may_bill(actor, order.listing))
    if not reason.strip():
        raise Invalid("reason_missing", "Say why the money goes back: the buyer reads it.", field="reason")
    if amount_minor is not None and amount_minor != order.amount_minor:
        raise Invalid(
            "partial_refund", "Only the whole amount is refunded, because the license ends.", field="amount_minor"
        )
    if order.status == OrderStatus.REFUNDED:
        return order
    if order.status != OrderStatus.PAID:
        raise Conflict("not_paid", "This order is not paid, so nothing can go back. Cancel it.")
    if not order.amount_minor:
        raise Conflict("nothing_paid", "Nothing was paid for this order, so nothing can go back.")
    if returns.is_used_up(order, now=now) and not actor.is_staff:
        raise Conflict(
            "term_over", "The term that this order bought is over, and its royalties stay: ask the site's staff."
        )
    payments.provider_named(order.provider).refund(order)
    record(order_id=order.pk, actor=actor, reason=reason, now=now)
    order.refresh_from_db()
    return order


def record(*, order_id: uuid.UUID, actor: User | None, reason: str, now: datetime) -> bool:
    """Takes over that an order's money went back: what it bought ends, the ledger is reversed. False where that was done
    before. Locks the order."""
    with transaction.atomic():
        row = Order.objects.locked(order_id)
        fields = {"refunded_by": actor, "refunded_at": now, "refund_reason": reason.strip()[:300]}
        if not Order.objects.transition(row.pk, to=OrderStatus.REFUNDED, **fields):
            return False
        bookkeeping.record_refund(order=row, actor=actor, now=now)
        details = {"order": str(row.pk), "reason": reason.strip()[:300]}
        audit.record("order.refund", actor=actor, namespace=row.buyer, subject=row.listing, details=details)
        if row.amount_minor:
            sale_notices.refunded(row, reason=reason.strip(), actor=actor)
        returns.take_back(order=row, actor=actor, reason=f"Refunded: {reason.strip()}", now=now)
    return True
