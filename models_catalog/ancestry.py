"""Loads lineages for the verdict: the whole of one, in a constant number of queries."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db.models.expressions import RawSQL

from marketplace.accounts.models import User
from models_catalog.models import Grant, LicenseTerms, LineageEdge, Order, Release
from models_catalog.presets import OWN_DATA
from models_catalog.selectors import PRIVATE_MODEL, sold_with
from models_catalog.terms import Terms
from models_catalog.verdict import Edge, Effective, Lineage, Node, effective

Person = User | AnonymousUser
CHILD = "child"  # the key of what the lineage is of
# The releases themselves and all that is above them.
_UPWARDS = """
    WITH RECURSIVE above(id) AS (
        SELECT id FROM models_catalog_release WHERE id IN ({roots})
        UNION
        SELECT edge.parent_id FROM models_catalog_lineageedge edge
        JOIN above ON edge.child_id = above.id WHERE edge.parent_id IS NOT NULL
    )
    SELECT id FROM above
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One thing that something was made of, under which terms: a release, or data told by their digest. Data
    without terms are from before data had any."""

    relation: str
    terms_id: int | None
    parent_id: int | None = None
    grant_id: uuid.UUID | None = None
    dataset_name: str = ""
    dataset_sha256: str = ""


_FIELDS = ("relation", "terms_id", "parent_id", "grant_id", "dataset_name", "dataset_sha256")


def release_of(node: Node) -> int | None:
    """Returns the id of the release that a node of these lineages is; None for data."""
    kind, number, _ = node.key.split(":")
    return int(number) if kind == "release" else None


def link_of(edge: LineageEdge) -> Link:
    return Link(**{name: getattr(edge, name) for name in _FIELDS})


def links_of(release: Release) -> list[Link]:
    """Returns what the release was made of."""
    return [link_of(edge) for edge in release.parent_edges.all()]


def bounds_of(release: Release, *, user: Person | None = None) -> Effective:
    """Returns what the release may carry at most, by its lineage."""
    return bounds(links_of(release), owner_id=release.listing.namespace_id, user=user)


def last_end(order: Order) -> datetime | None:
    """Returns when a license that follows from the order ends at the latest: with that of a parent, under which the
    vendor offers what was made of it. None: without end."""
    release = sold_with(order)
    return bounds_of(release).expires_at if release else None


def bounds(links: Iterable[Link], *, owner_id: int | None = None, user: Person | None = None) -> Effective:
    """Returns what something made of all these may carry at most."""
    return effective(lineage(links, owner_id=owner_id, user=user), CHILD)


def lineage(links: Iterable[Link], *, owner_id: int | None = None, user: Person | None = None) -> Lineage:
    """Returns the lineage of the child of these links, whose key is CHILD. Where a namespace makes something of a
    model of its own, that model's terms bind nothing: nobody is their own licensee, and what they publish it under
    is theirs to say. Parents that do not exist for the user are called a private model; without a user, all have
    their names."""
    direct = list(links)
    if not direct:
        return Lineage({}, {})
    above = _links_above({link.parent_id for link in direct if link.parent_id})
    every = [*direct, *(link for links in above.values() for link in links)]
    parents = {link.parent_id for link in every if link.parent_id}
    tree = _Tree(
        owner_id=owner_id,
        owners=dict(Release.objects.filter(pk__in=parents).values_list("pk", "listing__namespace_id")),
        names=_names(parents, user),
        terms=_terms({link.terms_id for link in every if link.terms_id}),
        ends=_ends({link.grant_id for link in every if link.grant_id}),
    )
    tree.add(CHILD, direct, owner=owner_id)
    for link in every:
        for key in (_key(link, is_own=False), _key(link, is_own=True)):
            if link.parent_id in above and key not in tree.edges:
                tree.add(key, above[link.parent_id], owner=tree.owners[link.parent_id])
    return Lineage(tree.nodes, tree.edges)


def _key(link: Link, *, is_own: bool) -> str:
    source = f"release:{link.parent_id}" if link.parent_id else f"data:{link.dataset_sha256}"
    return f"{source}:{'own' if is_own else link.terms_id}"


@dataclass(slots=True, kw_only=True)
class _Tree:
    """What was read, and the nodes and edges that come of it."""

    owner_id: int | None
    owners: dict[int, int]
    names: dict[int, str]
    terms: dict[int, Terms]
    ends: dict[uuid.UUID, datetime]
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: dict[str, list[Edge]] = field(default_factory=dict)

    def add(self, key: str, links: Iterable[Link], *, owner: int | None) -> None:
        """Adds what one thing was made of."""
        self.edges[key] = []
        for link in links:
            is_own = link.parent_id is not None and self.owners[link.parent_id] in {owner, self.owner_id}
            node = self._node(link, is_own=is_own)
            self.nodes[node.key] = node
            end = self.ends.get(link.grant_id) if link.grant_id else None
            self.edges[key].append(Edge(node.key, link.relation, end))

    def _node(self, link: Link, *, is_own: bool) -> Node:
        terms = self.terms.get(link.terms_id or 0, OWN_DATA)
        if is_own:
            terms = Terms(name=terms.name, license_id=terms.license_id, rights=OWN_DATA.rights)
        if link.parent_id is None:
            return Node(_key(link, is_own=False), f"the data “{link.dataset_name}”", terms, is_data=True)
        return Node(_key(link, is_own=is_own), self.names.get(link.parent_id, PRIVATE_MODEL), terms)


def _terms(ids: set[int]) -> dict[int, Terms]:
    return {pk: row.value for pk, row in LicenseTerms.objects.only("document").in_bulk(ids).items()}


def _links_above(parents: set[int]) -> dict[int, list[Link]]:
    """Returns the links of each of the releases and of all that is above them."""
    found: dict[int, list[Link]] = {}
    if not parents:
        return found
    statement = _UPWARDS.format(roots=", ".join(["%s"] * len(parents)))
    above = RawSQL(statement, sorted(parents))  # noqa: S611 - the statement is ours, its values are parameters
    rows = LineageEdge.objects.filter(child__in=above)
    for row in rows.values("child_id", *_FIELDS).order_by("id"):
        found.setdefault(row.pop("child_id"), []).append(Link(**row))
    return found


def _names(releases: set[int], user: Person | None) -> dict[int, str]:
    shown = Release.objects.all() if user is None else Release.objects.visible_to(user)
    rows = shown.filter(pk__in=releases).values_list("pk", "listing__namespace__name", "listing__name", "version")
    return {pk: f"{namespace}/{name}@{version}" for pk, namespace, name, version in rows}


def _ends(grants: set[uuid.UUID]) -> dict[uuid.UUID, datetime]:
    """Returns when the licenses end under which things were made, where they do: with the holder's present license
    of the same terms, however often it was renewed, and without one when the last was revoked, passed on or over."""
    made = {row["pk"]: _key_of(row) for row in Grant.objects.filter(pk__in=grants).values("pk", *_HELD)}
    columns = [set(column) for column in zip(*made.values(), strict=True)]
    if not columns:
        return {}
    same = Grant.objects.filter(**{f"{name}__in": column for name, column in zip(_HELD, columns, strict=True)})
    current: dict[tuple[int, ...], datetime | None] = {}
    over: dict[tuple[int, ...], datetime] = {}
    for row in same.values(*_HELD, *_ENDINGS, "expires_at"):
        key, ended = _key_of(row), min(filter(None, (row[name] for name in _ENDINGS)), default=None)
        if ended is None:
            current[key] = row["expires_at"]  # one at most: a constraint says so
        else:
            ended = min(filter(None, (ended, row["expires_at"])))
            over[key] = max(ended, over.get(key, ended))
    ends = {pk: current[key] if key in current else over[key] for pk, key in made.items()}
    return {pk: end for pk, end in ends.items() if end is not None}


_HELD = ("licensee_id", "listing_id", "terms_id")
_ENDINGS = ("revoked_at", "transferred_at", "superseded_at")


def _key_of(row: dict[str, Any]) -> tuple[int, ...]:
    return tuple(row[name] for name in _HELD)
