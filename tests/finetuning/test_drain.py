"""A slot that is told to stop: real processes and real signals, on the test's own database."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import warm_engine
from django.core.cache.backends.db import DatabaseCache
from django.core.management import call_command
from django.db import connection
from django.utils import timezone
from worlds import World, received, tuned

from finetuning.engine.failures import EXIT_PAUSED
from finetuning.engine.spec import INPUTS_DIR, SPEC_FILE, Verb
from finetuning.models import Attempt, Dataset, Run, RunEvent
from finetuning.models.attempts import DRAINED
from finetuning.models.runs import RunStatus
from finetuning.runner import read_result
from finetuning.services import leases, runs, steering, workspaces
from marketplace.supervision.drain import SPARE_SECONDS

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE_SECONDS = 240
WEIGHTS = "release/model.safetensors"
ROOT = Path(__file__).resolve().parents[2]


def until(question: Callable[[], Any], *, of: subprocess.Popen[bytes]) -> Any:
    """Asks while the slot lives, until the answer is something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (answer := question()):
        assert of.poll() is None, "the slot has ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


def database_url() -> str:
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{values['NAME']}"
    return f"postgres://{values['USER']}:{values['PASSWORD']}@{values['HOST']}:{values['PORT']}/{values['NAME']}"


@contextlib.contextmanager
def slot(name: str, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
    """`manage.py slot`, as `up` starts it."""
    settings = {"DJANGO_SETTINGS_MODULE": "marketplace.settings", "DATABASE_URL": database_url()}
    process = subprocess.Popen(
        [sys.executable, "manage.py", "slot", name],
        cwd=ROOT,
        env={**os.environ, **settings, "Q_CLUSTER_NAME": name, **changes},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(autouse=True)
def _cache_table(transactional_db: None) -> None:  # noqa: ARG001 - opens the database
    call_command("createcachetable", "cache")  # the tests' own cache is in memory, the slot's is not


def engine_of(run: Run) -> int:
    """The process of the run's newest engine."""
    started = RunEvent.objects.filter(run=run, kind="started").order_by("-pk").first()
    return int(started.payload["pid"]) if started else 0


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return False


def has_learnt(run: Run) -> bool:
    """Whether an epoch of the training itself is over: from then on there is something to keep."""
    return RunEvent.objects.filter(run=run, kind="metric", payload__name="learning_rate").exists()


def has_trained(run: Run) -> bool:
    return RunEvent.objects.filter(run=run, verb="train", kind="finished").exists()


def trained_weights(run_dir: Path) -> str:
    result = read_result(run_dir)
    assert result is not None
    return str(result["outputs"][WEIGHTS]["sha256"])


def trained_at_once(directory: Path, like: Path) -> str:
    """The digest of the weights that the engine makes of the same order and inputs when nobody stops it."""
    directory.mkdir()
    shutil.copy(like / SPEC_FILE, directory)
    shutil.copytree(like / INPUTS_DIR, directory / INPUTS_DIR)
    engine = warm_engine.start(Verb.TRAIN, directory)
    engine.join(PATIENCE_SECONDS)
    assert engine.exitcode == 0
    return trained_weights(directory)


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["here", "on another machine"])
def test_a_run_on_a_slot_that_is_stopped_goes_on_where_it_was_and_ends_with_the_same_weights(
    trainable: World, tmp_path: Path, settings: Any, is_elsewhere: bool
) -> None:
    """Where slots share the blobs alone, as on several machines, the checkpoint goes with them."""
    machines: list[dict[str, str]] = [{}, {}]
    run = tuned(trainable)
    path = workspaces.directory("run", run.pk, Verb.TRAIN)
    if is_elsewhere:
        shared = {"SECRET_KEY": settings.SECRET_KEY, "STORAGE_URL": Path(settings.STORAGE_DIR).as_uri()}
        machines = [{"DATA_DIR": str(tmp_path / name), **shared} for name in ("first", "second")]
        path = tmp_path / "second/runs" / path.relative_to(settings.RUNS_DIR)
    with slot("train", ENGINE_CHECKPOINT_SECONDS="3600", **machines[0]) as first:
        until(lambda: has_learnt(run), of=first)
        first.send_signal(signal.SIGTERM)
        assert first.wait(PATIENCE_SECONDS) == 0

    run.refresh_from_db()
    assert (run.status, run.failures, run.interruptions) == (RunStatus.QUEUED, 0, 0)
    assert bool(run.checkpoints) is is_elsewhere
    laid_down = Attempt.objects.get(run=run)
    assert (laid_down.outcome, laid_down.exit_code) == (DRAINED, EXIT_PAUSED)
    assert not is_alive(engine_of(run))
    # Nobody rings for it here, as the reaper would in half a minute: the slot did, before it ended.
    with slot("train", **machines[1]) as second:
        until(lambda: has_trained(run), of=second)
        second.send_signal(signal.SIGTERM)
        assert second.wait(PATIENCE_SECONDS) == 0

    assert trained_weights(path) == trained_at_once(tmp_path / "at once", path)
    assert RunEvent.objects.filter(run=run, kind="log", payload__message__startswith="Going on from epoch").exists()


def test_an_engine_that_does_not_obey_is_killed_and_its_run_handed_back_all_the_same(trainable: World) -> None:
    run = tuned(trainable)
    with slot("train", DRAIN_SECONDS="1") as process:
        until(lambda: has_learnt(run), of=process)
        engine = engine_of(run)
        os.kill(engine, signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        assert process.wait(PATIENCE_SECONDS) == 0
        took = time.monotonic() - asked

    run.refresh_from_db()
    assert (run.status, run.failures, run.interruptions) == (RunStatus.QUEUED, 0, 0)
    assert list(Attempt.objects.filter(run=run).values_list("outcome", "exit_code")) == [(DRAINED, None)]
    assert not is_alive(engine)
    assert took < 1 + SPARE_SECONDS + PATIENCE_SECONDS / 4  # the rest is scheduling on a busy machine


def test_what_the_owner_asked_for_happens_when_the_slot_stops(trainable: World) -> None:
    canceled, paused = tuned(trainable), tuned(trainable, seed=5)
    for run, ask in ((canceled, steering.request_cancel), (paused, steering.request_pause)):
        claimed = runs.claim(run.pk)
        assert claimed is not None
        ask(user=trainable["buyer"], run=run, now=timezone.now())
        runs.hand_back(run=run, attempt=claimed[1], outcome=DRAINED)

    assert [Run.objects.get(pk=run.pk).status for run in (canceled, paused)] == ["canceled", "paused"]


def test_a_check_that_is_laid_down_often_is_not_given_up(trainable: World) -> None:
    dataset = received(trainable["buyer"], b"no zip", name="again and again")
    for _ in range(leases.MAX_INTERRUPTIONS + 1):
        claimed = leases.acquire(Dataset.objects.filter(status="checking"), dataset.pk, now=timezone.now())
        assert claimed is not None
        assert not leases.is_worn_out(claimed[1], failing=False)
        assert leases.hand_back(claimed[1], outcome=DRAINED)

    with slot("fast") as process:
        until(lambda: Dataset.objects.get(pk=dataset.pk).status == "invalid", of=process)


def test_a_slot_hears_its_messages_through_redis_too(transactional_db: None) -> None:  # noqa: ARG001 - opens it
    broker = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/15")
    try:
        redis.Redis.from_url(broker).ping()
    except redis.ConnectionError:
        pytest.skip("no Redis: set REDIS_URL")
    heard = DatabaseCache("cache", {})
    heard.clear()  # of what the slots before have heard

    with slot("fast", BROKER_URL=broker) as process:
        until(lambda: heard.get("canary:fast"), of=process)
