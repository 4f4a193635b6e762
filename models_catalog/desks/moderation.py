"""What can be reported, and the lists of reports and takedowns, each with what it is about."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet

from marketplace.accounts.models import User
from models_catalog import selectors
from models_catalog.models import Answer, Listing, Question, Release, Report, Review, Takedown
from models_catalog.models.moderation import Subject

_DIGITS = 18  # of a key: fits the database's 64-bit integers
_ABOUT = (
    "listing__namespace",
    "release__listing__namespace",
    "review__listing__namespace",
    "review__author",
    "question__listing__namespace",
    "question__asked_by",
    "answer__question__listing__namespace",
    "answer__written_by",
)


def find_subject(user: User | AnonymousUser, kind: str, reference: str) -> Subject | None:
    """Returns what the user means by `listing=namespace/name`, `release=namespace/name@version`, or `review`,
    `question`, `answer` and its number; None for what is not there for them."""
    if kind in {"listing", "release"}:
        identifier, _, version = reference.partition("@")
        namespace, _, name = identifier.partition("/")
        listing = selectors.listing_of(user, namespace, name).first()
        if listing is None or kind == "listing":
            return listing
        releases = Release.objects.visible_to(user).filter(listing=listing, version=version[:40])
        return releases.select_related("listing__namespace").first()
    if not (reference.isascii() and reference.isdecimal() and len(reference) <= _DIGITS):
        return None
    return _post(user, kind, int(reference))


def _post(user: User | AnonymousUser, kind: str, pk: int) -> Subject | None:
    listings = Listing.objects.visible_to(user)
    if kind == "review":
        reviews = Review.objects.shown().filter(pk=pk, listing__in=listings)
        return reviews.select_related("listing__namespace", "author").first()
    if kind == "question":
        questions = Question.objects.shown().filter(pk=pk, listing__in=listings)
        return questions.select_related("listing__namespace", "asked_by").first()
    if kind == "answer":
        answers = Answer.objects.filter(pk=pk, hidden_at__isnull=True, question__hidden_at__isnull=True)
        found = answers.filter(question__listing__in=listings)
        return found.select_related("question__listing__namespace", "written_by").first()
    return None


def reports(user: User | AnonymousUser) -> QuerySet[Report]:
    return Report.objects.visible_to(user).select_related(*_ABOUT, "reporter", "decided_by", "takedown")


def takedowns(user: User | AnonymousUser) -> QuerySet[Takedown]:
    return Takedown.objects.visible_to(user).select_related(
        *_ABOUT, "owner", "taken_down_by", "appealed_by", "decided_by"
    )
