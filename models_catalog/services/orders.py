"""Orders: placed, settled into a grant, canceled. Refunds are refunds.py's."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import transaction

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit, spending
from marketplace.decisions import require
from marketplace.errors import Conflict
from marketplace.webhooks.events import EventType
from models_catalog import policies
from models_catalog.models import Grant, Order, Release
from models_catalog.models.orders import OrderStatus, Receiver
from models_catalog.payment_outcomes import PAYS, UNMATCHED
from models_catalog.services import bookkeeping, grants, payments, sale_notices, webhooks


def place(*, user: User, holder: Namespace, release: Release, provider: str, now: datetime) -> Order:
    """Returns the open order of these terms, or places it: asking twice makes one. Needs a transaction. Raises Denied as
    `spending.spend` does for a token with a cap."""
    order, created = Order.objects.get_or_create(
        buyer=holder,
        listing=release.listing,
        terms=release.terms,
        status=OrderStatus.PENDING,
        defaults={
            "release": release,
            "placed_by": user,
            "placed_at": now,
            "amount_minor": release.terms.price_minor,
            "currency": release.terms.currency,
            "provider": provider,
        },
    )
    if created:
        details = {"order": str(order.pk)}
        audit.record("order.place", actor=user, namespace=holder, subject=release.listing, details=details)
        if order.amount_minor and provider == payments.MANUAL.name:
            sale_notices.placed(order, actor=user)
        if order.amount_minor:  # a free one is settled at once: its grant is the event
            spending.spend(
                user=user,
                subject=_spent(order.pk),
                amount_minor=order.amount_minor,
                currency=order.currency,
                now=now,
            )
            webhooks.of_order(EventType.ORDER_PLACED, order, now=now)
    return order


def give_back(order_id: uuid.UUID) -> None:
    """Counts the order no more against the cap of the token that placed it."""
    spending.settle(subject=_spent(order_id), amount_minor=0)


def _spent(order_id: uuid.UUID) -> str:
    return f"order {order_id}"


def settle_order(*, order: Order, actor: User, now: datetime, received_by: str = "") -> Grant:
    """Marks the order as paid and grants the licence; settling twice returns the same grant. `received_by` says
    whom the buyer paid, `vendor` or `site`; by default the vendor where it is they who say so. What is paid online
    the provider settles, but for what it took and could not (`is_stranded`).

    Raises Denied (`not_billing`, `quarantined`; `not_staff` where somebody else says that this site was paid), Conflict
    (`paid_online`, `order_canceled`, `order_refunded`, `already_licensed`; `grant_ended` where the order was paid
    and its licence is over)."""
    require(policies.may_bill(actor, order.listing))
    receiver = received_by or policies.receiver_for(actor, order.listing)
    require(policies.may_receive(actor, receiver))
    with transaction.atomic():
        row = Order.objects.locked(order.pk)
        if row.status == OrderStatus.PAID:
            return _granted(row, now=now)
        if row.status == OrderStatus.REFUNDED:
            raise Conflict("order_refunded", "This order was refunded; a new one is needed.")
        is_here = receiver == Receiver.SITE and is_stranded(row)
        if row.status == OrderStatus.CANCELED and not is_here:
            raise Conflict("order_canceled", "This order was canceled; a new one is needed.")
        if row.provider == payments.STRIPE.name and not is_here:
            raise Conflict("paid_online", "This order is paid online. To be paid by invoice, it is canceled first.")
        return settle(order=row, actor=actor, received_by=receiver, now=now)


def is_stranded(order: Order) -> bool:
    """Was the order paid at a provider, and could not follow? The staff settle or refund it, unless they have dealt
    with that otherwise."""
    if order.status not in (OrderStatus.PENDING, OrderStatus.CANCELED):
        return False
    return order.payment_events.filter(outcome__in=UNMATCHED, kind__in=PAYS, attended_at=None).exists()


def open_payment(order: Order) -> None:
    """Makes what the buyer pays at, where it is missing. Raises Denied (`quarantined`)."""
    if order.release is not None:
        require(policies.may_be_paid(order.release))
    payments.provider_named(order.provider).open(order)


def _granted(order: Order, *, now: datetime) -> Grant:
    grant = Grant.objects.active(now).filter(order=order).first()
    if grant is None:
        raise Conflict("grant_ended", "The license of this order has ended; a new order is needed.")
    return grant


def settle(*, order: Order, actor: User | None, received_by: str, now: datetime, payment_reference: str = "") -> Grant:
    """Pays the locked order, keeps its books, and grants what it is for. Raises Conflict (`already_licensed`), Denied
    (`quarantined`), and where a provider says that it is paid (no actor) Denied (`approval_needed`): the vendor ended a license of the
    buyer's for a breach since. Who marks the order as paid by hand says that it is to be granted."""
    if order.release_id is not None:
        # Locked, so that a quarantine comes before or after, and in that order.
        require(policies.may_be_paid(Release.objects.select_for_update(of=("self",)).get(pk=order.release_id)))
    if actor is None:
        buyer = Namespace.objects.filter(pk=order.buyer_id)
        require(policies.is_welcome(order.listing_id, order.terms, buyer))
    grant = grants.give(order=order, now=now)
    fields = {"settled_by": actor, "settled_at": now, "received_by": received_by}
    if payment_reference:
        fields["payment_reference"] = payment_reference
    if not Order.objects.transition(order.pk, to=OrderStatus.PAID, **fields):
        raise Conflict("already_settled", "This order is settled already.")
    bookkeeping.record_sale(order=order, received_by=received_by, actor=actor, now=now)
    audit.record("order.settle", actor=actor, namespace=order.buyer, subject=order.listing, details=_told(order))
    if order.amount_minor:
        webhooks.of_order(EventType.ORDER_PAID, order, now=now)
    return grant


def _told(order: Order) -> dict[str, str | int]:
    return {"order": str(order.pk), "amount_minor": order.amount_minor, "currency": order.currency}


def cancel_order(*, order: Order, actor: User, now: datetime) -> None:
    """Withdraws an unpaid order; a payment page that is open for it is closed first. Raises Denied
    (`not_billing`), Conflict (`already_settled`, `payment_under_way`), Unavailable (`payment_unavailable`)."""
    if not Namespace.objects.writable_by(actor).filter(pk=order.buyer_id).exists():
        require(policies.may_bill(actor, order.listing))
    if order.status == OrderStatus.PENDING:
        payments.provider_named(order.provider).close(order)
    cancel(order_id=order.pk, actor=actor, now=now)


def cancel(*, order_id: uuid.UUID, actor: User | None, now: datetime, why: str = "") -> None:
    """Cancels the pending order, by somebody or by what a payment provider tells. Raises Conflict
    (`already_settled`)."""
    with transaction.atomic():
        row = Order.objects.locked(order_id)
        if not Order.objects.transition(order_id, to=OrderStatus.CANCELED, settled_by=actor, settled_at=now):
            raise Conflict("already_settled", "This order is settled already.")
        give_back(order_id)
        details = {**_told(row), "why": why} if why else _told(row)
        audit.record("order.cancel", actor=actor, namespace=row.buyer, subject=row.listing, details=details)
        webhooks.of_order(EventType.ORDER_CANCELED, row, now=now)
