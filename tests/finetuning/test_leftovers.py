from __future__ import annotations

import io
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import scenarios
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone
from worlds import World, claimed_run, launch, received, shapes

from finetuning.engine import spec as engine
from finetuning.models import Dataset, Run
from finetuning.services import leases, leftovers, runs, steering, workspaces
from marketplace import storage

pytestmark = pytest.mark.django_db(transaction=True)
A_DAY = timedelta(hours=25)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, settings: Any) -> None:
    # The blobs' directory too: what other tests broke off in theirs would be counted here.
    for name in ("RUNS_DIR", "SERVING_DIR", "FILE_UPLOAD_TEMP_DIR", "STORAGE_DIR"):
        setattr(settings, name, tmp_path / name.lower())
        (tmp_path / name.lower()).mkdir()


def aged(path: Path, now: datetime) -> Path:
    moment = (now - A_DAY).timestamp()
    os.utime(path, (moment, moment))
    return path


def with_directory(run: Run) -> Path:
    path = workspaces.directory("run", run.pk, engine.Verb.TRAIN)
    workspaces.prepare(path, engine.ZooSpec(), {})
    (path / "engine.log").write_bytes(b"first" + b"x" * 100_000 + b"last words")
    return path


def test_uploads_that_broke_off_go_after_a_day_and_blobs_stay() -> None:
    now = timezone.now()
    blob = storage.put(io.BytesIO(b"kept"), max_bytes=10)
    root = Path(settings.STORAGE_DIR)
    young, old = root / "incoming-young", root / "incoming-old"
    spooled = Path(settings.FILE_UPLOAD_TEMP_DIR) / "spooled"
    for path in (young, old, spooled):
        path.write_bytes(b"half")
    aged(storage.path_of(blob.sha256), now)
    aged(old, now)
    aged(spooled, now)

    assert leftovers.sweep(now=now) == 2
    assert [path.exists() for path in (young, old, spooled)] == [True, False, False]
    assert storage.exists(blob.sha256)
    young.unlink()


def test_of_a_failed_run_the_end_of_its_log_stays_for_a_month(world: World) -> None:
    run, attempt = claimed_run(world)
    path = with_directory(run)
    runs.fail(run=run, attempt=attempt, code="user:bad", message="It failed.")
    now = timezone.now()

    assert leftovers.sweep(now=now) == 0
    assert leftovers.sweep(now=now + A_DAY) == 1
    log = (path.parent / "train.log").read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == ["train.log"]
    assert (len(log), log[-10:]) == (64 * 1024, b"last words")
    assert leftovers.sweep(now=now + 2 * A_DAY) == 0
    assert leftovers.sweep(now=now + timedelta(days=31)) == 1
    assert not path.parent.exists()


def test_a_link_that_an_engine_left_in_the_place_of_its_log_shows_nothing(world: World) -> None:
    run, attempt = claimed_run(world)
    path = with_directory(run)
    (path / "engine.log").unlink()
    (path / "engine.log").symlink_to(__file__)
    runs.fail(run=run, attempt=attempt, code="user:bad", message="It failed.")

    leftovers.sweep(now=timezone.now() + A_DAY)

    assert not path.exists()
    assert not (path.parent / "train.log").exists()


def test_a_canceled_run_leaves_nothing_and_one_that_waits_or_works_keeps_its_directory(world: World) -> None:
    working, attempt = claimed_run(world)
    waiting = launch(world, hyper={"seed": 1})
    canceled = launch(world, hyper={"seed": 2})
    paths = [with_directory(run) for run in (working, waiting, canceled)]
    steering.request_cancel(user=world["buyer"], run=canceled, now=timezone.now())

    leftovers.sweep(now=timezone.now() + A_DAY)

    assert leases.is_held(attempt)
    assert [path.exists() for path in paths] == [True, True, False]


def test_a_log_that_cannot_be_kept_keeps_nothing_else_on_the_disk(world: World) -> None:
    run, attempt = claimed_run(world)
    path = with_directory(run)
    runs.fail(run=run, attempt=attempt, code="user:bad", message="It failed.")
    (path.parent / "train.log").mkdir()  # no more can be written there than to a full disk
    old = Path(settings.STORAGE_DIR) / "incoming-old"
    old.write_bytes(b"half")

    leftovers.sweep(now=timezone.now() + A_DAY)

    assert not path.exists()
    assert not old.exists()


def test_the_directory_of_an_inspection_stays_while_somebody_works_in_it() -> None:
    now = timezone.now()
    dataset = received(scenarios.person("bo"), shapes())
    path = workspaces.directory("dataset", dataset.pk, engine.Verb.INSPECT)
    path.mkdir(parents=True)
    claimed = leases.acquire(Dataset.objects.filter(status="checking"), dataset.pk, now=now)
    assert claimed is not None

    leftovers.sweep(now=now + A_DAY)
    assert path.exists()

    leases.close(claimed[1], outcome="app:killed")
    leftovers.sweep(now=now + A_DAY)
    assert not path.parent.exists()


def test_a_release_that_nobody_tried_for_a_day_is_laid_out_anew() -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    now = timezone.now()
    name = workspaces.lay_out(release)
    path = aged(Path(settings.SERVING_DIR) / name, now)

    workspaces.lay_out(release)  # a prediction counts as use
    assert leftovers.sweep(now=now) == 0

    aged(path, now)
    assert leftovers.sweep(now=now) == 1
    assert not list(Path(settings.SERVING_DIR).iterdir())
    assert workspaces.lay_out(release) == name
    assert (path / workspaces.WEIGHTS_DOCUMENT).is_file()


def test_the_reaper_sweeps() -> None:
    old = Path(settings.STORAGE_DIR) / "incoming-old"
    old.write_bytes(b"half")
    aged(old, timezone.now())

    call_command("reaper", "--once")

    assert not old.exists()
