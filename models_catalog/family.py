"""The whole lineage of a release, read generation by generation: what it comes from, and what comes from it.

Every walk is bounded by a set of what was seen and by MAX_NODES. A release that does not exist for the reader is
there by its digest alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from django.contrib.auth.models import AnonymousUser
from django.db.models import Exists, OuterRef, QuerySet

from finetuning.engine.spec import SIGNED_RECEIPT_FILE
from marketplace.accounts.models import User
from models_catalog.models import Artifact, Flag, LineageEdge, Release
from models_catalog.models.listings import PUBLISHED_ONCE, ReleaseQuerySet
from models_catalog.selectors import PRIVATE_MODEL

MAX_NODES = 500
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Link:
    """One step: `child` was made from `parent` (keys of nodes)."""

    child: str
    parent: str
    relation: str
    relation_title: str


@dataclass(frozen=True, slots=True)
class Node:
    """A release or dataset of the lineage. `release` is None for a dataset, and for a model that does not exist
    for the reader: of that one only the digest is told."""

    key: str
    generation: int  # below 0: ancestors; 0: the release itself; above: what was made from it
    title: str
    digest: str
    terms_name: str = ""
    release: Release | None = None
    is_dataset: bool = False
    has_receipt: bool = False
    is_flagged: bool = False
    parents: list[tuple[str, Node]] = field(default_factory=list)  # how it was made, from what

    @property
    def kind(self) -> str:
        return "dataset" if self.is_dataset else "private_model" if self.is_private else "model"

    @property
    def is_private(self) -> bool:
        return self.release is None and not self.is_dataset


@dataclass(frozen=True, slots=True)
class Family:
    nodes: list[Node]
    links: list[Link]
    is_whole: bool  # False where the lineage is larger than MAX_NODES

    @property
    def generations(self) -> list[tuple[int, str, list[Node]]]:
        """The nodes by generation, from the roots down, with what the generation is called."""
        found: dict[int, list[Node]] = {}
        for node in self.nodes:
            found.setdefault(node.generation, []).append(node)
        return [(generation, _title(generation), nodes) for generation, nodes in sorted(found.items())]


def _title(generation: int) -> str:
    near = {-1: "Made from", 0: "This release", 1: "Made from this release"}
    return near.get(generation) or f"{abs(generation)} steps {'up' if generation < 0 else 'down'}"


def family(release: Release, user: User | AnonymousUser) -> Family:
    """Returns the lineage of the release as the user may see it, in a number of queries that depends on its
    generations alone."""
    generations = {release.pk: 0}
    up, whole_up = _walk(generations, release.pk, step=-1)
    down, whole_down = _walk(generations, release.pk, step=1)
    releases = _releases(generations, user)
    nodes = {pk: _node(releases[pk], generation) for pk, generation in generations.items() if pk in releases}
    datasets: dict[str, Node] = {}
    links = []
    for edge in sorted({edge.pk: edge for edge in (*up, *down)}.values(), key=lambda edge: edge.pk):
        child = nodes.get(edge.child_id)
        parent = nodes.get(edge.parent_id) if edge.parent_id else _dataset(edge, datasets, child)
        if child is None or parent is None:
            continue
        child.parents.append((edge.get_relation_display(), parent))
        links.append(Link(child.key, parent.key, edge.relation, edge.get_relation_display()))
    told = sorted(
        [*nodes.values(), *datasets.values()], key=lambda node: (node.generation, node.is_dataset, node.title)
    )
    return Family(told, links, whole_up and whole_down)


def ancestors_and_edges(release: Release) -> tuple[list[Release], list[LineageEdge]]:
    """Returns every ancestor, the nearest first, and every edge between them and the release: for documents,
    which are the same for every reader."""
    generations = {release.pk: 0}
    edges, _ = _walk(generations, release.pk, step=-1, most=None)
    rows = Release.objects.select_related("listing__namespace", "terms").prefetch_related("artifacts")
    found = {row.pk: row for batch in _batches(generations) for row in rows.filter(pk__in=batch)}
    order = sorted(generations, key=lambda pk: (-generations[pk], pk))
    return [found[pk] for pk in order if pk != release.pk], edges


def _walk(
    generations: dict[int, int], start: int, *, step: int, most: int | None = MAX_NODES
) -> tuple[list[LineageEdge], bool]:
    """Adds the generation of everything above (`step` -1) or below (1) to `generations`; returns the edges, and
    whether all were read."""
    here, there = ("child", "parent") if step < 0 else ("parent", "child")
    frontier, found, depth = [start], [], 0
    while frontier:
        depth += step
        edges = [
            edge
            for batch in _batches(frontier)
            for edge in LineageEdge.objects.filter(**{f"{here}__in": batch}).select_related("terms").order_by("pk")
        ]
        found += edges
        reached = {getattr(edge, f"{there}_id") for edge in edges} - {None} - generations.keys()
        frontier = sorted(reached)
        if most is not None and len(generations) + len(frontier) > most:
            return found, False
        generations |= dict.fromkeys(frontier, depth)
    return found, True


def _releases(generations: dict[int, int], user: User | AnonymousUser) -> dict[int, Release]:
    """Returns the rows by key. What was never published and is not the reader's is left out: nobody else has
    seen it, and it has no digest."""
    found: dict[int, Release] = {}
    for batch in _batches(generations):
        for row in _annotated(Release.objects.filter(pk__in=batch), user):
            if row.is_shown or row.status in PUBLISHED_ONCE:  # type: ignore[attr-defined]  # annotated
                found[row.pk] = row
    return found


def _annotated(releases: ReleaseQuerySet, user: User | AnonymousUser) -> QuerySet[Release]:
    flags = Flag.objects.filter(release=OuterRef("pk"), incident__resolved_at__isnull=True)
    return releases.select_related("listing__namespace", "terms").annotate(
        is_shown=Exists(Release.objects.visible_to(user).filter(pk=OuterRef("pk"))),
        is_flagged=Exists(flags),
        has_receipt=Exists(Artifact.objects.filter(release=OuterRef("pk"), path=SIGNED_RECEIPT_FILE)),
    )


def _node(row: Release, generation: int) -> Node:
    digest = row.manifest_sha256
    if not row.is_shown:  # type: ignore[attr-defined]  # annotated
        return Node(f"m-{digest[:16]}", generation, PRIVATE_MODEL, digest)
    return Node(
        f"r-{row.pk}",
        generation,
        str(row),
        digest,
        row.terms.name,
        row,
        has_receipt=row.has_receipt,  # type: ignore[attr-defined]  # annotated
        is_flagged=row.is_flagged,  # type: ignore[attr-defined]  # annotated
    )


def _dataset(edge: LineageEdge, datasets: dict[str, Node], child: Node | None) -> Node | None:
    """A dataset is told by name and digest, once however often it was trained on; not at all under a model whose
    digest alone is told."""
    if child is None or child.is_private:
        return None
    key = f"d-{edge.dataset_sha256[:16]}"
    return datasets.setdefault(
        key,
        Node(
            key,
            child.generation - 1,
            edge.dataset_name,
            edge.dataset_sha256,
            edge.terms.name if edge.terms else "",
            is_dataset=True,
        ),
    )


def _batches(keys: Iterable[int]) -> Iterator[list[int]]:
    ordered = sorted(keys)
    return (ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH))
