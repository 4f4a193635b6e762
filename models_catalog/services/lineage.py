"""What a release was made from: taken over by a new version, declared by a vendor, recorded of a run, and
demanded where the weights are known."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from finetuning.engine.spec import KERAS_FILE, WEIGHTS_FILE, weights_file
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from models_catalog import ancestry, policies, selectors
from models_catalog.models import Artifact, LicenseTerms, LineageEdge, Listing, Release, WeightsOrigin
from models_catalog.models.lineage import Relation
from models_catalog.models.listings import EDITABLE, PUBLISHED_ONCE, ReleaseQuerySet
from models_catalog.services.licensing import terms_row
from models_catalog.verdict import Effective, credited


@dataclass(frozen=True, slots=True)
class Training:
    """What a run made its weights from: the parent, under the license of that time, and data by its digest."""

    parent: Release
    grant_id: uuid.UUID | None
    terms_id: int
    dataset_name: str
    dataset_sha256: str
    dataset_terms_id: int | None


def inherited(listing: Listing) -> list[LineageEdge]:
    """Returns the edges of the listing's newest release: what a further version of it also comes from."""
    newest = listing.releases.order_by("-id").first()
    return list(newest.parent_edges.select_related("terms").order_by("id")) if newest else []


def take_over(edges: Iterable[LineageEdge], *, release: Release) -> None:
    """Gives the release copies of an earlier version's edges."""
    for edge in edges:
        edge.pk, edge.child = None, release
        edge.save(force_insert=True)


def carrying(terms: LicenseTerms, *, bound: Effective, name: str) -> LicenseTerms:
    """Returns the terms with the credits that the lineage asks for added. Raises Denied (`terms_too_wide`,
    `price_not_allowed`, `lineage_clash`, `name_prefix_missing`, ...) where an ancestor forbids the terms or the
    listing's name."""
    if not bound.ancestors:
        return terms
    value = credited(terms.value, bound)
    require(policies.may_offer(value, bound, name=name))
    return terms_row(value)


def declare(*, user: User, release: Release, parent: Release, relation: str, now: datetime) -> LineageEdge:
    """Records that the draft was made from `parent`, under the license that the draft's namespace holds, and
    adds the parent's credit to the draft's terms.

    Raises Denied (`release_frozen`, `derivative_frozen`, `not_published`, `no_license`, `use_not_granted`,
    `terms_too_wide`, `price_below_floor`, ...), Conflict (`release_frozen`) where the draft was submitted
    meanwhile, Invalid (`lineage_cycle`, `not_a_copy`)."""
    holder = release.listing.namespace
    require(policies.may_edit_release(user, release))
    require(policies.may_declare_parent(user, parent, relation=relation, now=now, holder=holder))
    with transaction.atomic():
        row = Release.objects.select_for_update(of=("self",), no_key=True).select_related("terms").get(pk=release.pk)
        if row.status not in EDITABLE:
            raise Conflict("release_frozen", "This release was submitted meanwhile. Create a new version.")
        _require_no_cycle(release, parent)
        _require_copy(release, parent, relation)
        grant = selectors.covering_grant(holder, parent, now=now)
        link = ancestry.Link(
            relation=relation, terms_id=parent.terms_id, parent_id=parent.pk, grant_id=grant.pk if grant else None
        )
        bound = ancestry.bounds([*ancestry.links_of(release), link], owner_id=holder.pk, user=user)
        terms = carrying(row.terms, bound=bound, name=release.listing.name)
        Release.objects.filter(pk=row.pk).update(terms=terms)
        edge, _ = LineageEdge.objects.get_or_create(
            child=release,
            parent=parent,
            relation=relation,
            defaults={"grant": grant, "terms": parent.terms, "parent_manifest_sha256": parent.manifest_sha256},
        )
        require(policies.may_price(Release.objects.select_related("listing", "terms").get(pk=row.pk)))
        details = {"parent": str(parent), "relation": relation}
        audit.record("lineage.declare", actor=user, namespace=holder, subject=release, details=details)
    return edge


def _require_no_cycle(child: Release, parent: Release) -> None:
    """Only drafts get parents and only published releases become parents, so that none is its own ancestor; this
    says so in words where the rows should ever say otherwise."""
    if child.pk == parent.pk or child.pk in LineageEdge.objects.ancestors_of(parent.pk):
        text = f"{parent} comes from this release itself. Declare what it was really made from."
        raise Invalid("lineage_cycle", text, field="listing")


def _require_copy(release: Release, parent: Release, relation: str) -> None:
    """Passing on the very same weights asks for another right than passing on a derivative."""
    sha256 = _weights_of([release.pk, parent.pk])
    if relation == Relation.COPY and sha256.get(release.pk, "") != sha256.get(parent.pk, "") and len(sha256) > 1:
        text = f"These are other weights than {parent}'s. Say what was done: a fine-tune, a merge, a quantization, ..."
        raise Invalid("not_a_copy", text, field="relation")


def _weights_of(releases: Iterable[int]) -> dict[int, str]:
    files = Artifact.objects.filter(release__in=list(releases), path__in=(WEIGHTS_FILE, KERAS_FILE))
    return dict(files.values_list("release_id", "sha256"))


def _correct_copies(user: User, release: Release, sha256: str) -> None:
    """A draft's weights may have changed since its parents were declared, or since the version whose parents it took
    over. What is no copy any more is a derivative, unless the weights are those of another release that it copies."""
    edges = list(release.parent_edges.filter(relation=Relation.COPY).select_related("parent__listing__namespace"))
    theirs = _weights_of(edge.parent_id for edge in edges if edge.parent_id)
    is_copy = any(theirs.get(edge.parent_id or 0) == sha256 for edge in edges)
    for edge in edges:
        if theirs.get(edge.parent_id or 0, sha256) == sha256:
            continue  # the same, or the parent's weights are not on this server
        again = release.parent_edges.filter(parent=edge.parent_id, relation=Relation.FINETUNE)
        if is_copy or again.exists():
            edge.delete()
        else:
            LineageEdge.objects.filter(pk=edge.pk).update(relation=Relation.FINETUNE)
        details = {"parent": str(edge.parent), "relation": "" if is_copy else Relation.FINETUNE.value}
        namespace = release.listing.namespace
        audit.record("lineage.correct", actor=user, namespace=namespace, subject=release, details=details)


def record_weights(*, sha256: str, parent: Release) -> None:
    """Remembers what weights that were trained here come from; call it with the run's other results."""
    WeightsOrigin.objects.get_or_create(sha256=sha256, parent=parent)


def record_training(*, release: Release, training: Training) -> None:
    """Gives the release its edges to the parent and to the data; recording them twice changes nothing. Raises
    Invalid (`lineage_cycle`)."""
    _require_no_cycle(release, training.parent)
    LineageEdge.objects.get_or_create(
        child=release,
        parent=training.parent,
        relation=Relation.FINETUNE,
        defaults={
            "grant_id": training.grant_id,
            "terms_id": training.terms_id,
            "parent_manifest_sha256": training.parent.manifest_sha256,
        },
    )
    LineageEdge.objects.get_or_create(
        child=release,
        relation=Relation.TRAINED_ON,
        dataset_sha256=training.dataset_sha256,
        defaults={"dataset_name": training.dataset_name, "terms_id": training.dataset_terms_id},
    )


def require_declared(*, user: User, release: Release) -> None:
    """Raises Invalid (`lineage_undeclared`, naming the releases) where the release has weights that are known
    here and does not say whose they are or what they were made from. A run's result has its edges from the run;
    that somebody else's run came to the same bytes makes it no copy."""
    if release.is_measured:
        return
    sha256 = release.artifacts.values_list("sha256", flat=True).get(path=weights_file(release.listing.framework))
    _correct_copies(user, release, sha256)
    edges = set(release.parent_edges.filter(parent__isnull=False).values_list("parent_id", "relation"))
    copied = {parent for parent, relation in edges if relation == Relation.COPY}
    told = {parent for parent, _ in edges} | _parents(Release.objects.filter(pk__in=copied))
    missing = (_foreign_owners(user, release, sha256) - copied) | (_known_parents(user, release, sha256) - told)
    if missing:
        names = selectors.names_shown_to(user, missing)
        raise Invalid(
            "lineage_undeclared",
            f"These weights are known here: they come from {', '.join(names)}. Declare that as a parent, which "
            "its license must allow, or submit weights of your own.",
            items=names,
        )


def _twins(release: Release, sha256: str) -> ReleaseQuerySet:
    same = Artifact.objects.filter(path__in=(WEIGHTS_FILE, KERAS_FILE), sha256=sha256).values("release_id")
    return Release.objects.filter(pk__in=same).exclude(pk=release.pk)


def _foreign_owners(user: User, release: Release, sha256: str) -> set[int]:
    """Releases of vendors that the user does not write for, with the very same weights; of copies of copies
    only the first. Drafts do not count: nobody else has seen them."""
    twins = _twins(release, sha256)
    theirs = twins.exclude(listing__namespace__in=Namespace.objects.writable_by(user))
    public = theirs.filter(status__in=PUBLISHED_ONCE)
    return set(public.exclude(parent_edges__parent__in=twins.values("pk")).values_list("pk", flat=True))


def _known_parents(user: User, release: Release, sha256: str) -> set[int]:
    """What these weights were made from, as a run or another release of the same vendor tells."""
    own = _twins(release, sha256).filter(listing__namespace__in=Namespace.objects.writable_by(user))
    return _parents(own) | set(WeightsOrigin.objects.filter(sha256=sha256).values_list("parent_id", flat=True))


def _parents(releases: ReleaseQuerySet) -> set[int]:
    edges = LineageEdge.objects.filter(child__in=releases.values("pk"), parent__isnull=False)
    return set(edges.values_list("parent_id", flat=True))
