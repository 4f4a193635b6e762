"""Quarantine: the site's staff stop a release from being served at all, and lift that again."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import F

from marketplace.accounts.models import User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from models_catalog import policies
from models_catalog.models import Release
from models_catalog.models.incidents import IncidentKind
from models_catalog.models.listings import ReleaseStatus
from models_catalog.services import incidents, publishing


def quarantine(*, user: User, release: Release, reason: str, now: datetime) -> None:
    """Stops the release from being served, licensed and trained, whoever holds a license; what was made from it
    is flagged, and those who are concerned are told. Locks the listing and the release.

    Raises Invalid (`reason_missing`), Denied (`staff_only`, `not_published`), Conflict (`not_published`)."""
    require(policies.may_quarantine(user, release))
    if not reason.strip():
        raise Invalid("reason_missing", "Say why, so that those who use it know what to do.", field="reason")
    text = reason.strip()[:300]
    with transaction.atomic():
        row = Release.objects.locked(release.pk)
        fields = {"quarantined_from": F("status"), "quarantine_reason": text}
        if not Release.objects.transition(row.pk, to=ReleaseStatus.QUARANTINED, **fields):
            raise Conflict("not_published", "This release was quarantined or changed meanwhile.")
        publishing.offer_newest(row.listing, now=now)
        details = {"reason": text, "from": row.status}
        audit.record("release.quarantine", actor=user, namespace=row.listing.namespace, subject=row, details=details)
        incidents.begin(release=row, kind=IncidentKind.QUARANTINED, reason=text, actor=user, now=now)


def lift(*, user: User, release: Release, now: datetime) -> None:
    """Gives a quarantined release back the state that it had. Locks the listing and the release.

    Raises Denied (`staff_only`, `not_quarantined`), Conflict (`not_quarantined`)."""
    require(policies.may_lift(user, release))
    with transaction.atomic():
        row = Release.objects.locked(release.pk)
        if not Release.objects.lift(row.pk):
            raise Conflict("not_quarantined", "This release is not quarantined any more.")
        publishing.offer_newest(row.listing, now=now)
        details = {"to": row.quarantined_from}
        audit.record("release.lift", actor=user, namespace=row.listing.namespace, subject=row, details=details)
        incidents.resolve(release=row, kind=IncidentKind.QUARANTINED, actor=user, now=now)
