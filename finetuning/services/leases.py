"""Who works on what: acquire, renew, close; and the reaper, which gives lost work to somebody else."""

from __future__ import annotations

import logging
import os
import socket
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Max, Model
from django.utils import timezone

from finetuning.models import Attempt, Dataset, Run
from finetuning.models.datasets import DatasetStatus
from finetuning.models.runs import IN_HAND, RunStatus
from finetuning.runner import Signal
from marketplace.queue import Job, enqueue
from models_catalog.models import Release
from models_catalog.models.listings import ReleaseStatus

logger = logging.getLogger(__name__)
LEASE = timedelta(seconds=30)
POKE_AFTER = timedelta(seconds=30)  # a row that waits this long has lost its message: ring again
MAX_INTERRUPTIONS = 10


def acquire(subject: Run | Dataset | Release, *, now: datetime) -> Attempt | None:
    """Opens an attempt, or returns None where somebody holds one: the constraint decides the race."""
    name = type(subject).__name__.lower()  # the field of Attempt that points to it
    number = Attempt.objects.filter(**{name: subject}).aggregate(last=Max("number"))["last"] or 0
    try:
        with transaction.atomic():
            return Attempt.objects.create(
                **{name: subject},
                number=number + 1,
                slot=f"{socket.gethostname()}:{os.getpid()}"[:80],
                leased_until=now + LEASE,
                heartbeat_at=now,
                started_at=now,
            )
    except IntegrityError:
        return None


def renew(attempt: Attempt) -> Signal:
    """Extends the lease; LOST where it was taken away, CANCEL where the owner asked for it."""
    now = timezone.now()
    held = Attempt.objects.open().filter(pk=attempt.pk, token=attempt.token)
    if not held.update(leased_until=now + LEASE, heartbeat_at=now):
        return Signal.LOST
    if attempt.run_id and Run.objects.filter(pk=attempt.run_id, cancel_requested_at__isnull=False).exists():
        return Signal.CANCEL
    return Signal.CONTINUE


def close(attempt: Attempt, *, outcome: str, exit_code: int | None = None) -> bool:
    """Ends the attempt; False where its lease was lost, and then the caller must write nothing."""
    return (
        Attempt.objects.open()
        .filter(pk=attempt.pk, token=attempt.token)
        .update(ended_at=timezone.now(), outcome=outcome[:60], exit_code=exit_code)
        == 1
    )


def reap(*, now: datetime) -> int:
    """Ends expired attempts, queues their work again, and rings for rows whose message was lost.
    Returns how many rows it touched; safe to run in several processes at once."""
    return _expire(now) + _poke(now)


def _expire(now: datetime) -> int:
    ended = 0
    for attempt in Attempt.objects.expired(now).select_related("run", "dataset", "release"):
        with transaction.atomic():
            if not close(attempt, outcome="lease_expired"):
                continue
            ended += 1
            logger.warning("lease expired: %s", attempt)
            if attempt.run is not None:
                _requeue(attempt.run, now)
            elif attempt.dataset is not None:
                enqueue(Job.INSPECT_DATASET, attempt.dataset.pk)
            elif attempt.release is not None:
                enqueue(Job.VERIFY_RELEASE, attempt.release.pk)
    return ended


def _requeue(run: Run, now: datetime) -> None:
    if run.cancel_requested_at is not None:
        Run.objects.transition(run.pk, to=RunStatus.CANCELED, finished_at=now)
    elif run.interruptions >= MAX_INTERRUPTIONS:
        Run.objects.transition(
            run.pk,
            to=RunStatus.FAILED,
            finished_at=now,
            failure_code="app:no_progress",
            failure_message="The server was interrupted too often while it worked on this. Launch it again.",
        )
    elif Run.objects.transition(run.pk, to=RunStatus.QUEUED, interruptions=run.interruptions + 1, poked_at=now):
        enqueue(Job.FINE_TUNE, run.pk)


def _poke(now: datetime) -> int:
    poked = 0
    waiting = Run.objects.filter(status=RunStatus.QUEUED, poked_at__lt=now - POKE_AFTER).order_by("poked_at")
    for run in waiting[:20]:
        if Run.objects.filter(pk=run.pk, poked_at=run.poked_at).update(poked_at=now):
            enqueue(Job.FINE_TUNE, run.pk)
            poked += 1
    for orphan in Run.objects.filter(status__in=IN_HAND).exclude(attempts__ended_at__isnull=True)[:20]:
        if not Attempt.objects.open().filter(run=orphan).exists():
            _requeue(orphan, now)
            poked += 1
    return poked + _poke_checks(now)


def _poke_checks(now: datetime) -> int:
    """Inspections and verifications that nobody holds, a minute after they were asked for."""
    late = now - 2 * POKE_AFTER
    datasets = Dataset.objects.filter(status=DatasetStatus.CHECKING, created_at__lt=late)
    releases = Release.objects.filter(status=ReleaseStatus.VERIFYING, created_at__lt=late)
    poked = 0
    rows: list[tuple[Job, Model, str]] = [(Job.INSPECT_DATASET, row, "dataset") for row in datasets[:20]]
    rows += [(Job.VERIFY_RELEASE, row, "release") for row in releases[:20]]
    for job, row, name in rows:
        recent = Attempt.objects.filter(**{name: row}, started_at__gt=late)
        if not recent.exists():
            enqueue(job, row.pk)
            poked += 1
    return poked
