"""The vendor's desk: what waits for a vendor, and everything of theirs as lists that can be filtered. Each list holds
rows of the user's own namespaces alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Exists, Model, OuterRef, Q, QuerySet
from django.utils import timezone

from marketplace.accounts.models import Namespace, Role, User
from marketplace.accounts.models.people import BILLS, WRITES
from models_catalog.desks.statistics import counted
from models_catalog.models import AccessRequest, Answer, Grant, LedgerEntry, Listing, Order, Question, Release, Review
from models_catalog.models.listings import ReleaseStatus
from models_catalog.postings import Purpose
from models_catalog.selectors import number_of

MAX_QUERY = 200  # characters of a search
_SELLS: tuple[Role, ...] = tuple({*WRITES, *BILLS})
_STATUS_OF_LISTING = [("published", "In the catalog"), ("draft", "Not published")]
_STATUS_OF_GRANT = [("current", "Current"), ("ended", "Ended")]
_STATUS_OF_POST = [("unanswered", "Not answered by you"), ("answered", "Answered")]


@dataclass(frozen=True, slots=True)
class Section:
    """One list of the desk. `search` names the columns that words are looked for in, `listing` the way to it."""

    name: str
    title: str
    lead: str
    rows: Callable[[User], QuerySet[Any]]
    search: tuple[str, ...]
    listing: str
    statuses: list[tuple[str, str]]
    with_status: Callable[[QuerySet[Any], str], QuerySet[Any]]
    ordering: str


def narrowed(section: Section, rows: QuerySet[Any], query: Mapping[str, Any]) -> QuerySet[Any]:
    """Applies `q`, `status` and `listing` of an address; values that mean nothing here filter nothing, but for a
    listing, which is then not the user's."""
    for word in str(query.get("q", ""))[:MAX_QUERY].split()[:8]:
        rows = rows.filter(reduce(or_, (Q(**{f"{column}__icontains": word}) for column in section.search)))
    if (status := str(query.get("status", ""))) in dict(section.statuses):
        rows = section.with_status(rows, status)
    if identifier := str(query.get("listing", ""))[:MAX_QUERY]:
        namespace, _, name = identifier.partition("/")
        prefix = f"{section.listing}__" if section.listing else ""
        rows = rows.filter(**{f"{prefix}namespace__name__iexact": namespace, f"{prefix}name__iexact": name})
    return rows.order_by(section.ordering, "-pk")


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
    rows = Grant.objects.filter(listing__namespace__in=_sold_by(user))
    return rows.select_related("listing__namespace", "licensee", "terms", "order")


def sales(user: User) -> QuerySet[Order]:
    rows = Order.objects.filter(listing__namespace__in=_sold_by(user))
    return rows.select_related("listing__namespace", "buyer", "terms", "grant")


def royalties(user: User) -> QuerySet[LedgerEntry]:
    """Royalties to and from the user's namespaces; `is_in` says which: an undone one goes the other way."""
    mine = _sold_by(user)
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


def _sold_by(user: User) -> QuerySet[Namespace]:
    """The namespaces whose sales are the user's to see: those that they write or bill for."""
    return Namespace.objects.of(user, roles=_SELLS)


def _answered_by_vendor() -> Exists:
    return Exists(Answer.objects.filter(question=OuterRef("pk"), is_vendors=True, hidden_at__isnull=True))


def _by_column(rows: QuerySet[Any], status: str) -> QuerySet[Any]:
    return rows.filter(status=status)


def _by_publication(rows: QuerySet[Any], status: str) -> QuerySet[Any]:
    return rows.filter(latest_release__isnull=status != "published")


def _by_end(rows: QuerySet[Any], status: str) -> QuerySet[Any]:
    current = Q(pk__in=Grant.objects.active(timezone.now()).values("pk"))
    return rows.filter(current if status == "current" else ~current)


def _by_answer(rows: QuerySet[Any], status: str) -> QuerySet[Any]:
    if rows.model is Review:
        return rows.filter(answered_at__isnull=status == "unanswered")
    return rows.filter(is_answered=status == "answered")


def _by_direction(rows: QuerySet[Any], status: str) -> QuerySet[Any]:
    return rows.filter(is_in=status == "in")


def _choices(model: type[Model]) -> list[tuple[str, str]]:
    field: Any = model._meta.get_field("status")  # noqa: SLF001 - Django's public name for it
    return [(str(value), str(title)) for value, title in field.choices]


SECTIONS = {
    section.name: section
    for section in (
        Section(
            "listings",
            "Listings",
            "Your models, in the catalog and not yet.",
            listings,
            ("name", "title", "namespace__name"),
            "",
            _STATUS_OF_LISTING,
            _by_publication,
            "name",
        ),
        Section(
            "releases",
            "Releases",
            "Every version, from draft to withdrawn.",
            releases,
            ("version", "listing__name", "listing__namespace__name", "notes"),
            "listing",
            _choices(Release),
            _by_column,
            "-created_at",
        ),
        Section(
            "requests",
            "Access requests",
            "Who asked for terms that need your approval, and what you answered.",
            requests,
            ("requester__name", "listing__name", "reason"),
            "listing",
            _choices(AccessRequest),
            _by_column,
            "-created_at",
        ),
        Section(
            "grants",
            "Licenses",
            "Who holds a license of your models, and since when.",
            grants,
            ("licensee__name", "listing__name", "terms__name"),
            "listing",
            _STATUS_OF_GRANT,
            _by_end,
            "-accepted_at",
        ),
        Section(
            "sales",
            "Orders",
            "What was ordered of you, free licenses too.",
            sales,
            ("buyer__name", "listing__name", "terms__name"),
            "listing",
            _choices(Order),
            _by_column,
            "-placed_at",
        ),
        Section(
            "royalties",
            "Royalties",
            "What derivatives of your models brought you, and what yours owed to their ancestors.",
            royalties,
            ("listing__name", "transaction__order__listing__name"),
            "listing",
            [("in", "Received"), ("out", "Given")],
            _by_direction,
            "-id",
        ),
        Section(
            "reviews",
            "Reviews",
            "What licensees say. You can answer each, in public.",
            reviews,
            ("author__name", "listing__name", "text"),
            "listing",
            _STATUS_OF_POST,
            _by_answer,
            "-created_at",
        ),
        Section(
            "questions",
            "Questions",
            "What people ask about your models.",
            questions,
            ("asked_by__username", "listing__name", "text"),
            "listing",
            _STATUS_OF_POST,
            _by_answer,
            "-created_at",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that the vendor can deal with, and where."""

    title: str
    number: int
    section: str
    status: str


@dataclass(frozen=True, slots=True)
class Overview:
    listings: int
    licenses: int
    waiting: list[Waiting]
    requests: list[AccessRequest]

    @property
    def total(self) -> int:
        return sum(item.number for item in self.waiting)


SHOWN_AT_ONCE = 5


def overview(user: User) -> Overview:
    """What waits for the user as a vendor, and the oldest requests among it."""
    pending = requests(user).filter(status="pending").order_by("created_at")
    kinds = [
        ("Access requests to decide", "requests", "pending"),
        ("Orders to settle", "sales", "pending"),
        ("Reviews to answer", "reviews", "unanswered"),
        ("Questions to answer", "questions", "unanswered"),
        ("Verified releases to publish", "releases", ReleaseStatus.READY.value),
        ("Releases to mend", "releases", ReleaseStatus.REJECTED.value),
    ]
    waiting = [Waiting(title, _waiting(user, section, status), section, status) for title, section, status in kinds]
    held = Grant.objects.active(timezone.now()).counted().filter(listing__namespace__in=_sold_by(user))
    return Overview(
        listings=Listing.objects.managed_by(user).count(),
        licenses=held.count(),
        waiting=[item for item in waiting if item.number],
        requests=list(pending[:SHOWN_AT_ONCE]),
    )


def _waiting(user: User, name: str, status: str) -> int:
    section = SECTIONS[name]
    return section.with_status(section.rows(user), status).count()
