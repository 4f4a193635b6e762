"""What a fine-tune will take, as told before it is launched."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from finetuning.engine.spec import Strategy
from finetuning.models.datasets import DATASET_OF_VERSION, DatasetVersion
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.reach import reach_of
from models_catalog.models import Release

STANDS_FOR = timedelta(days=7)  # then the server may be another one


class EstimateStatus(models.TextChoices):
    WAITING = "waiting", "Measuring"
    READY = "ready", "Ready"
    FAILED = "failed", "Failed"


class EstimateMethod(models.TextChoices):
    HISTORY = "history", "Runs like it"
    REHEARSAL = "rehearsal", "A rehearsal"


class EstimateQuerySet(models.QuerySet["Estimate"]):
    def visible_to(self, user: User | AnonymousUser) -> EstimateQuerySet:
        """Those of the user's namespaces; with a token that is limited, those on a dataset within its reach."""
        rows, reach = self.filter(owner__in=Namespace.objects.of(user)), reach_of(user)
        return rows if reach is None else rows.filter(reach.datasets_within(**DATASET_OF_VERSION))

    def waiting(self) -> EstimateQuerySet:
        return self.filter(status=EstimateStatus.WAITING)

    def standing(self, owner: Namespace, spec_sha256: str, *, now: datetime) -> EstimateQuerySet:
        """Those of this very fine-tune that still hold, the newest first."""
        ready = self.filter(owner=owner, spec_sha256=spec_sha256, status=EstimateStatus.READY)
        return ready.filter(created_at__gt=now - STANDS_FOR).order_by("-created_at")

    def end(self, pk: int, *, to: str, **fields: object) -> bool:
        """Compare-and-swap of the status: False where it has ended already."""
        return self.filter(pk=pk, status=EstimateStatus.WAITING).update(status=to, **fields) == 1


class Estimate(models.Model):
    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="estimates")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="+")
    dataset_version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="+")
    strategy = models.CharField(max_length=10, choices=[(item.value, item.value) for item in Strategy])
    hyper = models.JSONField(default=dict)
    spec_sha256 = models.CharField(max_length=64)  # the one that the run will have
    status = models.CharField(max_length=10, choices=EstimateStatus.choices, default=EstimateStatus.WAITING)
    method = models.CharField(max_length=10, choices=EstimateMethod.choices, blank=True)
    hardware = models.CharField(max_length=200, blank=True)
    seconds = models.FloatField(null=True)  # of compute, over both engines of a run
    low_seconds = models.FloatField(null=True)
    high_seconds = models.FloatField(null=True)
    # The share of new runs that the interval holds, where past runs say it; None where it is a margin of ours.
    coverage = models.FloatField(null=True)
    past_runs = models.PositiveIntegerField(default=0)  # that the interval was made from
    peak_memory_bytes = models.BigIntegerField(null=True)
    measured = models.JSONField(default=dict)  # the estimate verb's `estimate`; {} of one from history alone
    beside = models.PositiveIntegerField(default=0)  # runs that the server worked on while it was measured
    failure_code = models.CharField(max_length=60, blank=True)
    failure_message = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = EstimateQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=EstimateStatus.values), name="finetuning_estimate_status"),
            models.UniqueConstraint(
                fields=["owner", "spec_sha256"], condition=Q(status="waiting"), name="finetuning_estimate_waiting_once"
            ),
        ]

    def __str__(self) -> str:
        return f"Estimate {str(self.uid)[:8]}"

    @property
    def is_ready(self) -> bool:
        return self.status == EstimateStatus.READY
