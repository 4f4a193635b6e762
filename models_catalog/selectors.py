"""Reads that pages and the API share; everything that a page shows is fetched here, in constant queries."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

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
from django.db.models.functions import Coalesce, Lower
from django.utils import timezone

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import NamespaceQuerySet
from marketplace.errors import Invalid
from models_catalog import royalties
from models_catalog.models import (
    Acceptance,
    AccessRequest,
    Download,
    Flag,
    Grant,
    GrantTransfer,
    Incident,
    LicenseKey,
    LicenseTerms,
    LineageEdge,
    Listing,
    Order,
    Release,
    Seat,
)
from models_catalog.models.licensing import AccessRequestQuerySet, GrantState, RequestStatus
from models_catalog.models.lineage import Relation
from models_catalog.models.listings import PUBLISHED_ONCE
from models_catalog.models.transfers import GrantTransferQuerySet
from models_catalog.royalties import Claim

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
MAX_NAME = 96
_NOBODY = 0  # no namespace has this key


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
    # As the unique indexes have them: `iexact` would compare with every listing.
    return (
        Listing.objects.visible_to(user)
        .select_related("namespace__organization", "latest_release__terms")
        .alias(folded_owner=Lower("namespace__name"), folded=Lower("name"))
        .filter(folded_owner=Lower(Value(namespace)), folded=Lower(Value(name)))
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


def newest_work(listing: Listing) -> Release | None:
    """The newest release that was begun after what the listing offers, and was never published."""
    rows = Release.objects.filter(listing=listing).exclude(status__in=PUBLISHED_ONCE)
    if listing.latest_release_id:
        rows = rows.filter(pk__gt=listing.latest_release_id)
    return rows.select_related("listing__namespace", "terms").order_by("-id").first()


def covering_grant(holder: Namespace, release: Release, *, now: datetime) -> Grant | None:
    """The grant under which the holder may use the release; None where it has none, or owns the release."""
    return Grant.objects.active(now).covering(release).filter(licensee=holder).select_related("terms").first()


def organizations_covering(release: Release, *, now: datetime) -> NamespaceQuerySet:
    """The organisations that own the release or hold a grant that covers it."""
    holders = Grant.objects.active(now).covering(release).values("licensee_id")
    covering = Q(pk=release.listing.namespace_id) | Q(pk__in=holders)
    return Namespace.objects.filter(covering, organization__isnull=False).order_by("name")


def copied_from(release: Release) -> list[Release]:
    """Returns the models of others whose very weights the release is: up the copies of the owner's own, a query for each
    step."""
    owner, found, level, seen = release.listing.namespace_id, [], {release.pk}, {release.pk}
    while level:
        copies = LineageEdge.objects.filter(child__in=level, relation=Relation.COPY, parent__isnull=False)
        level = set()
        for edge in copies.select_related("parent__listing__namespace", "parent__terms"):
            if edge.parent is None or edge.parent.pk in seen:
                continue
            seen.add(edge.parent.pk)
            if edge.parent.listing.namespace_id == owner:
                level.add(edge.parent.pk)
            else:
                found.append(edge.parent)
    return found


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


def sold_with(order: Order) -> Release | None:
    """Returns the release that the order is for. Of one that was placed before orders named it: the newest that was
    published under its terms."""
    if order.release is not None:
        return order.release
    rows = Release.objects.filter(listing=order.listing_id, terms=order.terms_id, published_at__isnull=False)
    return rows.select_related("listing", "terms").order_by("-published_at", "-id").first()


def royalty_claims(release: Release) -> list[Claim]:
    """What every ancestor may ask of a sale of the release, under the terms of the time when it was used and for
    its owner of now; a query for each step up.

    For what lies further up a step between two models of one owner is no generation: else whoever sells would put a
    model of their own in between, and owe nothing to those whose terms name few generations."""
    claims: list[Claim] = []
    level, seen, generations = {release.pk}, {release.pk}, 0
    while level:
        generations += 1
        above: set[int] = set()
        while level:
            edges = LineageEdge.objects.filter(child__in=level, parent__isnull=False)
            level, found = set(), set()
            for edge in edges.select_related("parent__listing__namespace", "parent__terms", "terms", "child__listing"):
                if edge.parent is None or edge.parent.pk in seen:
                    continue
                claims.append(_claim(edge.parent, terms=edge.terms or edge.parent.terms, generations=generations))
                found.add(edge.parent.pk)
                is_own = edge.parent.listing.namespace_id == edge.child.listing.namespace_id
                (level if is_own else above).add(edge.parent.pk)
            seen |= found
            above -= level
        level = above
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


def bases_of(releases: Iterable[int | None], user: User | AnonymousUser) -> dict[int, list[str]]:
    """Returns the models, as far as the user may see them, that each release was made from, by its key."""
    edges = LineageEdge.objects.filter(child__in=[pk for pk in releases if pk], parent__isnull=False)
    found: dict[int, list[str]] = {}
    if not edges.exists():  # of most; who may see what is costly to ask
        return found
    for edge in edges.shown_to(user).order_by("id"):
        if edge.parent is not None and edge.is_parent_shown:  # type: ignore[attr-defined]  # by shown_to
            found.setdefault(edge.child_id, []).append(str(edge.parent.listing))
    return found


def downloads_of(listings: Iterable[int], *, now: datetime) -> dict[int, dict[str, int]]:
    """Returns the counted downloads of each listing by its key: in the last 30 days (`month`) and in `all`."""
    rows = Download.objects.filter(artifact__release__listing__in=list(listings), day__isnull=False)
    since = timezone.localdate(now) - timedelta(days=30)
    counted = rows.values_list("artifact__release__listing").annotate(
        all=Count("pk"), month=Count("pk", filter=Q(day__gt=since))
    )
    return {pk: {"all": total, "month": month} for pk, total, month in counted}


def number_of(rows: QuerySet[Any], *, of: str) -> Coalesce:
    """Counts rows apart, in a subquery: two joins in one query would multiply each other."""
    counted = rows.order_by().values(of).annotate(number=Count("pk")).values("number")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)
