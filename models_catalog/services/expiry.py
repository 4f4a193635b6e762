"""Licenses whose end is near, or has come: their holders are told once of each. For the reaper's round."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.urls import reverse

from marketplace.accounts.services.notifications import notify
from marketplace.webhooks.events import EventType
from models_catalog.models import Grant
from models_catalog.models.licensing import EXPIRING_SOON
from models_catalog.services import webhooks

BATCH = 100
NEWS = timedelta(days=7)  # what ended longer ago is no news: nobody was told of it before this was kept


def tell_expiring(*, now: datetime) -> int:
    """Tells the holders of grants that end soon, once for each grant; returns how many grants that were."""
    soon = Grant.objects.active(now).filter(expires_at__lte=now + EXPIRING_SOON, expiry_told_at__isnull=True)
    told = 0
    for grant in soon.select_related("licensee", "listing__namespace").order_by("expires_at")[:BATCH]:
        with transaction.atomic():
            if not Grant.objects.filter(pk=grant.pk, expiry_told_at__isnull=True).update(expiry_told_at=now):
                continue
            notify(
                kind="license.expiring",
                recipients=[grant.licensee],
                title=f"Your {'trial' if grant.is_trial else 'license'} of {grant.listing} ends soon",
                body=f"It ends on {grant.expires_at:%Y-%m-%d}.",
                url=reverse("grant", args=[grant.pk]),
            )
            webhooks.of_grant(EventType.GRANT_EXPIRING, grant, now=now)
        told += 1
    return told


def tell_expired(*, now: datetime) -> int:
    """Tells the programs of both sides of grants whose term is over, once for each; returns how many those were."""
    over = Grant.objects.current().filter(expires_at__lte=now, expires_at__gt=now - NEWS, end_told_at__isnull=True)
    told = 0
    for grant in over.select_related("licensee", "listing__namespace").order_by("expires_at")[:BATCH]:
        with transaction.atomic():
            if Grant.objects.filter(pk=grant.pk, end_told_at__isnull=True).update(end_told_at=now):
                webhooks.of_grant(EventType.GRANT_EXPIRED, grant, now=now)
                told += 1
    return told
