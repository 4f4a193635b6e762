"""Access that a vendor approves: asked for, and decided with a reason."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.db import transaction
from django.urls import reverse

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit, people
from marketplace.accounts.services.notifications import notify
from marketplace.decisions import ALLOW, require
from marketplace.errors import Conflict, Invalid
from marketplace.webhooks.events import EventType
from models_catalog import policies
from models_catalog.models import AccessRequest, Release
from models_catalog.models.licensing import RequestStatus
from models_catalog.services import webhooks

# How long a rejection lasts where the vendor does not say otherwise; 0 lets one ask again at once.
ASK_AGAIN_DAYS = 14
MAX_ASK_AGAIN_DAYS = 365
MAX_ANSWER = 500
_UNASKED = "Approved by the vendor before it was asked for."


def request_access(
    *, user: User, release: Release, reason: str, now: datetime, licensee: Namespace | None = None
) -> AccessRequest:
    """Asks the vendor to license the licensee, by default the user; asking again while one is pending returns
    that one. Raises Invalid (`reason_missing`), Conflict (`no_approval_needed`, `asked_recently`) and Denied with
    what `may_license` says other than the approval itself."""
    holder = licensee or people.namespace_of(user)
    decision = policies.may_license(user, release, now=now, holder=holder)
    if decision.allowed:
        raise Conflict("no_approval_needed", "No approval is needed: accept the terms.")
    require(decision if decision.code != "approval_needed" else ALLOW)
    require(policies.may_ask(latest(holder, release), now=now))
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
            notify(
                kind="access.request",
                recipients=[release.listing.namespace],
                title=f"{holder} asks for access to {release.listing}",
                body=request.reason,
                url=reverse("access_request", args=[request.pk]),
                actor=user,
            )
            webhooks.of_request(EventType.ACCESS_REQUESTED, request, status=RequestStatus.PENDING.value, now=now)
    return request


def latest(holder: Namespace, release: Release) -> AccessRequest | None:
    """Returns the holder's newest request for the release's terms that was not withdrawn."""
    rows = AccessRequest.objects.filter(requester=holder, listing=release.listing_id, terms=release.terms_id)
    return rows.exclude(status=RequestStatus.CANCELED).order_by("-created_at").first()


def decide_request(
    *,
    request_id: uuid.UUID,
    actor: User,
    approve: bool,
    answer: str,
    now: datetime,
    ask_again_days: int = ASK_AGAIN_DAYS,
) -> AccessRequest:
    """Approves or rejects; a rejection needs a reason, and says after how many days one may ask again (0: at
    once). Raises Invalid (`reason_missing`, `bad_days`), Conflict (`already_decided`), Denied
    (`not_the_vendor`)."""
    request = AccessRequest.objects.select_related("listing__namespace", "requester").get(pk=request_id)
    require(policies.may_manage(actor, request.listing))
    if not approve and not answer.strip():
        raise Invalid("reason_missing", "Tell the requester why, so that they know what to change.", field="answer")
    if not 0 <= ask_again_days <= MAX_ASK_AGAIN_DAYS:
        text = f"Let them ask again after 0 to {MAX_ASK_AGAIN_DAYS} days."
        raise Invalid("bad_days", text, field="ask_again_days")
    decided = RequestStatus.APPROVED if approve else RequestStatus.REJECTED
    with transaction.atomic():
        if not AccessRequest.objects.filter(pk=request_id, status=RequestStatus.PENDING).update(
            status=decided,
            answer=answer.strip()[:MAX_ANSWER],
            decided_at=now,
            decided_by=actor,
            ask_again_at=None if approve else now + timedelta(days=ask_again_days),
        ):
            raise Conflict("already_decided", "This request was decided or withdrawn already.")
        _tell(request, decided, actor=actor, answer=answer, now=now)
    request.refresh_from_db()
    return request


def _tell(request: AccessRequest, decided: RequestStatus, *, actor: User, answer: str, now: datetime) -> None:
    is_approved = decided == RequestStatus.APPROVED
    action = "access.approve" if is_approved else "access.reject"
    audit.record(action, actor=actor, namespace=request.listing.namespace, subject=request.requester)
    notify(
        kind=action,
        recipients=[request.requester],
        title=f"Access to {request.listing} is {'approved' if is_approved else 'refused'}",
        body=answer.strip()[:MAX_ANSWER],
        url=reverse("access_request", args=[request.pk]),
        actor=actor,
    )
    webhooks.of_request(EventType.ACCESS_DECIDED, request, status=decided.value, now=now)


def approve_in_advance(*, release: Release, licensee: Namespace, actor: User, now: datetime) -> AccessRequest:
    """Approves a licensee who has not asked yet, or whose request waits: they accept the terms whenever they like.

    Raises Denied (`not_the_vendor`), Conflict (`no_approval_needed`, also where it was given)."""
    require(policies.may_manage(actor, release.listing))
    holders = Namespace.objects.filter(pk=licensee.pk)
    if policies.is_welcome(release.listing_id, release.terms, holders).allowed:
        raise Conflict("no_approval_needed", "No approval is needed: accept the terms.")
    named = {"requester": licensee, "listing": release.listing, "terms": release.terms}
    with transaction.atomic():
        request, created = AccessRequest.objects.get_or_create(
            **named, status=RequestStatus.PENDING, defaults={"requested_by": actor, "reason": _UNASKED}
        )
        if created:
            audit.record("access.request", actor=actor, namespace=licensee, subject=release.listing)
        return decide_request(request_id=request.pk, actor=actor, approve=True, answer="", now=now)


def cancel_request(*, request: AccessRequest, actor: User, now: datetime) -> None:
    """Withdraws what waits. Raises Denied (`not_a_member`), Conflict (`already_decided`)."""
    require(policies.may_accept_for(actor, request.requester))
    with transaction.atomic():
        if not AccessRequest.objects.filter(pk=request.pk, status=RequestStatus.PENDING).update(
            status=RequestStatus.CANCELED, decided_at=now, decided_by=actor
        ):
            raise Conflict("already_decided", "This request was decided or withdrawn already.")
        audit.record("access.cancel", actor=actor, namespace=request.requester, subject=request.listing)
