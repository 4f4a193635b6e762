"""Access that a vendor approves: asked for, and decided with a reason."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.db import transaction

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit, people
from marketplace.decisions import ALLOW, require
from marketplace.errors import Conflict, Invalid
from models_catalog import policies
from models_catalog.models import AccessRequest, Release
from models_catalog.models.licensing import RequestStatus


def request_access(
    *, user: User, release: Release, reason: str, now: datetime, licensee: Namespace | None = None
) -> AccessRequest:
    """Asks the vendor to license the licensee, by default the user; asking again while one is pending returns
    that one. Raises Invalid (`reason_missing`), Conflict (`no_approval_needed`) and Denied with what
    `may_license` says other than the approval itself."""
    holder = licensee or people.namespace_of(user)
    decision = policies.may_license(user, release, now=now, holder=holder)
    if decision.allowed:
        raise Conflict("no_approval_needed", "No approval is needed: accept the terms.")
    require(decision if decision.code != "approval_needed" else ALLOW)
    if not reason.strip():
        raise Invalid(
            "reason_missing", "Say what you want the model for, so that the vendor can decide.", field="reason"
        )
    with transaction.atomic():
        request, created = AccessRequest.objects.get_or_create(
            requester=holder,
            listing=release.listing,
            terms=release.terms,
            status=RequestStatus.PENDING,
            defaults={"requested_by": user, "reason": reason.strip()[:2000]},
        )
        if created:
            audit.record("access.request", actor=user, namespace=holder, subject=release.listing)
    return request


def decide_request(*, request_id: uuid.UUID, actor: User, approve: bool, answer: str, now: datetime) -> AccessRequest:
    """Approves or rejects; a rejection needs a reason. Raises Invalid (`reason_missing`), Conflict
    (`already_decided`), Denied (`not_the_vendor`)."""
    request = AccessRequest.objects.select_related("listing__namespace", "requester").get(pk=request_id)
    require(policies.may_manage(actor, request.listing))
    if not approve and not answer.strip():
        raise Invalid("reason_missing", "Tell the requester why, so that they know what to change.", field="answer")
    with transaction.atomic():
        if not AccessRequest.objects.filter(pk=request_id, status=RequestStatus.PENDING).update(
            status=RequestStatus.APPROVED if approve else RequestStatus.REJECTED,
            answer=answer.strip()[:500],
            decided_at=now,
        ):
            raise Conflict("already_decided", "This request was decided already.")
        audit.record(
            "access.approve" if approve else "access.reject",
            actor=actor,
            namespace=request.listing.namespace,
            subject=request.requester,
        )
    request.refresh_from_db()
    return request
