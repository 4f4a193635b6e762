"""What webhooks tell of the catalog: whom each event concerns, and the ids and addresses in its data.

Call these inside the transaction of the act. docs/api.md ("Webhooks") lists the fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from marketplace.accounts.models import Namespace
from marketplace.accounts.services.people import namespace_of
from marketplace.webhooks.events import EventType
from marketplace.webhooks.services.outbox import address, listening, record
from models_catalog.models import (
    AccessRequest,
    Grant,
    Incident,
    Listing,
    Order,
    PayoutBatch,
    Question,
    Release,
    Review,
    Takedown,
)
from models_catalog.models.moderation import kind_of, subject_of


def of_release(event: EventType, release: Release, *, now: datetime, **more: str) -> None:
    """For its vendor."""
    record(event, recipients=[release.listing.namespace], data={"release": _release(release), **more}, now=now)


def of_incident(event: EventType, incident: Incident, *, recipients: Iterable[Namespace], now: datetime) -> None:
    """For those who offer or license the release."""
    data = {"release": _release(incident.release), "incident": _incident(incident)}
    record(event, recipients=recipients, data=data, now=now)


def of_ancestor(event: EventType, incident: Incident, *, recipients: Iterable[Namespace], now: datetime) -> None:
    """For those of what was made from the release, which may be private to them: it is not named."""
    record(event, recipients=recipients, data={"incident": _incident(incident)}, now=now)


def of_request(event: EventType, request: AccessRequest, *, status: str, now: datetime) -> None:
    """For both sides."""
    what = {
        "id": str(request.pk),
        "url": address("api_access_request", request.pk),
        "listing": str(request.listing),
        "requester": request.requester.name,
        "status": status,
    }
    both = [request.requester, request.listing.namespace]
    record(event, recipients=both, data={"access_request": what}, now=now)


def of_order(event: EventType, order: Order, *, now: datetime) -> None:
    """For both sides."""
    what = {
        "id": str(order.pk),
        "url": address("api_order", order.pk),
        "listing": str(order.listing),
        "buyer": order.buyer.name,
    }
    record(event, recipients=[order.buyer, order.listing.namespace], data={"order": what}, now=now)


def of_grant(event: EventType, grant: Grant, *, now: datetime, **more: str) -> None:
    """For both sides."""
    what = {
        "id": str(grant.pk),
        "url": address("api_grant", grant.pk),
        "listing": str(grant.listing),
        "licensee": grant.licensee.name,
    }
    both = [grant.licensee, grant.listing.namespace]
    record(event, recipients=both, data={"grant": what, **more}, now=now)


def of_review(review: Review, *, now: datetime) -> None:
    """For the vendor."""
    vendor = review.listing.namespace
    what = {
        "id": review.pk,
        "url": address("api_reviews", *_path(review.listing)),
        "listing": str(review.listing),
        "author": review.author.name,
    }
    record(EventType.REVIEW_WRITTEN, recipients=[vendor], data={"review": what}, now=now)


def of_question(event: EventType, question: Question, *, now: datetime) -> None:
    """For the vendor where it is asked, for who asked it where it is answered."""
    asked = event == EventType.QUESTION_ASKED
    what = {
        "id": question.pk,
        "url": address("api_questions", *_path(question.listing)),
        "listing": str(question.listing),
        "asked_by": question.asked_by.username,
    }
    recipient = question.listing.namespace if asked else namespace_of(question.asked_by)
    record(event, recipients=[recipient], data={"question": what}, now=now)


def of_takedown(event: EventType, takedown: Takedown, *, status: str, now: datetime) -> None:
    """For the owner of what was taken down, or brought back."""
    what = {
        "id": str(takedown.uid),
        "url": address("api_takedowns"),
        "kind": kind_of(subject_of(takedown)),
        "owner": takedown.owner.name,
        "status": status,
    }
    record(event, recipients=[takedown.owner], data={"takedown": what}, now=now)


def of_payouts(event: EventType, batch: PayoutBatch, *, now: datetime) -> None:
    """For each of those who are paid, and listen: a batch has a payout for every vendor of the site."""
    for payout in batch.payouts.filter(namespace__in=listening()).select_related("namespace"):
        what = {
            "batch": str(payout.batch_id),
            "url": address("api_payout", payout.batch_id),
            "namespace": payout.namespace.name,
        }
        record(event, recipients=[payout.namespace], data={"payout": what}, now=now)


def _path(listing: Listing) -> tuple[str, str]:
    return listing.namespace.name, listing.name


def _release(release: Release) -> dict[str, Any]:
    return {
        "listing": str(release.listing),
        "version": release.version,
        "url": address("api_release", *_path(release.listing), release.version),
    }


def _incident(incident: Incident) -> dict[str, Any]:
    return {"id": incident.pk, "url": address("api_incident", incident.pk), "kind": incident.kind}
