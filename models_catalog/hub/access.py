"""Access requests over the Hub's protocol: asked by who wants a license, listed and decided by the vendor. An acceptance
is an approval: the license itself begins when its licensee accepts the terms, here or there."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone
from rest_framework.request import Request

from marketplace.accounts.models import Namespace
from marketplace.accounts.services import people
from marketplace.errors import Conflict
from models_catalog.hub.base import ErrorCode, HubError, answer
from models_catalog.hub.repositories import listing_of
from models_catalog.hub.trees import date
from models_catalog.hub.writing import HubWrite, sent_text, writer, written
from models_catalog.models import AccessRequest, Grant, Listing, Release
from models_catalog.models.licensing import RequestStatus
from models_catalog.services import access

MAX_SHOWN = 1000  # of each list; older ones are on the vendor's desk
_STATUSES = {
    "pending": RequestStatus.PENDING,
    "accepted": RequestStatus.APPROVED,
    "rejected": RequestStatus.REJECTED,
}
_NAMES = {status.value: name for name, status in _STATUSES.items()}
_STANDS = (
    "A decision is not taken back here: who was rejected asks again, and a license that was accepted ends as its terms "
    "say. See your desk."
)


class AccessView(HubWrite):
    read_scope, write_scope = "licenses:read", "licenses:write"


class Requests(AccessView):
    """Those who wait, who were rejected, and who were accepted: they hold a license, or may have one."""

    def get(self, request: Request, namespace: str, name: str, status: str) -> HttpResponse:
        listing = written(request, namespace, name)
        holders = _holders(listing, now=timezone.now()) if status == "accepted" else {}
        rows = listing.access_requests.filter(status=_STATUSES[status]).exclude(requester__in=holders)
        asked = rows.select_related("requester__organization").order_by("-created_at")[:MAX_SHOWN]
        found = [_row(grant.pk, status, grant.licensee, grant.accepted_at) for grant in holders.values()]
        found += [_row(row.pk, status, row.requester, row.created_at, reason=row.reason) for row in asked]
        return answer(found)


def _holders(listing: Listing, *, now: datetime) -> dict[int, Grant]:
    """Returns an active license of each licensee, the newest, by the licensee's key."""
    grants = Grant.objects.active(now).filter(listing=listing).select_related("licensee__organization")
    newest = list(grants.order_by("-accepted_at")[:MAX_SHOWN])
    return {grant.licensee_id: grant for grant in reversed(newest)}


def _row(pk: uuid.UUID, status: str, who: Namespace, at: datetime, *, reason: str = "") -> dict[str, Any]:
    row = {
        "requestId": str(pk),
        "status": status,
        "timestamp": date(at),
        "user": {"user": who.name, "fullname": who.title},
    }
    return {**row, "fields": {"reason": reason}} if reason else row


class Decision(AccessView):
    def post(self, request: Request, namespace: str, name: str) -> HttpResponse:
        listing, status = written(request, namespace, name), sent_text(request, "status")
        if status not in _STATUSES:
            raise HubError(400, ErrorCode.NONE, f"`status` is one of {', '.join(_STATUSES)}.")
        asked = _asked(request, listing)
        if asked.status == _STATUSES[status]:
            raise HubError(404, ErrorCode.NONE, f"This request is {status} already.")
        if status == "pending":
            raise HubError(501, ErrorCode.NONE, _STANDS)
        decided = access.decide_request(
            request_id=asked.pk,
            actor=writer(request),
            approve=status == "accepted",
            answer=sent_text(request, "rejectionReason"),
            now=timezone.now(),
        )
        return answer({"requestId": str(decided.pk), "status": status})


def _asked(request: Request, listing: Listing) -> AccessRequest:
    """Returns the request that is meant: by its number, or somebody's that waits, else their newest. Raises HubError
    (404)."""
    rows = listing.access_requests.filter(status__in=_NAMES).order_by("-created_at")
    if user := sent_text(request, "user"):
        theirs = list(rows.filter(requester=_licensee(user)))
        found = next((row for row in theirs if row.status == RequestStatus.PENDING), next(iter(theirs), None))
    else:
        number = _number(sent_text(request, "requestId"))
        found = rows.filter(pk=number).first() if number else None
    if found is None:
        raise HubError(404, ErrorCode.NONE, "There is no such access request.")
    return found


def _number(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _licensee(name: str) -> Namespace:
    found = Namespace.objects.filter(name__iexact=name).first()
    if found is None:
        raise HubError(404, ErrorCode.NONE, "There is no such user.")
    return found


class Approval(AccessView):
    """What the clients call to grant access: nobody is made to accept terms, but they need not ask."""

    def post(self, request: Request, namespace: str, name: str) -> HttpResponse:
        listing = written(request, namespace, name)
        release, licensee = _offered(listing), _licensee(sent_text(request, "user"))
        page = request.build_absolute_uri(reverse("checkout", args=(listing.namespace.name, listing.name)))
        try:
            access.approve_in_advance(release=release, licensee=licensee, actor=writer(request), now=timezone.now())
        except Conflict as error:
            text = f"{licensee} needs no approval: they accept the terms at {page}"
            raise HubError(400, ErrorCode.NONE, text) from error
        return answer({"status": "accepted", "message": f"{licensee} may accept the terms now, at {page}"})


def _offered(listing: Listing) -> Release:
    if listing.latest_release is None:
        raise HubError(400, ErrorCode.NONE, "No version of this model is published: there are no terms to accept yet.")
    return listing.latest_release


class Ask(AccessView):
    """The form behind a gated model: asks with a reason, and tells how the user's last request stands."""

    def get(self, request: Request, namespace: str, name: str) -> HttpResponse:
        release = _offered(listing_of(request, namespace, name))
        last = access.latest(people.namespace_of(writer(request)), release)
        return answer({"status": _NAMES[last.status], "answer": last.answer} if last else {"status": None})

    def post(self, request: Request, namespace: str, name: str) -> HttpResponse:
        release = _offered(listing_of(request, namespace, name))
        reason = sent_text(request, "reason")
        asked = access.request_access(user=writer(request), release=release, reason=reason, now=timezone.now())
        return answer({"requestId": str(asked.pk), "status": _NAMES[asked.status]})
