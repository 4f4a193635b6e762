"""Reads that pages and the API share."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AnonymousUser
from django.db.models import Min, Prefetch, QuerySet
from django.utils import timezone

from finetuning.engine.events import Kind
from finetuning.models import Dataset, DatasetVersion, Run, RunEvent
from finetuning.models.runs import RunStatus
from marketplace.accounts.models import User

_CURSOR_DIGITS = 18  # fits the database's 64-bit integers
MAX_EVENTS = 500  # of one answer; a reader that lags behind asks again at once


def oldest_queued_seconds(*, now: datetime) -> float:
    """Returns for how long the oldest run has waited in the queue, 0 where none waits."""
    oldest = Run.objects.filter(status=RunStatus.QUEUED).aggregate(since=Min("created_at"))["since"]
    return (now - oldest).total_seconds() if oldest else 0.0


def datasets_of(user: User | AnonymousUser) -> QuerySet[Dataset]:
    return (
        Dataset.objects.visible_to(user)
        .select_related("owner", "terms")
        .prefetch_related(Prefetch("versions", DatasetVersion.objects.order_by("-number")))
    )


def thumbnails_of(user: User | AnonymousUser, uid: UUID) -> str | None:
    """Returns the pack of thumbnails of a dataset's newest version. A page asks for sixty of them: no more is
    read than this."""
    versions = DatasetVersion.objects.filter(dataset__in=Dataset.objects.visible_to(user), dataset__uid=uid)
    return versions.order_by("-number").values_list("thumbnails_sha256", flat=True).first()


def newest_audit_of(user: User | AnonymousUser, version: DatasetVersion) -> Run | None:
    """Returns the newest finished run on this version, which may doubt some of its labels."""
    finished = Run.objects.visible_to(user).filter(dataset_version=version, status=RunStatus.SUCCEEDED)
    return finished.only("uid", "result", "finished_at").order_by("-finished_at").first()


def runs_of(user: User | AnonymousUser) -> QuerySet[Run]:
    return Run.objects.visible_to(user).select_related(
        "owner",
        "estimate",
        "release__listing__namespace",
        "dataset_version__dataset",
        "derivative__listing__namespace",
    )


def runs_under(user: User | AnonymousUser, license_id: str) -> QuerySet[Run]:
    """Returns the user's runs under one license, by its receipt number; none where that is no such number."""
    try:
        return runs_of(user).filter(grant=UUID(license_id))
    except ValueError:
        return Run.objects.none()


def read_cursor(text: str) -> int | None:
    """Returns the cursor that a reader sent back, or None for what never was one."""
    return int(text) if text.isdecimal() and len(text) <= _CURSOR_DIGITS else None


def run_progress(run: Run, *, after: int) -> dict[str, Any]:
    """Returns what a live page needs since the cursor `after`: points of curves, log lines, progress, times.
    Reading from cursor 0 gives the whole history; nothing is missed and nothing comes twice."""
    events = list(RunEvent.objects.filter(run=run, id__gt=after).order_by("id")[:MAX_EVENTS])
    points, log, trials = [], [], []
    for event in events:
        payload = event.payload
        if event.kind == Kind.METRIC:
            points.append({key: payload.get(key) for key in ("name", "split", "step", "value")})
        elif event.kind == Kind.TRIAL:
            trials.append(payload)
        elif line := _line(event):
            log.append(line)
    progress = run.progress or {}
    return {
        "status": run.status,
        "status_title": run.get_status_display(),
        "stage": run.doing,
        "progress": {key: progress.get(key) or 0 for key in ("done", "total", "rate")},
        "elapsed_seconds": elapsed_seconds(run),
        "remaining_seconds": None if run.is_paused else remaining_seconds(progress),
        "points": points,
        "trials": trials,
        "log": log,
        "cursor": events[-1].pk if events else after,
        "terminal": run.is_terminal and len(events) < MAX_EVENTS,
    }


def trials_of(run: Run) -> list[dict[str, Any]]:
    """Returns the trials of the run's search as they stand, by number: of an unfinished one, as its engine tells."""
    if run.searched:
        return list(run.searched["trials"])
    told = RunEvent.objects.filter(run=run, kind=Kind.TRIAL).order_by("id").values_list("payload", flat=True)
    newest = {payload["trial"]: payload for payload in told}
    return [newest[number] for number in sorted(newest)]


def _line(event: RunEvent) -> dict[str, Any] | None:
    level, message = "info", ""
    if event.kind == Kind.LOG:
        level, message = str(event.payload.get("level", "info")), str(event.payload.get("message", ""))
    elif event.kind == Kind.STAGE:
        message = str(event.payload.get("title", ""))
    elif event.kind == Kind.FAILED:
        level, message = "error", str(event.payload.get("message", ""))
    return {"at": event.at.isoformat(), "level": level, "message": message} if message else None


def elapsed_seconds(run: Run) -> float:
    if run.started_at is None:
        return 0.0
    if run.is_paused:
        spans = run.attempts.values_list("started_at", "ended_at")
        return round(sum((ended - started).total_seconds() for started, ended in spans if ended), 1)
    return round(((run.finished_at or timezone.now()) - run.started_at).total_seconds(), 1)


def remaining_seconds(progress: dict[str, Any]) -> float | None:
    """Returns the time left of the present stage at its present rate."""
    rate, done, total = (progress.get(key) or 0 for key in ("rate", "done", "total"))
    return round((total - done) / rate, 1) if rate and total and done else None
