"""What a run makes of a clock that jumps, a disk that is full, and events that are none."""

from __future__ import annotations

import errno
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from archives_factory import class_folders, zip_of
from django.utils import timezone
from worlds import World, claimed_run

from finetuning import compute
from finetuning.engine import spec
from finetuning.engine.events import EventTail, Kind
from finetuning.engine.failures import EXIT_USER
from finetuning.engine.spec import EVENTS_FILE, InspectSpec, Verb
from finetuning.failures import may_try_again
from finetuning.models import Attempt, Run
from finetuning.models.attempts import EXPIRED
from finetuning.models.runs import RunStatus
from finetuning.runner import Ending, Signal, run_engine
from finetuning.services import leases, reaping, runs

HOUR = timedelta(hours=1)
AWAY_SECONDS = 20


@pytest.mark.django_db(transaction=True)
def test_a_clock_that_jumps_ahead_gives_the_run_away_once_and_the_first_worker_writes_nothing(world: World) -> None:
    run, first = claimed_run(world)

    reaping.reap(now=timezone.now() + HOUR)

    run.refresh_from_db()
    assert (run.status, run.interruptions, run.failures) == (RunStatus.QUEUED, 1, 0)
    assert leases.renew(first) is Signal.LOST  # which ends its engine
    assert not runs.finish(run=run, attempt=first, result={}, evaluation={}, artifacts={})
    claimed = runs.claim(run.pk)
    assert claimed is not None
    assert runs.claim(run.pk) is None
    assert list(Attempt.objects.filter(run=run).order_by("number").values_list("outcome", flat=True)) == [EXPIRED, ""]


@pytest.mark.django_db(transaction=True)
def test_a_clock_that_jumps_back_leaves_the_run_with_its_worker_and_charges_nothing_below_zero(world: World) -> None:
    run, attempt = claimed_run(world)

    touched = reaping.reap(now=timezone.now() - HOUR)

    assert touched == 0
    assert leases.renew(attempt) is Signal.CONTINUE
    Attempt.objects.filter(pk=attempt.pk).update(started_at=timezone.now() + HOUR)
    assert compute.worked_seconds(run, now=timezone.now()) == 0
    assert runs.finish(run=run, attempt=attempt, result={}, evaluation={}, artifacts={})
    assert Run.objects.get(pk=run.pk).charge_minor == 0


def test_a_lease_outlasts_a_database_that_is_away_for_twenty_seconds() -> None:
    renewed_at_worst = leases.RENEW_SECONDS + leases.TURN_SECONDS
    assert leases.LEASE.total_seconds() - leases.FENCE_SECONDS - renewed_at_worst > AWAY_SECONDS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_told_by_its_code_and_tried_again(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        Path("/dev/full").write_bytes(b"x")
    for folder in ("inputs", "outputs"):
        (tmp_path / folder).mkdir()
    (tmp_path / "inputs/upload").write_bytes(zip_of(class_folders(labels=("a", "b"), images=4)))
    (tmp_path / "outputs/index.jsonl").symlink_to("/dev/full")
    spec.write(InspectSpec(), tmp_path)

    outcome = run_engine(
        Verb.INSPECT,
        tmp_path,
        on_events=lambda _events: None,
        heartbeat=lambda: Signal.CONTINUE,
        deadline_seconds=120,
    )

    assert (outcome.ending, outcome.code) == (Ending.FAILED, "app:disk_full")
    assert not (tmp_path / spec.RESULT_FILE).exists()
    assert may_try_again(outcome.code, tries=1)


def test_garbage_between_events_is_passed_over_and_the_run_ends_as_its_engine_says(tmp_path: Path) -> None:
    noise = [b"\xff\xfe\x00\x01", b"[]", b"{}", b'{"at": 1, "kind": "no such kind"}', b'"text"', b"null", b"{" * 5000]
    said = [
        b'{"at": 1, "kind": "started", "pid": 1}',
        *noise,
        b'{"at": 2, "kind": "failed", "code": "user:bad_spec", "message": "It is bad."}',
    ]
    (tmp_path / "said").write_bytes(b"\n".join([*said, b""]))
    engine = f"""
import sys
from pathlib import Path

run_dir = Path(sys.argv[2])
(run_dir / "{EVENTS_FILE}").write_bytes((run_dir / "said").read_bytes())
sys.exit({EXIT_USER})
"""
    heard: list[Kind] = []

    outcome = run_engine(
        Verb.TRAIN,
        tmp_path,
        on_events=lambda events: heard.extend(event.kind for event in events),
        heartbeat=lambda: Signal.CONTINUE,
        deadline_seconds=60,
        program=(sys.executable, "-c", engine),
    )

    assert heard == [Kind.STARTED, Kind.FAILED]
    assert (outcome.ending, outcome.code, outcome.message) == (Ending.FAILED, "user:bad_spec", "It is bad.")
    tail = EventTail(tmp_path / EVENTS_FILE)
    tail.read()
    assert tail.garbage == len(noise)
