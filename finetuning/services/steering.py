"""What an owner asks of a run that has not ended: cancel, pause, resume; and how the worker grants it."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from finetuning import policies
from finetuning.engine.crash_points import Point, reach
from finetuning.models import Attempt, Run
from finetuning.models.runs import RESUMED, RunStatus
from finetuning.services import charges, leases, webhooks
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.queue import Job, enqueue

WAITING = (RunStatus.QUEUED, RunStatus.PAUSED)  # nobody works on it: what is asked happens at once


def request_cancel(*, user: User, run: Run, now: datetime) -> Run:
    """Cancels a waiting run at once; a running one is told by its next heartbeat. Asking twice is harmless.

    Raises Conflict (`already_finished`), Denied (`not_a_writer`)."""
    require(policies.may_cancel(user, run))
    with transaction.atomic():
        asked = Run.objects.open().filter(pk=run.pk, cancel_requested_at__isnull=True)
        if asked.update(cancel_requested_at=now):
            audit.record("run.cancel", actor=user, namespace=run.owner, subject=run)
        if Run.objects.transition(run.pk, to=RunStatus.CANCELED, sources=WAITING, finished_at=now):
            charges.settle(run)
            webhooks.of_run(run, ended=RunStatus.CANCELED, now=now)
        reach(Point.CANCEL_COMMITTING)
    reach(Point.CANCEL_COMMITTED)
    run.refresh_from_db()
    return run


def request_pause(*, user: User, run: Run, now: datetime) -> Run:
    """Pauses a queued run at once; a running one is told by its next heartbeat, writes a checkpoint and stops.
    Asking twice before it has stopped is harmless.

    Raises Conflict (`already_finished`, `already_paused`, `being_canceled`), Denied (`not_a_writer`)."""
    require(policies.may_pause(user, run))
    with transaction.atomic():
        asked = Run.objects.active().filter(pk=run.pk, pause_requested_at__isnull=True)
        if asked.update(pause_requested_at=now):
            audit.record("run.pause", actor=user, namespace=run.owner, subject=run)
        Run.objects.transition(run.pk, to=RunStatus.PAUSED, sources=(RunStatus.QUEUED,))
    run.refresh_from_db()
    return run


def resume(*, user: User, run: Run, now: datetime) -> Run:
    """Queues a paused run again: it goes on from its checkpoint. Of two who ask at once, one is told `not_paused`.

    Raises Conflict (`already_finished`, `not_paused`, `dataset_gone`), Denied (`not_a_writer`, `quota_exceeded`, `compute_quota_exceeded`, all
    that the licenses say); the run stays paused then. Locks the user and the owner, as a launch does; enqueues FINE_TUNE."""
    require(policies.may_resume(user, run, now=now))
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        Namespace.objects.select_for_update(no_key=True).get(pk=run.owner_id)
        require(policies.has_quota(user, run.owner, now=now))
        queued = Run.objects.transition(
            run.pk, to=RunStatus.QUEUED, sources=RESUMED, pause_requested_at=None, poked_at=now
        )
        if queued:
            audit.record("run.resume", actor=user, namespace=run.owner, subject=run)
            enqueue(Job.FINE_TUNE, run.pk)
    run.refresh_from_db()
    if not queued:
        require(policies.may_resume(user, run, now=now))
    return run


def cancel(*, run: Run, attempt: Attempt) -> bool:
    """Ends a run whose engine was stopped because its owner asked for it; False where the lease was lost."""
    with transaction.atomic():
        if not leases.close(attempt, outcome="canceled"):
            return False
        now = timezone.now()
        canceled = Run.objects.transition(run.pk, to=RunStatus.CANCELED, finished_at=now)
        if canceled:
            charges.settle(run)
            webhooks.of_run(run, ended=RunStatus.CANCELED, now=now)
        reach(Point.CANCELED_COMMITTING)
    return canceled


def pause(*, run: Run, attempt: Attempt, kept: dict[str, str] | None = None) -> None:
    """Lays a run aside whose engine was stopped because its owner asked for it; its directory, with the checkpoints,
    stays, and what was `kept` of them is noted. A cancel that came meanwhile wins."""
    with transaction.atomic():
        if leases.close(attempt, outcome="paused"):
            if kept:
                Run.objects.filter(pk=run.pk).update(checkpoints=kept)
            grant_wish(run, now=timezone.now())


def grant_wish(run: Run, *, now: datetime) -> bool:
    """Cancels or pauses a run that nobody works on any more, where its owner has asked for that; of the two the cancel
    wins. False where it was asked for neither, and then nothing is written. Needs a transaction: locks the run."""
    asked = Run.objects.select_for_update(no_key=True).get(pk=run.pk)
    if asked.cancel_requested_at is not None:
        if Run.objects.transition(run.pk, to=RunStatus.CANCELED, finished_at=now):
            charges.settle(run)
            webhooks.of_run(run, ended=RunStatus.CANCELED, now=now)
    elif asked.pause_requested_at is not None:
        Run.objects.transition(run.pk, to=RunStatus.PAUSED)
    else:
        return False
    return True
