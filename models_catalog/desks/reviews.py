"""Reviews and questions as pages and the API show them."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.db.models import Prefetch, QuerySet

from marketplace.accounts.models import User
from models_catalog.models import Answer, CitedEvaluation, Listing, Question, Review, ReviewVersion


def reviews_of(listing: Listing) -> QuerySet[Review]:
    """The reviews that are shown, newest first, with what they cite and what they said before."""
    versions = ReviewVersion.objects.select_related("written_by").order_by("-pk")
    return (
        Review.objects.shown()
        .filter(listing=listing)
        .select_related("author__organization", "evaluation", "answered_by", "listing__namespace")
        .prefetch_related(Prefetch("versions", versions))
        .order_by("-created_at", "-pk")
    )


def questions_of(listing: Listing) -> QuerySet[Question]:
    """The questions that are shown, newest first, each with its answers: `answers_shown`."""
    answers = Answer.objects.filter(hidden_at__isnull=True).select_related("written_by").order_by("pk")
    return (
        Question.objects.shown()
        .filter(listing=listing)
        .select_related("asked_by", "listing__namespace")
        .prefetch_related(Prefetch("answers", answers, to_attr="answers_shown"))
        .order_by("-created_at", "-pk")
    )


def cited_evaluations(user: User | AnonymousUser) -> QuerySet[CitedEvaluation]:
    return CitedEvaluation.objects.visible_to(user).select_related("release__listing__namespace", "owner")
