"""Listings, their immutable releases and the files of a release."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.db.models.functions import Lower

from finetuning.engine.spec import TARGETS, Framework, Task
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import validate_name
from models_catalog.models.licensing import Grant, LicenseTerms

TASKS = [(task.value, task.value.replace("-", " ").capitalize()) for task in Task]
FRAMEWORKS = [
    (Framework.TORCHVISION.value, "torchvision"),
    (Framework.TIMM.value, "timm"),
    (Framework.TRANSFORMERS.value, "Transformers"),
    (Framework.KERAS.value, "Keras"),
]


class ListingQuerySet(models.QuerySet["Listing"]):
    def live(self) -> ListingQuerySet:
        return self.filter(latest_release__isnull=False)

    def tunable(self, task: Task | None = None) -> ListingQuerySet:
        """Those whose releases can be tuned, to do `task` where one is given."""
        kinds = (kind for kind, targets in TARGETS.items() if task is None or task in targets)
        return self.filter(reduce(or_, (Q(task=made_for, framework=framework) for made_for, framework in kinds)))

    def managed_by(self, user: User | AnonymousUser) -> ListingQuerySet:
        return self.filter(namespace__in=Namespace.objects.writable_by(user))

    def visible_to(self, user: User | AnonymousUser) -> ListingQuerySet:
        """Published listings for everybody; drafts for the members of their namespace; and what was bought
        stays visible to its buyer."""
        if not user.is_authenticated:
            return self.live()
        if user.is_staff:
            return self
        mine = Namespace.objects.of(user)
        bought = Grant.objects.filter(listing=OuterRef("pk"), licensee__in=mine)
        return self.filter(Q(latest_release__isnull=False) | Q(namespace__in=mine) | Exists(bought))


class Listing(models.Model):
    """The thing in the catalog. What it is lies here; what can be had of it lies in its releases."""

    namespace = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="listings")
    name = models.CharField(max_length=96, validators=[validate_name])
    title = models.CharField(max_length=120)
    summary = models.CharField(max_length=300, blank=True)
    task = models.CharField(max_length=30, choices=TASKS)
    framework = models.CharField(max_length=20, choices=FRAMEWORKS)
    architecture = models.CharField(max_length=100)
    accuracy = models.FloatField(null=True, blank=True)  # published headline metric, 0..1
    accuracy_metric = models.CharField(max_length=80, blank=True)
    accuracy_source = models.CharField(max_length=300, blank=True)
    latest_release = models.ForeignKey("Release", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    # Of the reviews that are shown; services/reviews.py keeps them, so that a card needs no query.
    review_count = models.PositiveIntegerField(default=0)
    rating_total = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = ListingQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint("namespace", Lower("name"), name="models_catalog_listing_once"),
            models.CheckConstraint(
                condition=Q(accuracy__isnull=True) | Q(accuracy__gte=0, accuracy__lte=1),
                name="models_catalog_listing_accuracy",
            ),
            models.CheckConstraint(
                condition=Q(rating_total__gte=F("review_count"), rating_total__lte=5 * F("review_count")),
                name="models_catalog_listing_rating",
            ),
        ]
        indexes = [models.Index(fields=["task", "framework"], name="models_catalog_listing_facets")]

    def __str__(self) -> str:
        return f"{self.namespace.name}/{self.name}"

    @property
    def rating(self) -> float | None:
        """The mean of its reviews, 1 to 5."""
        return self.rating_total / self.review_count if self.review_count else None

    @property
    def targets(self) -> tuple[Task, ...]:
        """What its releases can be tuned to do; nothing where the engine cannot tune them."""
        return TARGETS.get((Task(self.task), Framework(self.framework)), ())


class ReleaseStatus(models.TextChoices):
    DRAFT = "draft", "Draft"
    VERIFYING = "verifying", "Verifying"
    READY = "ready", "Verified, not published"
    REJECTED = "rejected", "Rejected"
    PUBLISHED = "published", "Published"
    YANKED = "yanked", "Withdrawn"
    QUARANTINED = "quarantined", "Quarantined"


# status -> where it may come from; transition() and lift() below are the only writers of `status`.
SOURCES: dict[str, tuple[str, ...]] = {
    ReleaseStatus.DRAFT: (ReleaseStatus.REJECTED, ReleaseStatus.READY),
    ReleaseStatus.VERIFYING: (ReleaseStatus.DRAFT, ReleaseStatus.REJECTED),
    ReleaseStatus.READY: (ReleaseStatus.VERIFYING,),
    ReleaseStatus.REJECTED: (ReleaseStatus.VERIFYING,),
    ReleaseStatus.PUBLISHED: (ReleaseStatus.READY,),
    ReleaseStatus.YANKED: (ReleaseStatus.PUBLISHED,),
    ReleaseStatus.QUARANTINED: (ReleaseStatus.PUBLISHED, ReleaseStatus.YANKED),
}
EDITABLE = (ReleaseStatus.DRAFT, ReleaseStatus.REJECTED)
PUBLISHED_ONCE = (ReleaseStatus.PUBLISHED, ReleaseStatus.YANKED, ReleaseStatus.QUARANTINED)


class ReleaseQuerySet(models.QuerySet["Release"]):
    def visible_to(self, user: User | AnonymousUser) -> ReleaseQuerySet:
        """Published ones for all; every state for the namespace's members; yanked and quarantined ones for those
        who hold a grant that covers them."""
        published = Q(status=ReleaseStatus.PUBLISHED)
        if not user.is_authenticated:
            return self.filter(published)
        if user.is_staff:
            return self
        mine = Namespace.objects.of(user)
        kept = Q(status__in=(ReleaseStatus.YANKED, ReleaseStatus.QUARANTINED)) & Exists(
            Grant.objects.covering().filter(licensee__in=mine)
        )
        return self.filter(published | Q(listing__namespace__in=mine) | kept)

    def locked(self, pk: int) -> Release:
        """The release as it is now; its listing and then itself are locked until the transaction ends. What a
        listing offers changes under this lock alone."""
        Listing.objects.select_for_update(of=("self",), no_key=True).get(releases=pk)
        rows = self.select_for_update(of=("self",), no_key=True).select_related("listing__namespace", "terms")
        return rows.get(pk=pk)

    def transition(self, pk: int, *, to: str, **fields: Any) -> bool:
        """Compare-and-swap of the status: False where the row was not in a state that leads to `to`."""
        return self.filter(pk=pk, status__in=SOURCES[to]).update(status=to, **fields) == 1

    def lift(self, pk: int) -> bool:
        """Ends a quarantine by the state before it; False where there is none. No entry of SOURCES, so that
        nothing else leads out of a quarantine."""
        rows = self.filter(pk=pk, status=ReleaseStatus.QUARANTINED)
        return rows.update(status=F("quarantined_from"), quarantined_from="", quarantine_reason="") == 1


class Release(models.Model):
    """One immutable version: a tree of files. Editable until it is submitted, frozen once published."""

    listing = models.ForeignKey(Listing, on_delete=models.CASCADE, related_name="releases")
    version = models.CharField(max_length=40)
    status = models.CharField(max_length=12, choices=ReleaseStatus.choices, default=ReleaseStatus.DRAFT)
    terms = models.ForeignKey(LicenseTerms, on_delete=models.PROTECT, related_name="releases")
    notes = models.CharField(max_length=300, blank=True)
    manifest_sha256 = models.CharField(max_length=64, blank=True)
    # Weights that this server fetches on demand: their address and the digest's prefix that it publishes.
    remote_url = models.URLField(max_length=500, blank=True)
    remote_sha256_prefix = models.CharField(max_length=64, blank=True)
    # As measured by the verify job; for remote weights as their source publishes them.
    parameters = models.BigIntegerField(null=True, blank=True)
    gflops = models.FloatField(null=True, blank=True)
    input_size = models.PositiveIntegerField(null=True, blank=True)
    preprocessing = models.JSONField(default=dict, blank=True)
    labels = models.JSONField(default=list, blank=True)
    report = models.JSONField(default=dict, blank=True)
    metrics = models.JSONField(default=dict, blank=True)  # evaluation of a derivative, with its intervals
    publish_when_verified = models.BooleanField(default=False)
    yanked_reason = models.CharField(max_length=300, blank=True)
    quarantine_reason = models.CharField(max_length=300, blank=True)
    quarantined_from = models.CharField(max_length=12, blank=True)  # the state that lifting gives back
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True, blank=True)

    objects = ReleaseQuerySet.as_manager()

    class Meta:
        ordering = ["-published_at", "-id"]
        constraints = [
            models.UniqueConstraint(fields=["listing", "version"], name="models_catalog_release_version_once"),
            models.CheckConstraint(condition=Q(status__in=ReleaseStatus.values), name="models_catalog_release_status"),
            models.CheckConstraint(
                condition=~Q(status__in=["published", "yanked", "quarantined"]) | ~Q(manifest_sha256=""),
                name="models_catalog_release_published_manifest",
            ),
            models.CheckConstraint(
                condition=(Q(status="quarantined") & Q(quarantined_from__in=["published", "yanked"]))
                | (~Q(status="quarantined") & Q(quarantined_from="")),
                name="models_catalog_release_quarantined_from",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.listing}@{self.version}"

    @property
    def names_label_sets(self) -> bool:
        """Whether its verification has found that an answer is any number of the labels; of releases that were verified
        before this was asked nobody knows."""
        return bool(self.report.get("multi_label"))

    @property
    def sha(self) -> str:
        """The revision as Hub clients write it."""
        return self.manifest_sha256[:40]

    @property
    def is_live(self) -> bool:
        return self.status == ReleaseStatus.PUBLISHED

    @property
    def is_quarantined(self) -> bool:
        return self.status == ReleaseStatus.QUARANTINED

    @property
    def is_editable(self) -> bool:
        return self.status in EDITABLE

    @property
    def is_measured(self) -> bool:
        """True where this site made the files and measured them: the result of a run."""
        return bool(self.metrics)

    @property
    def is_remote(self) -> bool:
        """True while the weights are not on this server."""
        return bool(self.remote_url)


class Artifact(models.Model):
    """One file of a release."""

    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="artifacts")
    path = models.CharField(max_length=200)
    sha256 = models.CharField(max_length=64)
    bytes = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["path"]
        constraints = [models.UniqueConstraint(fields=["release", "path"], name="models_catalog_artifact_path_once")]
        indexes = [models.Index(fields=["sha256"], name="models_catalog_artifact_sha256")]

    def __str__(self) -> str:
        return self.path
