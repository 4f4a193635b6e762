"""Downloads told honestly: persons a day, people apart from programs, one download however often it was begun."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet

from marketplace.accounts.models import Membership, Namespace
from marketplace.clients import LIBRARIES, TITLES, Client
from models_catalog.models import Download, Listing
from models_catalog.models.licensing import Credential

WINDOWS = (7, 30, 90, 365)  # days that can be asked for
DEFAULT_WINDOW = 30

_CI = Q(is_ci=True)
_PEOPLE = Q(is_ci=False, client=Client.BROWSER) & ~Q(credential=Credential.TOKEN)
_LIBRARIES = Q(is_ci=False, client__in=LIBRARIES)
_FIGURES = {
    "users": Count("user", distinct=True),
    "people": Count("user", distinct=True, filter=_PEOPLE),
    "libraries": Count("user", distinct=True, filter=_LIBRARIES),
    "programs": Count("user", distinct=True, filter=~_PEOPLE & ~_LIBRARIES & ~_CI),
    "ci": Count("user", distinct=True, filter=_CI),
    "files": Count("pk"),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """Different users, in all and by the way they came; one who came in two ways is in both of them. `files` counts
    each file once a day and user."""

    users: int = 0
    people: int = 0
    libraries: int = 0
    programs: int = 0
    ci: int = 0
    files: int = 0


@dataclass(frozen=True, slots=True)
class Day:
    day: date
    figures: Figures


@dataclass(frozen=True, slots=True)
class OfRelease:
    listing: str
    version: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class OfClient:
    client: str
    title: str
    is_ci: bool
    users: int
    files: int


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of `since` to `until`, both included; `days` holds each of them, also those without a download."""

    since: date
    until: date
    total: Figures
    days: list[Day]
    releases: list[OfRelease]
    clients: list[OfClient]


def window(text: str) -> int | None:
    """Returns the window that a query names, or None for what is none of them."""
    return next((days for days in WINDOWS if str(days) == text), None)


def statistics(listings: QuerySet[Listing], *, until: date, days: int = DEFAULT_WINDOW) -> Statistics:
    """Returns the downloads of these listings in the `days` days that end with `until` (UTC). The vendor's own
    members are not counted."""
    since = until - timedelta(days=days - 1)
    rows = counted().filter(artifact__release__listing__in=listings, day__gte=since, day__lte=until)
    return Statistics(
        since=since,
        until=until,
        total=Figures(**rows.aggregate(**_FIGURES)),
        days=list(_days(rows, since=since, until=until)),
        releases=list(_releases(rows)),
        clients=list(_clients(rows)),
    )


def counted() -> QuerySet[Download]:
    """The downloads that count: the first of its kind in a day, by somebody who is not the vendor."""
    vendor = Namespace.objects.filter(pk=OuterRef("artifact__release__listing__namespace_id"))
    member = Membership.objects.filter(
        organization__namespace=OuterRef("artifact__release__listing__namespace_id"), user=OuterRef("user_id")
    )
    own = Exists(vendor.filter(user=OuterRef("user_id"))) | Exists(member)
    return Download.objects.filter(~own, day__isnull=False)


def _days(rows: QuerySet[Download], *, since: date, until: date) -> Iterator[Day]:
    found = {row.pop("day"): Figures(**row) for row in _grouped(rows, "day")}
    for offset in range((until - since).days + 1):
        day = since + timedelta(days=offset)
        yield Day(day, found.get(day, Figures()))


def _releases(rows: QuerySet[Download]) -> Iterator[OfRelease]:
    path = "artifact__release"
    keys = {
        "namespace": F(f"{path}__listing__namespace__name"),
        "name": F(f"{path}__listing__name"),
        "version": F(f"{path}__version"),
    }
    for row in _grouped(rows.annotate(**keys), *keys, order=("-users", *keys)):
        listing = f"{row.pop('namespace')}/{row.pop('name')}"
        yield OfRelease(listing, row.pop("version"), Figures(**row))


def _clients(rows: QuerySet[Download]) -> Iterator[OfClient]:
    for row in _grouped(rows, "client", "is_ci", order=("-users", "client", "is_ci")):
        client = row["client"]
        title = TITLES.get(Client(client), client) if client in set(Client) else client
        yield OfClient(client, title, row["is_ci"], row["users"], row["files"])


def _grouped(rows: QuerySet[Download], *by: str, order: tuple[str, ...] = ()) -> QuerySet[Any, dict[str, Any]]:
    found: QuerySet[Any, dict[str, Any]] = rows.order_by().values(*by).annotate(**_FIGURES)
    return found.order_by(*(order or by))
