"""What a release was made from, frozen when it is made."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Exists, OuterRef

from marketplace.accounts.models import User
from models_catalog.models.licensing import Grant, LicenseTerms
from models_catalog.models.listings import Release

_WALK_BATCH = 500  # parameters that every database takes in one query


class Relation(models.TextChoices):
    FINETUNE = "finetune", "Fine-tuned from"
    ADAPTER = "adapter", "Adapter of"
    MERGE = "merge", "Merged from"
    QUANTIZED = "quantized", "Quantized from"
    DISTILLED = "distilled", "Distilled from"
    COPY = "copy", "Same weights as"
    TRAINED_ON = "trained_on", "Trained on"


class LineageEdgeQuerySet(models.QuerySet["LineageEdge"]):
    def shown_to(self, user: User | AnonymousUser) -> LineageEdgeQuerySet:
        """Adds `is_parent_shown`: a parent that does not exist for the user is told by its digest alone."""
        shown = Release.objects.visible_to(user).filter(pk=OuterRef("parent_id"))
        return self.select_related("parent__listing__namespace", "terms").annotate(is_parent_shown=Exists(shown))

    def descendants_of(self, release_id: int) -> set[int]:
        """Every release that comes from this one, in however many steps. One query a generation; a set of what
        was seen ends the walk, whatever the edges are."""
        return self._walk(release_id, start="parent", end="child")

    def ancestors_of(self, release_id: int) -> set[int]:
        """Every release that this one comes from, likewise."""
        return self._walk(release_id, start="child", end="parent")

    def _walk(self, release_id: int, *, start: str, end: str) -> set[int]:
        seen, frontier = {release_id}, [release_id]
        while frontier:
            found: set[int] = set()
            for first in range(0, len(frontier), _WALK_BATCH):
                edges = self.filter(**{f"{start}__in": frontier[first : first + _WALK_BATCH]}, parent__isnull=False)
                found.update(edges.values_list(f"{end}_id", flat=True))
            frontier = sorted(found - seen)
            seen |= found
        return seen - {release_id}


class LineageEdge(models.Model):
    """`child` comes from `parent` (a release) or from a dataset, told by its digest and name only: data
    stays private even where its derivative is public."""

    child = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="parent_edges")
    parent = models.ForeignKey(Release, null=True, blank=True, on_delete=models.PROTECT, related_name="child_edges")
    relation = models.CharField(max_length=12, choices=Relation.choices)
    grant = models.ForeignKey(Grant, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    terms = models.ForeignKey(LicenseTerms, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    parent_manifest_sha256 = models.CharField(max_length=64, blank=True)
    dataset_name = models.CharField(max_length=120, blank=True)
    dataset_sha256 = models.CharField(max_length=64, blank=True)

    objects = LineageEdgeQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["child", "parent", "relation", "dataset_sha256"], name="models_catalog_lineage_edge_once"
            ),
            models.CheckConstraint(
                condition=models.Q(parent__isnull=False) ^ ~models.Q(dataset_sha256=""),
                name="models_catalog_lineage_edge_one_parent",
            ),
            models.CheckConstraint(
                condition=models.Q(parent__isnull=True) | ~models.Q(parent=models.F("child")),
                name="models_catalog_lineage_edge_not_itself",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.child} {self.relation} {self.parent or self.dataset_name}"


class WeightsOrigin(models.Model):
    """Weights that this server trained, by their digest: from what stays known where nothing of them was
    published, and wherever they turn up again."""

    sha256 = models.CharField(max_length=64)
    parent = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sha256", "parent"], name="models_catalog_weights_origin_once"),
        ]

    def __str__(self) -> str:
        return f"{self.sha256[:12]} from {self.parent}"
