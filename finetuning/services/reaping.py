"""The reaper: ends what nobody works on any more, gives it to somebody else, rings again for lost messages."""

from __future__ import annotations

import logging
from datetime import datetime

from django.core.cache import cache
from django.db import transaction
from django.db.models import Exists, Model, OuterRef, QuerySet

from finetuning.models import Attempt, Dataset, Run
from finetuning.models.attempts import EXPIRED
from finetuning.models.datasets import DatasetStatus
from finetuning.models.runs import IN_HAND, RunStatus
from finetuning.services import leases
from marketplace.accounts.services import notifications
from marketplace.queue import Job, enqueue
from marketplace.supervision.processes import is_gone
from models_catalog.models import Release
from models_catalog.models.listings import ReleaseStatus
from models_catalog.services import grants

logger = logging.getLogger(__name__)
TELL_EVERY_SECONDS = 3600


def reap(*, now: datetime) -> int:
    """Ends expired attempts, queues their work again, and rings for rows whose message was lost.
    Returns how many rows it touched; safe to run in several processes at once."""
    return _expire(now) + _poke(now) + _poke_emails(now) + _tell_expiring(now)


def _expire(now: datetime) -> int:
    """Ends attempts whose lease ran out, and at once those whose process is gone from this machine: the engine
    died with it."""
    ended = 0
    for attempt in Attempt.objects.open().select_related("run", "dataset", "release"):
        if attempt.leased_until >= now and not is_gone(attempt.slot):
            continue
        with transaction.atomic():
            if not leases.close(attempt, outcome=EXPIRED):
                continue
            ended += 1
            logger.warning("lease expired: %s", attempt)
            if attempt.run is not None:
                _requeue(attempt.run, now)
            elif attempt.dataset is not None:
                enqueue(Job.INSPECT_DATASET, attempt.dataset.pk)
            elif attempt.release is not None:
                job = Job.FETCH_WEIGHTS if attempt.release.is_remote else Job.VERIFY_RELEASE
                enqueue(job, attempt.release.pk)
    return ended


def _requeue(run: Run, now: datetime) -> None:
    if run.cancel_requested_at is not None:
        Run.objects.transition(run.pk, to=RunStatus.CANCELED, finished_at=now)
    elif run.pause_requested_at is not None:
        Run.objects.transition(run.pk, to=RunStatus.PAUSED)
    elif run.interruptions >= leases.MAX_INTERRUPTIONS:
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
    waiting = Run.objects.filter(status=RunStatus.QUEUED, poked_at__lt=now - leases.POKE_AFTER).order_by("poked_at")
    for run in waiting[:20]:
        if Run.objects.filter(pk=run.pk, poked_at=run.poked_at).update(poked_at=now):
            enqueue(Job.FINE_TUNE, run.pk)
            poked += 1
    for orphan in Run.objects.filter(status__in=IN_HAND).exclude(attempts__ended_at__isnull=True)[:20]:
        if not Attempt.objects.open().filter(run=orphan).exists():
            _requeue(orphan, now)
            poked += 1
    return poked + _poke_checks(now)


def _poke_emails(now: datetime) -> int:
    """Emails that are owed for a minute; rings once a minute, however long the slot has been busy."""
    late = notifications.late_email(now=now)
    if late is None or not cache.add("poke:emails", "rung", timeout=notifications.LATE.total_seconds()):
        return 0
    enqueue(Job.SEND_EMAIL, late)
    return 1


def _tell_expiring(now: datetime) -> int:
    """Licenses that end soon: looked for once an hour."""
    if not cache.add("tell:expiring", "told", timeout=TELL_EVERY_SECONDS):
        return 0
    return grants.tell_expiring(now=now)


def _poke_checks(now: datetime) -> int:
    """Inspections and verifications that nobody holds, a minute after they were asked for or last tried."""
    late = now - 2 * leases.POKE_AFTER
    datasets = Dataset.objects.filter(status=DatasetStatus.CHECKING, deleted_at__isnull=True)
    releases = Release.objects.filter(status=ReleaseStatus.VERIFYING)
    poked = 0
    for job, rows in (
        (Job.INSPECT_DATASET, _untouched(datasets, late)),
        (Job.VERIFY_RELEASE, _untouched(releases, late)),
    ):
        for pk in rows[:20]:
            # Rings once a minute, however long the slot has been busy: messages do not pile up.
            if cache.add(f"poke:{job.name}:{pk}", "rung", timeout=2 * leases.POKE_AFTER.total_seconds()):
                enqueue(job, pk)
                poked += 1
    return poked


def _untouched(rows: QuerySet[Dataset] | QuerySet[Release], late: datetime) -> QuerySet[Model, int]:
    attempts = Attempt.objects.filter(**{rows.model._meta.model_name or "": OuterRef("pk")})  # noqa: SLF001
    waiting = rows.filter(created_at__lt=late).exclude(Exists(attempts.open()))
    return waiting.exclude(Exists(attempts.filter(started_at__gt=late))).values_list("pk", flat=True)
