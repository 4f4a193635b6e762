"""The reaper: ends what nobody works on any more, gives it to somebody else, rings again for lost messages."""

from __future__ import annotations

import logging
from datetime import datetime

from django.core.cache import cache
from django.db import transaction
from django.db.models import Exists, Model, OuterRef, QuerySet

from finetuning.engine.crash_points import Point, reach
from finetuning.models import Attempt, Dataset, Estimate, Run
from finetuning.models.attempts import EXPIRED, SUBJECTS
from finetuning.models.datasets import DatasetStatus
from finetuning.models.runs import IN_HAND, RunStatus
from finetuning.services import charges, leases, steering, webhooks
from marketplace.accounts.services import notifications
from marketplace.queue import Job, enqueue
from marketplace.supervision.processes import is_gone
from marketplace.webhooks.services import delivery
from models_catalog.models import Release
from models_catalog.models.listings import ReleaseStatus
from models_catalog.services import changes, expiry

logger = logging.getLogger(__name__)
HOUR_SECONDS = 3600
NO_PROGRESS = "app:no_progress"


def reap(*, now: datetime) -> int:
    """Ends expired attempts, queues their work again, and rings for rows whose message was lost.
    Returns how many rows it touched; safe to run in several processes at once."""
    return _expire(now) + _poke(now) + _poke_emails(now) + _poke_webhooks(now) + _each_hour(now)


def _expire(now: datetime) -> int:
    """Ends attempts whose lease ran out, and at once those whose process is gone from this machine: the engine
    died with it."""
    ended = 0
    for attempt in Attempt.objects.open().select_related(*SUBJECTS):
        if attempt.leased_until >= now and not is_gone(attempt.slot):
            continue
        with transaction.atomic():
            if not leases.close(attempt, outcome=EXPIRED):
                continue
            ended += 1
            logger.warning("lease expired: %s", attempt)
            if attempt.run is not None:
                _requeue(attempt.run, now)
            else:
                leases.ring(attempt)
            reach(Point.EXPIRE_COMMITTING)
        reach(Point.EXPIRE_COMMITTED)
    return ended


def _requeue(run: Run, now: datetime) -> None:
    if steering.grant_wish(run, now=now):
        return
    if run.interruptions >= leases.MAX_INTERRUPTIONS:
        failed = Run.objects.transition(
            run.pk,
            to=RunStatus.FAILED,
            finished_at=now,
            failure_code=NO_PROGRESS,
            failure_message=(
                f"The server was interrupted {run.interruptions} times in a row while it worked on this, each time before "
                "the next checkpoint. Launch it again."
            ),
        )
        if failed:
            charges.settle(run)
            webhooks.of_run(run, ended=RunStatus.FAILED, now=now, code=NO_PROGRESS)
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
        with transaction.atomic():
            row = Run.objects.select_for_update(no_key=True).filter(pk=orphan.pk, status__in=IN_HAND).first()
            if row is not None and not Attempt.objects.open().filter(run=row).exists():
                _requeue(row, now)
                poked += 1
    return poked + _poke_checks(now)


def _poke_emails(now: datetime) -> int:
    """Emails that are owed for a minute; rings once a minute, however long the slot has been busy."""
    late = notifications.late_email(now=now)
    if late is None or not cache.add("poke:emails", "rung", timeout=notifications.LATE.total_seconds()):
        return 0
    enqueue(Job.SEND_EMAIL, late)
    return 1


def _poke_webhooks(now: datetime) -> int:
    """Webhooks that are due, those to be tried again above all; rings each few seconds, however long the slot has been
    busy."""
    late = delivery.late(now=now)
    if late is None or not cache.add("poke:webhooks", "rung", timeout=delivery.LATE.total_seconds()):
        return 0
    enqueue(Job.SEND_WEBHOOKS, late)
    return 1


def _each_hour(now: datetime) -> int:
    """Tells of licenses that end soon or have ended, and forgets old logs of webhooks and changes."""
    if not cache.add("reap:hour", "done", timeout=HOUR_SECONDS):
        return 0
    told = expiry.tell_expiring(now=now) + expiry.tell_expired(now=now)
    return told + delivery.forget(now=now) + changes.forget()


def _poke_checks(now: datetime) -> int:
    """Inspections, verifications and estimates that nobody holds, a minute after they were asked for or last tried."""
    late = now - 2 * leases.POKE_AFTER
    datasets = Dataset.objects.filter(status=DatasetStatus.CHECKING, deleted_at__isnull=True)
    releases = Release.objects.filter(status=ReleaseStatus.VERIFYING)
    poked = 0
    for job, rows in (
        (Job.INSPECT_DATASET, _untouched(datasets, late)),
        (Job.VERIFY_RELEASE, _untouched(releases, late)),
        (Job.ESTIMATE, _untouched(Estimate.objects.waiting(), late)),
    ):
        for pk in rows[:20]:
            # Rings once a minute, however long the slot has been busy: messages do not pile up.
            if cache.add(f"poke:{job.name}:{pk}", "rung", timeout=2 * leases.POKE_AFTER.total_seconds()):
                enqueue(job, pk)
                poked += 1
    return poked


def _untouched(
    rows: QuerySet[Dataset] | QuerySet[Release] | QuerySet[Estimate], late: datetime
) -> QuerySet[Model, int]:
    attempts = Attempt.objects.filter(**{rows.model._meta.model_name or "": OuterRef("pk")})  # noqa: SLF001
    waiting = rows.filter(created_at__lt=late).exclude(Exists(attempts.open()))
    return waiting.exclude(Exists(attempts.filter(started_at__gt=late))).values_list("pk", flat=True)
