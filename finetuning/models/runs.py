"""Fine-tunes: the row is the truth, whatever the queue says."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from finetuning import failures
from finetuning.engine.headlines import Measured, headline
from finetuning.engine.spec import Strategy, Task
from finetuning.models.datasets import DATASET_OF_VERSION, DatasetVersion
from finetuning.models.estimates import Estimate
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.reach import reach_of
from models_catalog.models import Grant, LicenseTerms, Release


class RunStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    STARTING = "starting", "Starting"
    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    SUCCEEDED = "succeeded", "Done"
    FAILED = "failed", "Failed"
    CANCELED = "canceled", "Canceled"


ACTIVE = (RunStatus.QUEUED, RunStatus.STARTING, RunStatus.RUNNING)
OPEN = (*ACTIVE, RunStatus.PAUSED)  # not ended: the same fine-tune is not launched beside one of these
IN_HAND = (RunStatus.STARTING, RunStatus.RUNNING)
TERMINAL = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELED)
SOURCES: dict[str, tuple[str, ...]] = {
    RunStatus.QUEUED: IN_HAND,
    RunStatus.STARTING: (RunStatus.QUEUED,),
    RunStatus.RUNNING: (RunStatus.STARTING,),
    RunStatus.SUCCEEDED: IN_HAND,
    # A paused run is queued again by its owner alone (`RESUMED`), never by who gives work away.
    RunStatus.PAUSED: ACTIVE,
    RunStatus.FAILED: ACTIVE,
    RunStatus.CANCELED: OPEN,
}
RESUMED = (RunStatus.PAUSED,)


class RunQuerySet(models.QuerySet["Run"]):
    def visible_to(self, user: User | AnonymousUser) -> RunQuerySet:
        """Those of the user's namespaces; with a token that is limited, those on a dataset within its reach."""
        rows, reach = self.filter(owner__in=Namespace.objects.of(user)), reach_of(user)
        return rows if reach is None else rows.filter(reach.datasets_within(**DATASET_OF_VERSION))

    def active(self) -> RunQuerySet:
        return self.filter(status__in=ACTIVE)

    def open(self) -> RunQuerySet:
        return self.filter(status__in=OPEN)

    def transition(self, pk: int, *, to: str, sources: tuple[str, ...] = (), **fields: Any) -> bool:
        """Compare-and-swap of the status: False where another process was faster."""
        if to in TERMINAL:
            fields["checkpoints"] = {}
        return self.filter(pk=pk, status__in=sources or SOURCES[to]).update(status=to, **fields) == 1


NEXT_TRY = "next_try"  # the stage of a run that has failed by no fault of its owner's, and will be tried again


class Run(models.Model):
    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)  # the id that people and clients see
    owner = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="runs")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="runs")
    # The license as it was at launch: what the result may carry. No grant where the model is the owner's own.
    grant = models.ForeignKey(Grant, null=True, blank=True, on_delete=models.PROTECT, related_name="runs")
    terms = models.ForeignKey(LicenseTerms, on_delete=models.PROTECT, related_name="+")
    dataset_version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="runs")
    strategy = models.CharField(max_length=10, choices=[(item.value, item.value) for item in Strategy])
    hyper = models.JSONField(default=dict)
    # What was asked to be tried before the training, {} for nothing; and how that went, {} until it has ended:
    # from then on `strategy` and `hyper` are the winner's. Shapes: services/searches.py.
    search = models.JSONField(default=dict, blank=True)
    searched = models.JSONField(default=dict, blank=True)
    spec_sha256 = models.CharField(max_length=64)
    # What was told before the launch, where somebody had asked.
    estimate = models.ForeignKey(Estimate, null=True, blank=True, on_delete=models.PROTECT, related_name="runs")
    status = models.CharField(max_length=10, choices=RunStatus.choices, default=RunStatus.QUEUED)
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    pause_requested_at = models.DateTimeField(null=True, blank=True)
    budget_minutes = models.PositiveIntegerField(null=True, blank=True)  # of compute, over all attempts
    # The price of the compute that led to a result: nothing else is charged. In minor units.
    charge_minor = models.PositiveIntegerField(default=0)
    charge_currency = models.CharField(max_length=3, blank=True)
    # Both since the last checkpoint: what stops a run again and again that gets no further.
    failures = models.PositiveIntegerField(default=0)
    interruptions = models.PositiveIntegerField(default=0)
    poked_at = models.DateTimeField()
    progress = models.JSONField(default=dict)  # {stage, title, done, total, rate}: the newest only
    failure_code = models.CharField(max_length=60, blank=True)
    failure_message = models.TextField(blank=True)
    result = models.JSONField(default=dict)  # the train verb's
    evaluation = models.JSONField(default=dict)  # the evaluate verb's
    artifacts = models.JSONField(default=dict)  # {path: {sha256, bytes}} of the tuned release
    checkpoints = models.JSONField(default=dict, blank=True)  # {path in its directory: sha256}: kept_checkpoints.py
    derivative = models.OneToOneField(
        Release, null=True, blank=True, on_delete=models.PROTECT, related_name="source_run"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=RunStatus.values), name="finetuning_run_status"),
            models.UniqueConstraint(
                fields=["owner", "spec_sha256"],
                condition=Q(status__in=["queued", "starting", "running", "paused"]),
                name="finetuning_run_active_once",
            ),
        ]
        indexes = [models.Index(fields=["status", "poked_at"], name="finetuning_run_status_poked")]

    def __str__(self) -> str:
        return f"Run {str(self.uid)[:8]}"

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def advice(self) -> str:
        """What to do after the run's failure; nothing where it has not failed."""
        return failures.advice(self.failure_code) if self.failure_code else ""

    @property
    def doing(self) -> str:
        """The title of its stage, or why it waits for another try: that only as long as it does."""
        is_over = self.progress.get("stage") == NEXT_TRY and self.status != RunStatus.QUEUED
        return "" if is_over else str(self.progress.get("title", ""))

    @property
    def is_paused(self) -> bool:
        return self.status == RunStatus.PAUSED

    @property
    def asked_to(self) -> str:
        """What its owner wants of it and has not got yet: "cancel", "pause" or nothing."""
        if self.is_terminal or self.is_paused:
            return ""
        return "cancel" if self.cancel_requested_at else "pause" if self.pause_requested_at else ""

    @property
    def task(self) -> Task:
        """What the run learns: the dataset says it, because a classifier can become the backbone of a detector."""
        return Task(self.dataset_version.dataset.task)

    @property
    def headline(self) -> Measured | None:
        """The one metric that the evaluation is summed up by; None before there is one."""
        return headline(self.task, self.evaluation.get("metrics", {}))


class RunEvent(models.Model):
    """One event of the engine, stored once however often it is read; the id is the readers' cursor."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    attempt = models.PositiveIntegerField()
    verb = models.CharField(max_length=10)
    line = models.PositiveIntegerField()
    at = models.DateTimeField()
    kind = models.CharField(max_length=10)
    payload = models.JSONField()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["run", "attempt", "verb", "line"], name="finetuning_runevent_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.line}"
