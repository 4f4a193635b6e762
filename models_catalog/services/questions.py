"""Questions about a listing, and their answers."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.urls import reverse

from marketplace.accounts.models import User
from marketplace.accounts.services.notifications import notify
from marketplace.decisions import require
from marketplace.errors import Conflict
from marketplace.webhooks.events import EventType
from models_catalog import policies
from models_catalog.models import Answer, Listing, Question
from models_catalog.services import webhooks
from models_catalog.services.limits import require_pace
from models_catalog.services.reviews import required_text

MAX_TEXT = 2000  # characters


def ask(*, user: User, listing: Listing, text: str, now: datetime) -> Question:
    """Asks in public; the vendor is told. Raises Denied (`sign_in`), Invalid (`empty_text`, `text_too_long`),
    TooMany (`too_many_posts`)."""
    require(policies.may_post(user))
    words = required_text(text, most=MAX_TEXT)
    with transaction.atomic():
        require_pace(Question.objects.filter(asked_by=user), user=user, now=now)
        question = Question.objects.create(listing=listing, asked_by=user, text=words, created_at=now)
        notify(
            kind="question.ask",
            recipients=[listing.namespace],
            title=f"{user.username} asks about {listing}",
            body=words[:300],
            url=reverse("questions", args=[listing.namespace.name, listing.name]),
            actor=user,
        )
        webhooks.of_question(EventType.QUESTION_ASKED, question, now=now)
    return question


def answer(*, user: User, question: Question, text: str, now: datetime) -> Answer:
    """Answers; marked as the vendor's where the user writes for the listing's namespace. Raises as `ask`, and
    Conflict (`taken_down`)."""
    require(policies.may_post(user))
    words = required_text(text, most=MAX_TEXT)
    listing = question.listing
    with transaction.atomic():
        require_pace(Answer.objects.filter(written_by=user), user=user, now=now)
        if not Question.objects.shown().select_for_update(no_key=True).filter(pk=question.pk).exists():
            raise Conflict("taken_down", "This question was taken down: there is nothing to answer any more.")
        row = Answer.objects.create(
            question=question,
            written_by=user,
            is_vendors=policies.is_vendor(user, listing),
            text=words,
            created_at=now,
        )
        notify(
            kind="question.answer",
            recipients=[question.asked_by],
            title=f"{user.username} answered your question about {listing}",
            body=words[:300],
            url=reverse("questions", args=[listing.namespace.name, listing.name]),
            actor=user,
        )
        webhooks.of_question(EventType.QUESTION_ANSWERED, question, now=now)
    return row
