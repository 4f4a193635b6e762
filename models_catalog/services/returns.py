"""What becomes of a license when the money for one of its terms goes back: it ends, or lasts as long as what was paid
for without that term."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.urls import reverse

from marketplace.accounts.models import User
from marketplace.accounts.services import audit
from marketplace.accounts.services.notifications import notify
from models_catalog.models import Grant, Order
from models_catalog.models.licensing import GrantQuerySet
from models_catalog.services import grants

NOTHING = timedelta(0)


def is_used_up(order: Order, *, now: datetime) -> bool:
    """Has the licensee had all that the order bought? A license without end is never used up."""
    bought = Grant.objects.select_related("terms", "order").filter(order=order).first()
    left = _left(bought, now=now) if bought else None
    return left is not None and left <= NOTHING


def take_back(*, order: Order, actor: User | None, reason: str, now: datetime) -> None:
    """Takes what the order had bought out of the license that it is part of now, renewed or passed on as that may
    be, inside the caller's transaction. Nothing where that has ended already."""
    rows = Grant.objects.select_for_update(of=("self",)).select_related("terms", "order", "licensee", "listing")
    bought = rows.filter(order=order).first()
    holding = _present(bought) if bought else None
    if bought is None or holding is None:
        return
    left = _left(bought, now=now)
    if left is None or holding.expires_at is None:
        if holding.order_id == bought.order_id or holding.expires_at is None:
            grants.end(grant=holding, actor=actor, reason=reason, now=now)
        return
    end = holding.expires_at - left
    if left <= NOTHING:
        return
    if end <= now:
        grants.end(grant=holding, actor=actor, reason=reason, now=now)
        return
    Grant.objects.filter(pk=holding.pk).update(expires_at=end, expiry_told_at=None)
    _tell(holding, end=end, actor=actor, reason=reason)


def _tell(holding: Grant, *, end: datetime, actor: User | None, reason: str) -> None:
    audit.record(
        "license.shorten",
        actor=actor,
        namespace=holding.licensee,
        subject=holding.listing,
        details={"grant": str(holding.pk), "expires_at": end.isoformat(), "reason": reason},
    )
    notify(
        kind="license.shorten",
        recipients=[holding.licensee],
        title=f"Your license of {holding.listing} ends earlier",
        body=f"{reason}\n\nIt ends on {end:%Y-%m-%d} now.",
        url=reverse("grant", args=[holding.pk]),
        actor=actor,
    )


def _present(grant: Grant) -> Grant | None:
    """Returns the grant that stands now where this one stood; None where it was revoked."""
    while grant.transferred_at or grant.superseded_at:
        after = _after(grant)
        if after is None:
            return None
        grant = after
    return None if grant.revoked_at else grant


def _after(grant: Grant) -> Grant | None:
    rows = Grant.objects.select_related("terms", "order", "licensee", "listing__namespace")
    if grant.transferred_at:
        return rows.filter(transferred_from=grant).first()
    # An order is settled at the very moment at which its grant takes another's place (grants.give).
    return _of_same_terms(grant).filter(order__settled_at=grant.superseded_at).exclude(pk=grant.pk).first()


def _of_same_terms(grant: Grant) -> GrantQuerySet:
    rows = Grant.objects.filter(licensee=grant.licensee_id, listing=grant.listing_id, terms=grant.terms_id)
    return rows.select_related("terms", "order", "licensee", "listing__namespace")


def _left(bought: Grant, *, now: datetime) -> timedelta | None:
    """Returns how much of the term that its order bought is still to come; None for one without end."""
    if bought.expires_at is None or bought.order is None:
        return None
    begun = bought.order.settled_at or bought.accepted_at
    before = _of_same_terms(bought).filter(superseded_at=begun, is_trial=False).exclude(pk=bought.pk).first()
    starts = [now, begun, *([end] if before and (end := _paid_until(before)) else [])]
    term = timedelta(days=bought.terms.value.term_days)
    if term:
        starts.append(bought.expires_at - term)  # what was renewed early begins where the term before it ends
    return max(NOTHING, bought.expires_at - max(starts))


def _paid_until(grant: Grant) -> datetime | None:
    """Returns the end of an earlier term, or when the money for it went back."""
    first = grant
    while first.order is None and first.transferred_from is not None:
        first = first.transferred_from
    refunded = first.order.refunded_at if first.order else None
    return min(filter(None, (grant.expires_at, refunded)), default=None)
