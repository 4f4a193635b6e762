"""What a run's engine says, on its way to the database: kept until it is written, written in batches."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from finetuning.engine.events import Event, Kind
from finetuning.engine.spec import Verb
from finetuning.models import Attempt, Run, RunEvent
from finetuning.models.runs import IN_HAND, RunStatus
from finetuning.services import leases

_FIGURES = ("done", "total", "rate")
_NO_HISTORY = frozenset({Kind.PROGRESS, Kind.CHECKPOINT})


class Journal:
    """Takes events at once and without a database; `flush` writes what has come since. Progress is not
    history: only the newest is kept, on the run. With a checkpoint what went wrong before it is forgotten: a run that
    gets on is never given up, however often it is interrupted."""

    def __init__(self, run: Run, attempt: Attempt) -> None:
        self._run, self._attempt = run, attempt
        self._pending: list[tuple[Verb, Event]] = []
        self._progress: dict[str, Any] = dict(run.progress)
        self._is_announced = False  # that the run is running
        self._writing = threading.Lock()  # flush is called by the lease's keeper and at the engine's end

    def add(self, verb: Verb, events: list[Event]) -> None:
        self._pending.extend((verb, event) for event in events)

    def flush(self) -> None:
        """Writes under the lease, each event once; what could not be written stays for the next call."""
        with self._writing:
            batch = self._pending[:]
            if not batch:
                return
            progress = _progress_after(self._progress, batch)
            with transaction.atomic():
                if leases.is_held(self._attempt):
                    self._write(batch, progress)
            self._progress, self._is_announced = progress, True
            del self._pending[: len(batch)]

    def _write(self, batch: list[tuple[Verb, Event]], progress: dict[str, Any]) -> None:
        rows = [self._row(verb, event) for verb, event in batch if event.kind not in _NO_HISTORY]
        RunEvent.objects.bulk_create(rows, ignore_conflicts=True)
        if not self._is_announced:
            Run.objects.transition(self._run.pk, to=RunStatus.RUNNING)
        if any(event.kind is Kind.CHECKPOINT for _, event in batch):
            Run.objects.filter(pk=self._run.pk, status__in=IN_HAND).update(interruptions=0, failures=0)
        if progress != self._progress:
            Run.objects.filter(pk=self._run.pk, status__in=IN_HAND).update(progress=progress)

    def _row(self, verb: Verb, event: Event) -> RunEvent:
        return RunEvent(
            run=self._run,
            attempt=self._attempt.number,
            verb=verb.value,
            line=event.line,
            at=datetime.fromtimestamp(event.at, UTC),
            kind=event.kind.value,
            payload=event.payload,
        )


def _progress_after(progress: dict[str, Any], batch: list[tuple[Verb, Event]]) -> dict[str, Any]:
    for _, event in batch:
        if event.kind is Kind.STAGE:
            progress = {"stage": event.payload.get("name", ""), "title": event.payload.get("title", "")}
        elif event.kind is Kind.PROGRESS:
            figures = {key: event.payload.get(key) for key in _FIGURES}
            progress = progress | {key: value for key, value in figures.items() if isinstance(value, int | float)}
    return progress
