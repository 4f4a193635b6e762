"""Reads that pages and the API share; everything that a page shows is fetched here, in constant queries."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import django_filters
from django.contrib.auth.models import AnonymousUser
from django.core.paginator import Page, Paginator
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    IntegerField,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce
from django.forms import CheckboxSelectMultiple
from django.utils import timezone

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import NamespaceQuerySet
from marketplace.errors import Invalid
from models_catalog import royalties
from models_catalog.models import (
    Acceptance,
    AccessRequest,
    Flag,
    Grant,
    GrantTransfer,
    Incident,
    LicenseKey,
    LicenseTerms,
    LineageEdge,
    Listing,
    Release,
    Seat,
)
from models_catalog.models.licensing import AccessRequestQuerySet, GrantState, RequestStatus
from models_catalog.models.listings import FRAMEWORKS, TASKS
from models_catalog.models.transfers import GrantTransferQuerySet
from models_catalog.royalties import Claim
from models_catalog.terms import Answer

RIGHTS = [
    ("commercial_use", "Commercial use"),
    ("fine_tune", "Fine-tuning"),
    ("share_derivatives", "Sharing derivatives"),
    ("sell_derivatives", "Selling derivatives"),
    ("host_as_service", "Hosting as a service"),
]
PRICES = [("free", "Free"), ("paid", "Paid")]
SIZES = [("tiny", "Up to 5 M"), ("small", "5 to 25 M"), ("medium", "25 to 100 M"), ("large", "Over 100 M")]
_SIZE_BOUNDS = {"tiny": (0, 5e6), "small": (5e6, 25e6), "medium": (25e6, 100e6), "large": (100e6, 1e15)}
SORTS = [
    ("here", "Ready here first"),
    ("newest", "Newest"),
    ("licensed", "Most licensed"),
    ("accuracy", "Best accuracy"),
    ("smallest", "Smallest"),
    ("price", "Lowest price"),
    ("name", "Name"),
]
# What can be used at once comes before what the staff would have to fetch first.
_REMOTE_LAST = Case(When(latest_release__remote_url="", then=0), default=1)
_ORDERINGS: dict[str, list[Any]] = {
    "here": [_REMOTE_LAST, "-latest_release__published_at", "-id"],
    "newest": ["-latest_release__published_at", "-id"],
    "licensed": ["-licenses", "-id"],
    "accuracy": [F("accuracy").desc(nulls_last=True), "-id"],
    "smallest": [F("latest_release__parameters").asc(nulls_last=True), "-id"],
    "price": ["latest_release__terms__price_minor", "-id"],
    "name": ["name", "-id"],
}


Row = TypeVar("Row", Grant, AccessRequest)
MAX_QUERY = 200  # characters; a database refuses patterns of many thousands
MAX_NAME = 96
_NOBODY = 0  # no namespace has this key


class ListingFilter(django_filters.FilterSet):
    """The catalog's facets, for the page and the API alike."""

    q = django_filters.CharFilter(method="matching", label="Search", max_length=MAX_QUERY)
    search = django_filters.CharFilter(method="matching", label="Search", max_length=MAX_QUERY)
    task = django_filters.MultipleChoiceFilter(choices=TASKS, widget=CheckboxSelectMultiple)
    framework = django_filters.MultipleChoiceFilter(choices=FRAMEWORKS, widget=CheckboxSelectMultiple)
    right = django_filters.MultipleChoiceFilter(
        choices=RIGHTS, method="with_rights", label="License allows", widget=CheckboxSelectMultiple
    )
    price = django_filters.MultipleChoiceFilter(
        choices=PRICES, method="with_price", label="Price", widget=CheckboxSelectMultiple
    )
    size = django_filters.MultipleChoiceFilter(
        choices=SIZES, method="with_size", label="Parameters", widget=CheckboxSelectMultiple
    )
    vendor = django_filters.CharFilter(field_name="namespace__name", lookup_expr="iexact", max_length=MAX_NAME)
    here = django_filters.BooleanFilter(
        field_name="latest_release__remote_url", method="on_server", label="On this server"
    )

    class Meta:
        model = Listing
        fields: list[str] = []

    def matching(self, queryset: QuerySet[Listing], _name: str, value: str) -> QuerySet[Listing]:
        for word in value.split()[:8]:
            queryset = queryset.filter(
                Q(name__icontains=word)
                | Q(title__icontains=word)
                | Q(summary__icontains=word)
                | Q(architecture__icontains=word)
                | Q(namespace__name__icontains=word)
            )
        return queryset

    def with_rights(self, queryset: QuerySet[Listing], _name: str, value: list[str]) -> QuerySet[Listing]:
        """Only models whose licence allows every right that is ticked."""
        return queryset.filter(**{f"latest_release__terms__{right}": Answer.ALLOW.value for right in value})

    def with_price(self, queryset: QuerySet[Listing], _name: str, value: list[str]) -> QuerySet[Listing]:
        if set(value) == {"free"}:
            return queryset.filter(latest_release__terms__price_minor=0)
        return queryset.filter(latest_release__terms__price_minor__gt=0) if set(value) == {"paid"} else queryset

    def with_size(self, queryset: QuerySet[Listing], _name: str, value: list[str]) -> QuerySet[Listing]:
        condition = Q()
        for size in value:
            low, high = _SIZE_BOUNDS[size]
            condition |= Q(latest_release__parameters__gte=low, latest_release__parameters__lt=high)
        return queryset.filter(condition) if value else queryset

    def on_server(self, queryset: QuerySet[Listing], _name: str, value: bool) -> QuerySet[Listing]:  # noqa: FBT001 - django-filter's signature
        here = Q(latest_release__remote_url="")
        return queryset.filter(here if value else ~here)


def catalog(user: User | AnonymousUser) -> QuerySet[Listing]:
    """Published listings that the user can see, with what a card shows."""
    return (
        Listing.objects.visible_to(user)
        .filter(latest_release__isnull=False)
        .select_related("namespace__organization", "latest_release__terms")
    )


def order_catalog(listings: QuerySet[Listing], sort: str) -> QuerySet[Listing]:
    if sort == "licensed":
        listings = listings.annotate(
            licenses=number_of(Grant.objects.counted().filter(listing=OuterRef("pk")), of="listing")
        )
    return listings.order_by(*_ORDERINGS.get(sort, _ORDERINGS["here"]))


def catalog_page(listings: QuerySet[Listing], *, size: int, number: str | None) -> Page[Listing]:
    """Returns one page of ordered listings. It is found by their ids alone, so that no database sorts whole rows
    of thousands; the license texts, which no card shows, are left where they are."""
    page: Any = Paginator(listings.values_list("pk", flat=True), size).get_page(number)
    found = listings.model.objects.select_related("namespace__organization", "latest_release__terms")
    rows = found.defer("latest_release__terms__document").in_bulk(list(page.object_list))
    shown: Page[Listing] = page
    shown.object_list = [rows[pk] for pk in page.object_list]
    return shown


def listing_of(user: User | AnonymousUser, namespace: str, name: str) -> QuerySet[Listing]:
    """The listing by its name, as a queryset so that the caller turns absence into 404."""
    if len(namespace) > MAX_NAME or len(name) > MAX_NAME:
        return Listing.objects.none()
    return (
        Listing.objects.visible_to(user)
        .select_related("namespace__organization", "latest_release__terms")
        .filter(namespace__name__iexact=namespace, name__iexact=name)
    )


def release_with_files(user: User | AnonymousUser, listing: Listing, version: str = "") -> Release | None:
    """The release by version, or without one the newest that is published, else the newest that is visible."""
    releases = (
        Release.objects.visible_to(user)
        .filter(listing=listing)
        .select_related("listing__namespace__organization", "terms")
        .prefetch_related(
            "artifacts",
            Prefetch("parent_edges", LineageEdge.objects.shown_to(user).order_by("id")),
            Prefetch("flags", Flag.objects.shown_to(user)),
        )
    )
    if version:
        return releases.filter(version=version).first()
    if listing.latest_release_id:
        return releases.filter(pk=listing.latest_release_id).first()
    return releases.order_by("-id").first()


def covering_grant(holder: Namespace, release: Release, *, now: datetime) -> Grant | None:
    """The grant under which the holder may use the release; None where it has none, or owns the release."""
    return Grant.objects.active(now).covering(release).filter(licensee=holder).select_related("terms").first()


def organizations_covering(release: Release, *, now: datetime) -> NamespaceQuerySet:
    """The organisations that own the release or hold a grant that covers it."""
    holders = Grant.objects.active(now).covering(release).values("licensee_id")
    covering = Q(pk=release.listing.namespace_id) | Q(pk__in=holders)
    return Namespace.objects.filter(covering, organization__isnull=False).order_by("name")


PRIVATE_MODEL = "a private model"


@dataclass(frozen=True, slots=True)
class LineageNode:
    """A release or a dataset; a parent that the reader may not see has no release, a digest and a title that
    says so."""

    release: Release | None
    title: str
    relation: str
    depth: int
    is_current: bool = False
    digest: str = ""
    is_private_model: bool = False


MAX_LINEAGE = 200


def lineage(release: Release, user: User | AnonymousUser) -> list[LineageNode]:
    """Ancestors from the root down, the release itself, then its published children; breadth first, bounded.
    What does not exist for the user is there by its digest alone."""
    ancestors: list[LineageNode] = []
    frontier, depth, seen = [release.pk], 1, {release.pk}
    while frontier and len(ancestors) < MAX_LINEAGE:
        edges = LineageEdge.objects.shown_to(user).filter(child__in=frontier)
        frontier = []
        for edge in edges:
            ancestors.append(_ancestor(edge, -depth))
            if edge.parent_id and edge.parent_id not in seen:
                seen.add(edge.parent_id)
                frontier.append(edge.parent_id)
        depth += 1
    children = [
        LineageNode(edge.child, str(edge.child.listing), edge.get_relation_display(), 1)
        for edge in release.child_edges.filter(child__status="published").select_related("child__listing__namespace")[
            :MAX_LINEAGE
        ]
    ]
    own = LineageNode(release, str(release.listing), "", 0, is_current=True)
    return [*sorted(ancestors, key=lambda node: node.depth), own, *children]


def _ancestor(edge: LineageEdge, depth: int) -> LineageNode:
    relation = edge.get_relation_display()
    if edge.parent is None:
        return LineageNode(None, edge.dataset_name, relation, depth, digest=edge.dataset_sha256)
    digest = edge.parent_manifest_sha256
    if edge.is_parent_shown:  # type: ignore[attr-defined]  # annotated by shown_to
        return LineageNode(edge.parent, str(edge.parent.listing), relation, depth, digest=digest)
    return LineageNode(None, PRIVATE_MODEL, relation, depth, digest=digest, is_private_model=True)


def royalty_claims(release: Release) -> list[Claim]:
    """What every ancestor may ask of a sale of the release, under the terms of the time when it was used and for
    its owner of now; a query for each generation."""
    claims: list[Claim] = []
    frontier, seen, generations = {release.pk}, {release.pk}, 0
    while frontier:
        generations += 1
        edges = LineageEdge.objects.filter(child__in=frontier, parent__isnull=False)
        found: dict[int, Release] = {}
        for edge in edges.select_related("parent__listing__namespace", "parent__terms", "terms"):
            if edge.parent is not None and edge.parent.pk not in seen:
                found[edge.parent.pk] = edge.parent
                claims.append(_claim(edge.parent, terms=edge.terms or edge.parent.terms, generations=generations))
        frontier = set(found)
        seen |= frontier
    return claims


def derivative_claims(release: Release) -> list[Claim]:
    """What the release and every ancestor of it may ask of a sale of what is made from the release."""
    own = _claim(release, terms=release.terms, generations=1)
    further = (dataclasses.replace(claim, generations=claim.generations + 1) for claim in royalty_claims(release))
    return [own, *further]


def royalties_of_derivatives(release: Release, user: User | AnonymousUser) -> list[Claim]:
    """What each sale of what is made from the release owes, whoever sells it; an ancestor that does not exist for
    the user is called a private model."""
    due = royalties.owed(derivative_claims(release), seller=_NOBODY)
    shown = set(
        Listing.objects.visible_to(user).filter(pk__in=[claim.ancestor for claim in due]).values_list("pk", flat=True)
    )
    return [claim if claim.ancestor in shown else dataclasses.replace(claim, title=PRIVATE_MODEL) for claim in due]


def _claim(ancestor: Release, *, terms: LicenseTerms, generations: int) -> Claim:
    value = terms.value
    return Claim(
        ancestor=ancestor.listing_id,
        title=str(ancestor.listing),
        payee=ancestor.listing.namespace_id,
        generations=generations,
        bps=value.royalty_bps,
        floor_minor=value.royalty_floor_minor,
        currency=value.currency,
        depth=value.royalty_depth,
    )


def names_shown_to(user: User | AnonymousUser, release_ids: Iterable[int]) -> list[str]:
    """The releases' names in order; one that does not exist for the user is called a private model."""
    shown = Release.objects.visible_to(user).filter(pk__in=release_ids).select_related("listing__namespace")
    names = {release.pk: str(release) for release in shown}
    return sorted(names.get(pk, PRIVATE_MODEL) for pk in release_ids)


def incident_of(user: User | AnonymousUser, pk: int) -> QuerySet[Incident]:
    """The incident by its number, as a queryset so that the caller turns absence into 404."""
    return Incident.objects.visible_to(user).shown_to(user).filter(pk=pk)


def affected_by(incident: Incident, user: User | AnonymousUser) -> QuerySet[Release]:
    """The flagged releases that exist for the user, with `is_mine` and `is_licensed`; those first."""
    mine = Namespace.objects.of(user)
    held = Grant.objects.covering().filter(licensee__in=mine, revoked_at__isnull=True)
    return (
        Release.objects.visible_to(user)
        .filter(flags__incident=incident)
        .select_related("listing__namespace", "terms")
        .annotate(is_mine=Exists(mine.filter(pk=OuterRef("listing__namespace_id"))), is_licensed=Exists(held))
        .order_by("-is_mine", "-is_licensed", "-id")
    )


def licenses_of(user: User) -> QuerySet[Grant]:
    return (
        Grant.objects.held_by(user)
        .select_related("listing__namespace", "listing__latest_release", "terms", "licensee", "accepted_by", "order")
        .order_by("-accepted_at")
    )


def grants_shown(user: User | AnonymousUser) -> QuerySet[Grant]:
    """The grants that exist for the user, on either side, with what a page of one shows."""
    hint = LicenseKey.objects.live().filter(grant=OuterRef("pk")).values("hint")[:1]
    taken = Seat.objects.taken(timezone.now()).filter(grant=OuterRef("pk"))
    return (
        Grant.objects.visible_to(user)
        .select_related("listing__namespace", "terms", "licensee__organization", "accepted_by", "order")
        .annotate(seats_taken=number_of(taken, of="grant"), key_hint=Coalesce(Subquery(hint), Value("")))
    )


def grants_of(user: User, asked: Mapping[str, str], *, now: datetime) -> QuerySet[Grant]:
    """Grants held, or with `side=vendor` given, narrowed by `status`, `licensee` and `listing`. Raises Invalid
    (`bad_filter`)."""
    side, state = asked.get("side", "licensee"), asked.get("status", "")
    _check_choice("side", side, ["licensee", "vendor"])
    _check_choice("status", state, ["", *GrantState.values])
    writable = Namespace.objects.writable_by(user)
    rows = Grant.objects.filter(listing__namespace__in=writable) if side == "vendor" else Grant.objects.held_by(user)
    rows = rows.in_state(state, now) if state else rows
    if licensee := asked.get("licensee"):
        rows = rows.filter(licensee__name__iexact=licensee[:MAX_NAME])
    shown = rows.select_related("listing__namespace", "terms", "licensee", "accepted_by").order_by("-accepted_at")
    return _of_listing(shown, asked.get("listing", ""))


def _of_listing(rows: QuerySet[Row], listing: str) -> QuerySet[Row]:
    namespace, _, name = listing.partition("/")
    if not listing:
        return rows
    return rows.filter(listing__namespace__name__iexact=namespace[:MAX_NAME], listing__name__iexact=name[:MAX_NAME])


def _check_choice(name: str, given: str, known: list[str]) -> None:
    if given not in known:
        raise Invalid("bad_filter", f"{name} is one of {', '.join(filter(None, known))}.", field=name)


def seats_of(grant: Grant, *, now: datetime) -> QuerySet[Seat]:
    return Seat.objects.taken(now).filter(grant=grant).select_related("user", "token").order_by("since", "id")


def usernames(users: Iterable[int]) -> list[tuple[int, str]]:
    return list(User.objects.filter(pk__in=list(users)).order_by("username").values_list("pk", "username"))


def transfers_shown(user: User) -> GrantTransferQuerySet:
    facts = ("grant__listing__namespace", "grant__terms", "grant__licensee", "recipient", "offered_by")
    return GrantTransfer.objects.visible_to(user).select_related(*facts)


def with_receipt_facts(rows: QuerySet[Acceptance]) -> QuerySet[Acceptance]:
    return rows.select_related("user", "licensee", "listing__namespace", "terms")


def access_requests_shown(user: User | AnonymousUser) -> AccessRequestQuerySet:
    facts = ("listing__namespace", "requester", "requested_by", "decided_by", "terms")
    return AccessRequest.objects.visible_to(user).with_place().select_related(*facts)


def access_requests_of(user: User, asked: Mapping[str, str]) -> QuerySet[AccessRequest]:
    """Requests made, or with `side=vendor` those to decide, narrowed by `status` and `listing`. Raises Invalid
    (`bad_filter`)."""
    side, status = asked.get("side", "requester"), asked.get("status", "")
    _check_choice("side", side, ["requester", "vendor"])
    _check_choice("status", status, ["", *RequestStatus.values])
    shown = access_requests_shown(user)
    rows = shown.put_to(user) if side == "vendor" else shown.made_by(user)
    rows = rows.filter(status=status) if status else rows
    return _of_listing(rows, asked.get("listing", "")).order_by("-created_at")


def number_of(rows: QuerySet[Any], *, of: str) -> Coalesce:
    """Counts rows apart, in a subquery: two joins in one query would multiply each other."""
    counted = rows.order_by().values(of).annotate(number=Count("pk")).values("number")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)
