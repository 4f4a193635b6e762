"""The vendor's desk: what waits for a vendor, and everything of theirs as lists that can be filtered. Each list holds
rows of the user's own namespaces alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Model, Q, QuerySet
from django.utils import timezone

from marketplace.accounts.models import User
from models_catalog.desks import vendor_rows as rows
from models_catalog.models import AccessRequest, Grant, Listing, Order, Release
from models_catalog.models.listings import ReleaseStatus

MAX_QUERY = 200  # characters of a search
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


def narrowed(section: Section, found: QuerySet[Any], query: Mapping[str, Any]) -> QuerySet[Any]:
    """Applies `q`, `status` and `listing` of an address; values that mean nothing here filter nothing, but for a
    listing, which is then not the user's."""
    for word in str(query.get("q", ""))[:MAX_QUERY].split()[:8]:
        found = found.filter(reduce(or_, (Q(**{f"{column}__icontains": word}) for column in section.search)))
    if (status := str(query.get("status", ""))) in dict(section.statuses):
        found = section.with_status(found, status)
    if identifier := str(query.get("listing", ""))[:MAX_QUERY]:
        namespace, _, name = identifier.partition("/")
        prefix = f"{section.listing}__" if section.listing else ""
        found = found.filter(**{f"{prefix}namespace__name__iexact": namespace, f"{prefix}name__iexact": name})
    return found.order_by(section.ordering, "-pk")


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
            rows.listings,
            ("name", "title", "namespace__name"),
            "",
            _STATUS_OF_LISTING,
            rows.by_publication,
            "name",
        ),
        Section(
            "releases",
            "Releases",
            "Every version, from draft to withdrawn.",
            rows.releases,
            ("version", "listing__name", "listing__namespace__name", "notes"),
            "listing",
            _choices(Release),
            rows.by_column,
            "-created_at",
        ),
        Section(
            "requests",
            "Access requests",
            "Who asked for terms that need your approval, and what you answered.",
            rows.requests,
            ("requester__name", "listing__name", "reason"),
            "listing",
            _choices(AccessRequest),
            rows.by_column,
            "-created_at",
        ),
        Section(
            "grants",
            "Licenses",
            "Who holds a license of your models, and since when.",
            rows.grants,
            ("licensee__name", "listing__name", "terms__name"),
            "listing",
            _STATUS_OF_GRANT,
            rows.by_end,
            "-accepted_at",
        ),
        Section(
            "sales",
            "Orders",
            "What was ordered of you, free licenses too.",
            rows.sales,
            ("buyer__name", "listing__name", "terms__name"),
            "listing",
            _choices(Order),
            rows.by_column,
            "-placed_at",
        ),
        Section(
            "royalties",
            "Royalties",
            "What derivatives of your models brought you, and what yours owed to their ancestors.",
            rows.royalties,
            ("listing__name", "transaction__order__listing__name"),
            "listing",
            [("in", "Received"), ("out", "Given")],
            rows.by_direction,
            "-id",
        ),
        Section(
            "reviews",
            "Reviews",
            "What licensees say. You can answer each, in public.",
            rows.reviews,
            ("author__name", "listing__name", "text"),
            "listing",
            _STATUS_OF_POST,
            rows.by_answer,
            "-created_at",
        ),
        Section(
            "questions",
            "Questions",
            "What people ask about your models.",
            rows.questions,
            ("asked_by__username", "listing__name", "text"),
            "listing",
            _STATUS_OF_POST,
            rows.by_answer,
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
    pending = rows.requests(user).filter(status="pending").order_by("created_at")
    kinds = [
        ("Access requests to decide", "requests", "pending"),
        ("Orders to settle", "sales", "pending"),
        ("Reviews to answer", "reviews", "unanswered"),
        ("Questions to answer", "questions", "unanswered"),
        ("Verified releases to publish", "releases", ReleaseStatus.READY.value),
        ("Releases to mend", "releases", ReleaseStatus.REJECTED.value),
    ]
    waiting = [Waiting(title, _waiting(user, section, status), section, status) for title, section, status in kinds]
    held = Grant.objects.active(timezone.now()).counted().filter(listing__namespace__in=rows.sold_by(user))
    return Overview(
        listings=Listing.objects.managed_by(user).count(),
        licenses=held.count(),
        waiting=[item for item in waiting if item.number],
        requests=list(pending[:SHOWN_AT_ONCE]),
    )


def _waiting(user: User, name: str, status: str) -> int:
    section = SECTIONS[name]
    return section.with_status(section.rows(user), status).count()
