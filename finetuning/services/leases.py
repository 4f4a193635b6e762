"""Who works on what: acquire, keep, close. Work whose lease ran out is given away by `reaping`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import takewhile
from typing import TypeVar

from django.db import Error as DatabaseFault
from django.db import IntegrityError, close_old_connections, connections, transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from finetuning.models import Attempt, Dataset, Estimate, Run
from finetuning.models.attempts import DRAINED, EXPIRED, SUBJECTS
from finetuning.runner import Signal
from marketplace.queue import Job, enqueue
from marketplace.supervision import drain
from marketplace.supervision.processes import own_name
from models_catalog.models import Release

logger = logging.getLogger(__name__)
LEASE = timedelta(seconds=30)
RENEW_SECONDS = 2.0
TURN_SECONDS = 0.5
FENCE_SECONDS = 5.0  # an engine is dead this long before somebody else may begin
POKE_AFTER = timedelta(seconds=30)  # a row that waits this long has lost its message: the reaper rings again
MAX_INTERRUPTIONS = 10
MAX_FAILURES = 3  # of the server, in one check
_INTERRUPTIONS = frozenset({EXPIRED, "app:busy", "app:lease_lost"})
Subject = TypeVar("Subject", Run, Dataset, Release, Estimate)


def acquire(rows: QuerySet[Subject], pk: int, *, now: datetime) -> tuple[Subject, Attempt] | None:
    """Opens an attempt on the row if `rows`, which says what may be worked on, still holds it. None where it
    does not or where somebody else has it: the constraint decides the race. Locks the row."""
    try:
        with transaction.atomic():
            subject = rows.select_for_update(of=("self",)).filter(pk=pk).first()
            if subject is None:
                return None
            mine = {rows.model._meta.model_name or "": subject}  # noqa: SLF001 - Django's documented interface
            number = Attempt.objects.filter(**mine).aggregate(last=Max("number"))["last"] or 0
            attempt = Attempt.objects.create(
                **mine,
                number=number + 1,
                slot=own_name(),
                leased_until=now + LEASE,
                heartbeat_at=now,
                started_at=now,
            )
    except IntegrityError:
        return None
    return subject, attempt


def renew(attempt: Attempt) -> Signal:
    """Extends the lease; LOST where it was taken away, CANCEL or PAUSE where the owner asked for it."""
    now = timezone.now()
    if not _held(attempt).update(leased_until=now + LEASE, heartbeat_at=now):
        return Signal.LOST
    if attempt.run_id is None:
        return Signal.CONTINUE
    asked = Run.objects.filter(pk=attempt.run_id).values_list("cancel_requested_at", "pause_requested_at").first()
    canceled, paused = asked or (None, None)
    return Signal.CANCEL if canceled else Signal.PAUSE if paused else Signal.CONTINUE


class Keeper:
    """Renews a lease from a thread with a connection of its own, whatever the task is doing: training takes
    hours, and so may copying. A database that is away for a moment is asked again.

    `signal` itself needs no database: when the lease has nearly run out unrenewed it says LOST, so that the
    engine is dead before somebody else begins, even while the thread hangs."""

    def __init__(self, attempt: Attempt, chore: Callable[[], None]) -> None:
        self._attempt, self._chore = attempt, chore
        self._held_until = time.monotonic() + (attempt.leased_until - timezone.now()).total_seconds()
        self._renew_at = time.monotonic() + RENEW_SECONDS
        self._is_lost = False
        self._wish = Signal.CONTINUE  # of the owner
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease of {attempt.pk}", daemon=True)

    def signal(self) -> Signal:
        if time.monotonic() > self._held_until - FENCE_SECONDS:
            self._is_lost = True
        if self._is_lost:
            return Signal.LOST
        if self._wish is Signal.CONTINUE and drain.is_asked():
            return Signal.DRAIN
        return self._wish

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join(LEASE.total_seconds())

    def _run(self) -> None:
        try:
            while not self._is_lost and not self._done.wait(TURN_SECONDS):
                try:
                    self._turn(time.monotonic())
                except DatabaseFault as fault:
                    logger.warning("the database is away, trying again: %s", fault)
                    close_old_connections()
        finally:
            connections.close_all()

    def _turn(self, now: float) -> None:
        if now >= self._renew_at:
            answer = renew(self._attempt)
            self._is_lost |= answer is Signal.LOST
            self._wish = answer
            self._held_until, self._renew_at = now + LEASE.total_seconds(), now + RENEW_SECONDS
        if not self._is_lost:
            self._chore()


@contextmanager
def kept(attempt: Attempt, *, chore: Callable[[], None] = lambda: None) -> Iterator[Keeper]:
    """Keeps the lease while the block runs. `chore` is called from the same thread, about twice a second."""
    keeper = Keeper(attempt, chore)
    keeper.start()
    try:
        yield keeper
    finally:
        keeper.stop()


def is_held(attempt: Attempt) -> bool:
    return _held(attempt).exists()


def _held(attempt: Attempt) -> QuerySet[Attempt]:
    return Attempt.objects.open().filter(pk=attempt.pk, token=attempt.token)


def close(attempt: Attempt, *, outcome: str, exit_code: int | None = None) -> bool:
    """Ends the attempt; False where its lease was lost, and then the caller must write nothing."""
    ended = _held(attempt).update(ended_at=timezone.now(), outcome=outcome[:60], exit_code=exit_code)
    return bool(ended == 1)


def hand_back(attempt: Attempt, *, outcome: str) -> bool:
    """Ends the attempt of a check without a word on its subject, and rings for it again at once where this slot was
    told to stop, or where weights are fetched, of which the reaper does not know whether they are still wanted; else the
    reaper does so, in a minute."""
    with transaction.atomic():
        ended = close(attempt, outcome=outcome)
        if ended and (outcome == DRAINED or _is_fetch(attempt)):
            ring(attempt)
    return ended


def _is_fetch(attempt: Attempt) -> bool:
    return attempt.release is not None and attempt.release.is_remote


def ring(attempt: Attempt) -> None:
    """Rings for what the attempt was made on."""
    if attempt.run is not None:
        enqueue(Job.FINE_TUNE, attempt.run.pk)
    elif attempt.dataset is not None:
        enqueue(Job.INSPECT_DATASET, attempt.dataset.pk)
    elif attempt.release is not None:
        enqueue(Job.FETCH_WEIGHTS if _is_fetch(attempt) else Job.VERIFY_RELEASE, attempt.release.pk)
    elif attempt.estimate is not None:
        enqueue(Job.ESTIMATE, attempt.estimate.pk)


def is_worn_out(attempt: Attempt, *, failing: bool) -> bool:
    """Whether the server has tried this inspection, verification or estimate often enough; `failing` counts the attempt
    itself. Only faults of the server in a row count: what was said of the input ended the row, and that the server was
    stopped counts neither way."""
    subject = {name: getattr(attempt, f"{name}_id") for name in SUBJECTS}
    earlier = Attempt.objects.filter(**subject, number__lt=attempt.number)
    outcomes = (
        earlier.exclude(outcome=DRAINED)
        .order_by("-number")
        .values_list("outcome", flat=True)[: MAX_FAILURES + MAX_INTERRUPTIONS]
    )
    row = list(takewhile(lambda outcome: outcome in _INTERRUPTIONS or outcome.startswith("app:"), outcomes))
    failures = sum(outcome not in _INTERRUPTIONS for outcome in row)
    return failures + failing >= MAX_FAILURES or len(row) - failures >= MAX_INTERRUPTIONS
