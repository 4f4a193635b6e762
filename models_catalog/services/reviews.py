"""Reviews: written by licensees, kept in every version, answered by the vendor, counted on the listing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Sum
from django.urls import reverse

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.accounts.services.notifications import notify
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from models_catalog import policies
from models_catalog.models import CitedEvaluation, Grant, Listing, Release, Review, ReviewVersion
from models_catalog.models.reviews import HIGHEST, LOWEST
from models_catalog.services import webhooks

MAX_TEXT = 4000  # characters


@dataclass(frozen=True, slots=True)
class Evidence:
    """The public parts of a run's evaluation; shares are 0 to 1."""

    run_uid: UUID
    release: Release
    owner: Namespace
    task: str
    strategy: str
    metric: str
    value: float
    low: float
    high: float
    baseline: float | None
    items: int
    dataset_sha256: str
    receipt_sha256: str
    measured_at: datetime


def write(
    *,
    user: User,
    listing: Listing,
    author: Namespace,
    rating: int,
    text: str,
    now: datetime,
    evidence: Evidence | None = None,
) -> Review:
    """Writes or edits the author's one review of the listing; what it said before is kept. Locks the listing.

    Raises Invalid (`bad_rating`, `empty_text`, `wrong_evidence`), Denied with what `may_review` says, Conflict
    (`taken_down`)."""
    require(policies.may_review(user, listing, author=author))
    if not LOWEST <= rating <= HIGHEST:
        raise Invalid("bad_rating", f"A rating is a whole number from {LOWEST} to {HIGHEST}.", field="rating")
    words = required_text(text, most=MAX_TEXT)
    if evidence and (evidence.release.listing_id != listing.pk or evidence.owner.pk != author.pk):
        raise Invalid("wrong_evidence", f"Cite a run of {author} that began from this model.", field="run")
    with transaction.atomic():
        Listing.objects.select_for_update(of=("self",), no_key=True).get(pk=listing.pk)
        evaluation = _cited(evidence) if evidence else None
        said = {"rating": rating, "text": words, "evaluation": evaluation, "written_by": user}
        review = Review.objects.filter(listing=listing, author=author).first()
        if review is None:
            grant = Grant.objects.filter(listing=listing, licensee=author).order_by("-accepted_at")[0]
            review = Review.objects.create(listing=listing, author=author, grant=grant, created_at=now, **said)
            details = {"rating": rating}
        else:
            _keep(review)
            details = {"rating": rating, "before": review.rating}
            changed = Review.objects.filter(pk=review.pk, hidden_at__isnull=True).update(edited_at=now, **said)
            if not changed:
                raise Conflict("taken_down", "Your review was taken down meanwhile. Appeal against that.")
        count(listing)
        audit.record("review.write", actor=user, namespace=author, subject=listing, details=details)
        notify(
            kind="review.write",
            recipients=[listing.namespace],
            title=f"{author} rated {listing} {rating} of {HIGHEST}",
            url=reverse("reviews", args=[listing.namespace.name, listing.name]),
            actor=user,
        )
        webhooks.of_review(review, now=now)
    review.refresh_from_db()
    return review


def required_text(text: str, *, most: int) -> str:
    """Returns the text without its margins. Raises Invalid (`empty_text`, `text_too_long`)."""
    words = text.strip()
    if not words:
        raise Invalid("empty_text", "Write some words first.", field="text")
    if len(words) > most:
        raise Invalid("text_too_long", f"At most {most} characters, please.", field="text")
    return words


def _cited(evidence: Evidence) -> CitedEvaluation:
    fields = {name: getattr(evidence, name) for name in Evidence.__dataclass_fields__ if name != "run_uid"}
    row, _ = CitedEvaluation.objects.get_or_create(run_uid=evidence.run_uid, defaults=fields)
    return row


def _keep(review: Review) -> None:
    ReviewVersion.objects.create(
        review=review,
        rating=review.rating,
        text=review.text,
        evaluation=review.evaluation,
        written_by=review.written_by,
        written_at=review.edited_at or review.created_at,
    )


def count(listing: Listing) -> None:
    """Sums the listing's shown reviews up again; call it under the listing's lock, after any change of them."""
    found = Review.objects.shown().filter(listing=listing).aggregate(number=Count("pk"), total=Sum("rating"))
    Listing.objects.filter(pk=listing.pk).update(review_count=found["number"], rating_total=found["total"] or 0)


def answer(*, user: User, review: Review, text: str, now: datetime) -> Review:
    """Writes the vendor's public answer, or replaces it. Raises Denied (`not_the_vendor`), Invalid (`empty_text`),
    Conflict (`taken_down`)."""
    require(policies.may_manage(user, review.listing))
    words = required_text(text, most=MAX_TEXT)
    with transaction.atomic():
        shown = Review.objects.filter(pk=review.pk, hidden_at__isnull=True)
        if not shown.update(answer=words, answered_by=user, answered_at=now):
            raise Conflict("taken_down", "This review was taken down: there is nothing to answer any more.")
        details = {"before": review.answer}
        namespace = review.listing.namespace
        audit.record("review.answer", actor=user, namespace=namespace, subject=review, details=details)
        notify(
            kind="review.answer",
            recipients=[review.author],
            title=f"{namespace} answered your review of {review.listing}",
            url=reverse("reviews", args=[namespace.name, review.listing.name]),
            actor=user,
        )
    review.refresh_from_db()
    return review
