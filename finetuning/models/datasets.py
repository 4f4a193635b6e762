"""Uploads, and what inspection made of them."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.reach import reach_of
from models_catalog.models import LicenseTerms
from models_catalog.models.listings import TASKS


class DatasetStatus(models.TextChoices):
    CHECKING = "checking", "Checking"
    VALID = "valid", "Ready"
    INVALID = "invalid", "Cannot be used"


SOURCES: dict[str, tuple[str, ...]] = {
    DatasetStatus.CHECKING: (DatasetStatus.INVALID,),  # the server had failed at it: datasets.recheck
    DatasetStatus.VALID: (DatasetStatus.CHECKING,),
    DatasetStatus.INVALID: (DatasetStatus.CHECKING,),
}


# Where the conditions of `Reach.datasets_within` lie for what was made from a version.
DATASET_OF_VERSION = {"uid": "dataset_version__dataset__uid", "owner": "dataset_version__dataset__owner__name"}


class DatasetQuerySet(models.QuerySet["Dataset"]):
    def visible_to(self, user: User | AnonymousUser) -> DatasetQuerySet:
        """Those of the user's namespaces, as far as the token reaches that the request came with."""
        rows = self.filter(owner__in=Namespace.objects.of(user), deleted_at__isnull=True)
        reach = reach_of(user)
        return rows if reach is None else rows.filter(reach.datasets_within(uid="uid", owner="owner__name"))

    def transition(self, pk: int, *, to: str, **fields: Any) -> bool:
        return self.filter(pk=pk, status__in=SOURCES[to]).update(status=to, **fields) == 1


class Dataset(models.Model):
    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)  # the id that people and clients see
    owner = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="datasets")
    name = models.CharField(max_length=120)
    task = models.CharField(max_length=30, choices=TASKS)
    status = models.CharField(max_length=10, choices=DatasetStatus.choices, default=DatasetStatus.CHECKING)
    upload_sha256 = models.CharField(max_length=64)
    upload_bytes = models.BigIntegerField()
    upload_name = models.CharField(max_length=255)
    problems = models.JSONField(default=list)  # [{code, message, items}]
    # What its owner says of the license of the data; none, of uploads before this was asked, are the owner's own.
    terms = models.ForeignKey(LicenseTerms, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = DatasetQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"], condition=Q(deleted_at__isnull=True), name="finetuning_dataset_name_once"
            ),
            models.CheckConstraint(condition=Q(status__in=DatasetStatus.values), name="finetuning_dataset_status"),
        ]

    def __str__(self) -> str:
        return self.name


class DatasetVersion(models.Model):
    """One immutable inspected state. The test pack is apart: a trainer is never given it."""

    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    digest = models.CharField(max_length=64)
    # Frozen, so that what was trained on this version stays under what was said of it then.
    terms = models.ForeignKey(LicenseTerms, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    report = models.JSONField()
    labels = models.JSONField()
    images = models.PositiveIntegerField()  # or texts: how many items it has
    train_pack_sha256 = models.CharField(max_length=64)
    test_pack_sha256 = models.CharField(max_length=64)
    thumbnails_sha256 = models.CharField(max_length=64)
    index_sha256 = models.CharField(max_length=64)
    evaluations = models.PositiveIntegerField(default=0)  # how often the test split was looked at
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["dataset", "number"], name="finetuning_datasetversion_number_once")
        ]

    def __str__(self) -> str:
        return f"{self.dataset} v{self.number}"

    @property
    def is_multi_label(self) -> bool:
        """Whether its images show any number of classes each."""
        return bool(self.report.get("multi_label"))
