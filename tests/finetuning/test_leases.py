"""Leases against a real database that other connections lock, and real engine processes."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import doorbell
import other_databases
import pytest
from django.utils import timezone
from worlds import World, claimed_run, received, shapes

from finetuning.engine.events import Event, Kind
from finetuning.engine.spec import Verb
from finetuning.models import Attempt, Dataset, RunEvent
from finetuning.models.runs import RunStatus
from finetuning.runner import Ending, Signal, run_engine
from finetuning.services import leases, reaping, runs, steering
from finetuning.services.journals import Journal
from models_catalog.models import Release

pytestmark = pytest.mark.django_db(transaction=True)
ENGINE = """
import os, sys, time
from pathlib import Path
from finetuning.engine.events import EventWriter, Kind
run_dir = Path(sys.argv[2])
with EventWriter(run_dir / "events.jsonl") as events:
    events.emit(Kind.STARTED, pid=os.getpid(), engine=1)
    events.metric("loss", "train", 1, 0.5)
    while not (run_dir / "go").exists():
        time.sleep(0.01)
(run_dir / "result.json").write_text("{}")
"""
PATIENCE_SECONDS = 60


def until(answer: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not answer():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_database_that_is_away_for_a_moment_costs_no_engine_and_no_event(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run, attempt = claimed_run(world)
    journal = Journal(run, attempt)
    other_databases.give_up_soon(monkeypatch)
    with leases.kept(attempt, chore=journal.flush) as keeper, other_databases.locked() as other:

        def heartbeat() -> Signal:
            refused = sum("database is away" in record.message for record in caplog.records)
            if refused > 2:
                other.rollback()
                (tmp_path / "go").touch()
            return keeper.signal()

        outcome = run_engine(
            Verb.TRAIN,
            tmp_path,
            on_events=lambda events: journal.add(Verb.TRAIN, events),
            heartbeat=heartbeat,
            deadline_seconds=PATIENCE_SECONDS,
            program=(sys.executable, "-c", ENGINE),
        )
        journal.flush()

    assert outcome.ending is Ending.SUCCEEDED
    assert [event.kind for event in RunEvent.objects.filter(run=run)] == ["started", "metric"]
    assert leases.is_held(attempt)


def test_an_engine_is_dead_before_a_lease_that_cannot_be_renewed_runs_out(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewing thread waits for the other's lock all the while."""
    monkeypatch.setattr(leases, "LEASE", timedelta(seconds=4))
    monkeypatch.setattr(leases, "FENCE_SECONDS", 1.0)
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    run, attempt = claimed_run(world)
    with leases.kept(attempt) as keeper, other_databases.locked():
        outcome = run_engine(
            Verb.TRAIN,
            tmp_path,
            on_events=lambda _: None,
            heartbeat=keeper.signal,
            deadline_seconds=PATIENCE_SECONDS,
            program=(sys.executable, "-c", ENGINE),
        )
        ended_at = timezone.now()

    assert outcome.ending is Ending.LOST
    assert ended_at < Attempt.objects.get(pk=attempt.pk).leased_until
    runs.hand_back(run=run, attempt=attempt, outcome=outcome.code)
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED


def test_a_lease_is_kept_while_no_engine_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copying and hashing gigabytes takes longer than a lease."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    _, attempt = claimed_run(world)
    with leases.kept(attempt) as keeper:
        until(lambda: Attempt.objects.get(pk=attempt.pk).leased_until > attempt.leased_until)
        just_after = attempt.leased_until + timedelta(milliseconds=1)
        assert reaping.reap(now=just_after) == 0
        assert keeper.signal() is Signal.CONTINUE


def test_a_cancel_and_a_lost_lease_reach_the_keeper(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    run, attempt = claimed_run(world)
    with leases.kept(attempt) as keeper:
        steering.request_cancel(user=world["buyer"], run=run, now=timezone.now())
        until(lambda: keeper.signal() is Signal.CANCEL)
        assert leases.close(attempt, outcome="taken away")
        until(lambda: keeper.signal() is Signal.LOST)


def test_the_keepers_connection_is_closed_after_it(world: World) -> None:
    _, attempt = claimed_run(world)
    before, most = other_databases.connections_open(), [0]

    def chore() -> None:
        leases.is_held(attempt)
        most.append(other_databases.connections_open())

    with leases.kept(attempt, chore=chore):
        until(lambda: max(most) > before)

    until(lambda: other_databases.connections_open() == before)  # a server notices it a little later


def events(*kinds: tuple[Kind, dict[str, Any]]) -> list[Event]:
    return [Event(line, 1.0, kind, payload) for line, (kind, payload) in enumerate(kinds)]


def test_only_the_newest_progress_is_kept(world: World) -> None:
    run, attempt = claimed_run(world)
    journal = Journal(run, attempt)
    steps = [(Kind.PROGRESS, {"stage": "tune", "done": done, "total": 900, "rate": 1.5}) for done in range(900)]
    journal.add(Verb.TRAIN, events((Kind.STAGE, {"name": "tune", "title": "Tuning"}), *steps))
    journal.flush()
    journal.flush()

    run.refresh_from_db()
    assert list(RunEvent.objects.filter(run=run).values_list("kind", flat=True)) == ["stage"]
    assert run.progress == {"stage": "tune", "title": "Tuning", "done": 899, "total": 900, "rate": 1.5}
    assert run.status == RunStatus.RUNNING


def test_a_journal_whose_lease_is_lost_writes_nothing(world: World) -> None:
    run, attempt = claimed_run(world)
    assert reaping.reap(now=attempt.leased_until + timedelta(seconds=1)) == 1
    journal = Journal(run, attempt)
    journal.add(Verb.TRAIN, events((Kind.LOG, {"message": "late"})))
    journal.flush()

    run.refresh_from_db()
    assert (run.status, RunEvent.objects.count()) == (RunStatus.QUEUED, 0)


def test_what_changed_while_its_message_waited_is_not_taken(world: World) -> None:
    """The state is read in the transaction that takes the lease, not before."""
    release = world["release"]
    verifying = Release.objects.filter(status="verifying")

    assert leases.acquire(verifying, release.pk, now=timezone.now()) is None
    assert not Attempt.objects.filter(release=release).exists()


def test_the_reaper_rings_for_a_check_that_nobody_holds_and_once_a_minute(world: World) -> None:
    dataset = received(world["buyer"], shapes(), name="waiting")
    now = timezone.now() + timedelta(minutes=5)
    doorbell.silence()

    assert [reaping.reap(now=now), reaping.reap(now=now)] == [1, 0]
    assert doorbell.waiting() == 1

    claimed = leases.acquire(Dataset.objects.filter(status="checking"), dataset.pk, now=now)
    assert claimed is not None
    much_later = now + timedelta(minutes=5)
    Attempt.objects.filter(pk=claimed[1].pk).update(leased_until=much_later + timedelta(seconds=20))
    assert reaping.reap(now=much_later) == 0
