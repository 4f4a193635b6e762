"""The rows of the vendor's desk: what each of its lists holds for a user, and how a status narrows it."""

from __future__ import annotations

from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from marketplace.accounts.models import Namespace, Role, User
from marketplace.accounts.models.people import BILLS, WRITES
from models_catalog.desks.statistics import counted
from models_catalog.models import AccessRequest, Answer, Grant, LedgerEntry, Listing, Order, Question, Release, Review
from models_catalog.postings import Purpose
from models_catalog.selectors import number_of

_SELLS: tuple[Role, ...] = tuple({*WRITES, *BILLS})


def listings(user: User) -> QuerySet[Listing]:
    return (
        Listing.objects.managed_by(user)
        .select_related("namespace", "latest_release__terms")
        .annotate(
            licenses=number_of(Grant.objects.counted().filter(listing=OuterRef("pk")), of="listing"),
            downloads=number_of(
                counted().filter(artifact__release__listing=OuterRef("pk")), of="artifact__release__listing"
            ),
        )
    )


def releases(user: User) -> QuerySet[Release]:
    rows = Release.objects.filter(listing__namespace__in=Namespace.objects.writable_by(user))
    return rows.select_related("listing__namespace", "terms")


def requests(user: User) -> QuerySet[AccessRequest]:
    rows = AccessRequest.objects.filter(listing__namespace__in=Namespace.objects.writable_by(user))
    return rows.select_related("listing__namespace", "requester", "requested_by", "terms")


def grants(user: User) -> QuerySet[Grant]:
    rows = Grant.objects.filter(listing__namespace__in=sold_by(user))
    return rows.select_related("listing__namespace", "licensee", "terms", "order")


def sales(user: User) -> QuerySet[Order]:
    rows = Order.objects.filter(listing__namespace__in=sold_by(user))
    return rows.select_related("listing__namespace", "buyer", "terms", "grant")


def royalties(user: User) -> QuerySet[LedgerEntry]:
    """Royalties to and from the user's namespaces; `is_in` says which: an undone one goes the other way."""
    mine = sold_by(user)
    rows = LedgerEntry.objects.filter(
        Q(debit__namespace__in=mine) | Q(credit__namespace__in=mine), purpose=Purpose.ROYALTY.value
    )
    related = ("transaction__order__listing__namespace", "listing__namespace", "debit__namespace", "credit__namespace")
    return rows.select_related(*related).annotate(is_in=Exists(mine.filter(pk=OuterRef("credit__namespace_id"))))


def reviews(user: User) -> QuerySet[Review]:
    rows = Review.objects.shown().filter(listing__namespace__in=Namespace.objects.writable_by(user))
    return rows.select_related("listing__namespace", "author", "evaluation")


def questions(user: User) -> QuerySet[Question]:
    rows = Question.objects.shown().filter(listing__namespace__in=Namespace.objects.writable_by(user))
    return rows.select_related("listing__namespace", "asked_by").annotate(is_answered=_answered_by_vendor())


def sold_by(user: User) -> QuerySet[Namespace]:
    """The namespaces whose sales are the user's to see: those that they write or bill for."""
    return Namespace.objects.of(user, roles=_SELLS)


def _answered_by_vendor() -> Exists:
    return Exists(Answer.objects.filter(question=OuterRef("pk"), is_vendors=True, hidden_at__isnull=True))


def by_column(rows: QuerySet[Any], status: str) -> QuerySet[Any]:
    return rows.filter(status=status)


def by_publication(rows: QuerySet[Any], status: str) -> QuerySet[Any]:
    return rows.filter(latest_release__isnull=status != "published")


def by_end(rows: QuerySet[Any], status: str) -> QuerySet[Any]:
    current = Q(pk__in=Grant.objects.active(timezone.now()).values("pk"))
    return rows.filter(current if status == "current" else ~current)


def by_answer(rows: QuerySet[Any], status: str) -> QuerySet[Any]:
    if rows.model is Review:
        return rows.filter(answered_at__isnull=status == "unanswered")
    return rows.filter(is_answered=status == "answered")


def by_direction(rows: QuerySet[Any], status: str) -> QuerySet[Any]:
    return rows.filter(is_in=status == "in")
