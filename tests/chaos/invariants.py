"""What must hold at the end, whatever was done: asked of the database and of the files, not of the site."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from django.db import connection

from finetuning.failures import may_try_again
from finetuning.models import Attempt, Run, RunEvent
from finetuning.models.runs import ACTIVE, RunStatus
from marketplace import storage

WEIGHTS = "release/model.safetensors"
_SUCCEEDED = "succeeded"


def lost(promised: set[str]) -> list[str]:
    """Runs that the site confirmed and that are not at an end, or not there."""
    ended = {str(uid) for uid in Run.objects.exclude(status__in=ACTIVE).values_list("uid", flat=True)}
    return sorted(promised - ended)


def doubled() -> list[str]:
    """Runs that were finished more than once: two successful attempts, or two ends of one training."""
    attempts = Counter(Attempt.objects.filter(outcome=_SUCCEEDED, run__isnull=False).values_list("run_id", flat=True))
    trained = Counter(RunEvent.objects.filter(kind="finished").values_list("run_id", "verb"))
    twice = {f"run {run}: {count} attempts succeeded" for run, count in attempts.items() if count > 1}
    return sorted(
        twice | {f"run {run}: {verb} ended {count} times" for (run, verb), count in trained.items() if count > 1}
    )


def broken() -> list[str]:
    """Every other rule, each breach in words."""
    return [*_wrong_ends(), *_open_attempts(), *_different_weights(), *_damaged_files(), *_damaged_database()]


def _wrong_ends() -> Iterator[str]:
    """A run ends well, as its owner asked, or after as many faults of the server as the rules allow."""
    for run in Run.objects.exclude(status=RunStatus.SUCCEEDED):
        allowed = run.status == RunStatus.FAILED and run.failure_code.startswith("app:")
        gave_up = run.failure_code == "app:no_progress" or not may_try_again(run.failure_code, tries=run.failures)
        asked = run.status == RunStatus.CANCELED and run.cancel_requested_at is not None
        if not (asked or (allowed and gave_up)):
            yield f"{run} ended as {run.status} {run.failure_code} after {run.failures} failures: {run.failure_message}"


def _open_attempts() -> Iterator[str]:
    for attempt in Attempt.objects.open():
        yield f"{attempt} is open"
    for run in Run.objects.filter(status=RunStatus.SUCCEEDED):
        if run.attempts.filter(outcome=_SUCCEEDED).count() != 1:
            yield f"{run} succeeded without one successful attempt"


def _different_weights() -> Iterator[str]:
    """Runs of one seed end with the same weights, however often they were cut off."""
    digests = defaultdict[int, set[str]](set)
    for run in Run.objects.filter(status=RunStatus.SUCCEEDED):
        digests[run.hyper["seed"]].add(run.artifacts[WEIGHTS]["sha256"])
    yield from (f"seed {seed}: {len(found)} different weights" for seed, found in digests.items() if len(found) > 1)


def _damaged_files() -> Iterator[str]:
    named = {
        entry["sha256"] for run in Run.objects.filter(status=RunStatus.SUCCEEDED) for entry in run.artifacts.values()
    }
    for sha256 in sorted(named):
        if not storage.is_whole(sha256):
            yield f"the file {sha256} is damaged"


def _damaged_database() -> Iterator[str]:
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA integrity_check")
            if (answer := cursor.fetchone()[0]) != "ok":
                yield f"the database: {answer}"
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA foreign_key_check")
            if rows := cursor.fetchall():
                yield f"the database: {len(rows)} rows refer to nothing"
