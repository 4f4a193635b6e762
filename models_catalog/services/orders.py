"""Orders: placed, settled into a grant, canceled."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict
from models_catalog import ancestry, policies
from models_catalog.models import Grant, Order, Release
from models_catalog.models.licensing import OrderStatus


def place(*, user: User, holder: Namespace, release: Release, provider: str, now: datetime) -> Order:
    order, created = Order.objects.get_or_create(
        buyer=holder,
        listing=release.listing,
        terms=release.terms,
        status=OrderStatus.PENDING,
        defaults={
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
    return order


def settle_order(*, order: Order, actor: User, now: datetime) -> Grant:
    """Marks the order as paid and grants the licence; settling twice returns the same grant.

    Raises Denied (`not_billing`), Conflict (`order_canceled`, `already_licensed`; `grant_ended` where the order
    was paid and its licence is over)."""
    require(policies.may_bill(actor, order.listing))
    with transaction.atomic():
        row = Order.objects.select_for_update(of=("self",)).get(pk=order.pk)
        if row.status == OrderStatus.CANCELED:
            raise Conflict("order_canceled", "This order was canceled; a new one is needed.")
        if row.status == OrderStatus.PENDING:
            return settle(order=row, actor=actor, now=now)
        grant = Grant.objects.active(now).filter(order=row).first()
        if grant is None:
            raise Conflict("grant_ended", "The license of this order has ended; a new order is needed.")
        return grant


def settle(*, order: Order, actor: User, now: datetime) -> Grant:
    """Pays the locked order and grants what it is for; an expired grant makes room for the new one."""
    same = Grant.objects.filter(
        licensee=order.buyer_id,
        listing=order.listing_id,
        terms=order.terms_id,
        revoked_at__isnull=True,
        superseded_at__isnull=True,
    )
    if same.active(now).exists():
        raise Conflict("already_licensed", "The buyer holds this license already. Cancel the order.")
    same.update(superseded_at=now)
    Order.objects.filter(pk=order.pk, status=OrderStatus.PENDING).update(
        status=OrderStatus.PAID, settled_by=actor, settled_at=now
    )
    audit.record("order.settle", actor=actor, namespace=order.buyer, subject=order.listing)
    term = timedelta(days=order.terms.value.term_days)
    ends = (now + term if term else None, ancestry.last_end(order))
    grant = Grant.objects.create(
        licensee=order.buyer,
        listing=order.listing,
        terms=order.terms,
        accepted_by=order.placed_by,
        accepted_at=order.placed_at,
        accepted_text_sha256=order.terms.value.text_sha256,
        order=order,
        expires_at=min(filter(None, ends), default=None),
    )
    details = {"grant": str(grant.pk), "terms_hash": order.terms.terms_hash}
    audit.record("license.grant", actor=order.placed_by, namespace=order.buyer, subject=order.listing, details=details)
    return grant


def cancel_order(*, order: Order, actor: User, now: datetime) -> None:
    """Withdraws an unpaid order. Raises Denied (`not_yours`), Conflict (`already_settled`)."""
    if not Namespace.objects.writable_by(actor).filter(pk=order.buyer_id).exists():
        require(policies.may_bill(actor, order.listing))
    with transaction.atomic():
        if not Order.objects.filter(pk=order.pk, status=OrderStatus.PENDING).update(
            status=OrderStatus.CANCELED, settled_by=actor, settled_at=now
        ):
            raise Conflict("already_settled", "This order is settled already.")
        audit.record("order.cancel", actor=actor, namespace=order.buyer, subject=order.listing)
