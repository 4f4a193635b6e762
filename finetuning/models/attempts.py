"""Leases: who works on what, until when. At most one open attempt a subject, by constraint."""

from __future__ import annotations

import uuid
from functools import reduce
from operator import or_

from django.db import models
from django.db.models import Q

from finetuning.models.datasets import Dataset
from finetuning.models.estimates import Estimate
from finetuning.models.runs import Run
from models_catalog.models import Release

EXPIRED = "lease_expired"  # the outcome of one that was taken away: its process died, or was not heard of
DRAINED = "drained"  # of one that was laid down because its slot was told to stop: neither failure nor interruption


SUBJECTS = ("run", "dataset", "release", "estimate")


def _is_alone(subject: str) -> Q:
    return Q(**{f"{other}__isnull": other != subject for other in SUBJECTS})


class AttemptQuerySet(models.QuerySet["Attempt"]):
    def open(self) -> AttemptQuerySet:
        return self.filter(ended_at__isnull=True)


class Attempt(models.Model):
    """One try at a run, an inspection, a verification or an estimate. Its token is the right to write the outcome."""

    run = models.ForeignKey(Run, null=True, on_delete=models.CASCADE, related_name="attempts")
    dataset = models.ForeignKey(Dataset, null=True, on_delete=models.CASCADE, related_name="attempts")
    release = models.ForeignKey(Release, null=True, on_delete=models.CASCADE, related_name="attempts")
    estimate = models.ForeignKey(Estimate, null=True, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    token = models.UUIDField(default=uuid.uuid4, unique=True)
    slot = models.CharField(max_length=80)  # the `own_name` of the process that works on it
    leased_until = models.DateTimeField()
    heartbeat_at = models.DateTimeField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=60, blank=True)
    exit_code = models.IntegerField(null=True, blank=True)

    objects = AttemptQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=reduce(or_, (_is_alone(subject) for subject in SUBJECTS)),
                name="finetuning_attempt_one_subject",
            ),
            *(
                models.UniqueConstraint(
                    fields=[subject], condition=Q(ended_at__isnull=True), name=f"finetuning_attempt_open_{subject}"
                )
                for subject in SUBJECTS
            ),
            *(
                models.UniqueConstraint(fields=[subject, "number"], name=f"finetuning_attempt_number_{subject}")
                for subject in SUBJECTS
            ),
        ]

    def __str__(self) -> str:
        return f"Attempt {self.number} of {self.run or self.dataset or self.release or self.estimate}"
