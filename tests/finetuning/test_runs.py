from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
import scenarios
from archives_factory import class_folders, zip_of
from django.db import connection
from django.test import Client
from django.utils import timezone
from worlds import launch, uploaded

from finetuning import tasks
from finetuning.engine.events import Event, Kind
from finetuning.engine.spec import Verb
from finetuning.models import Attempt, Run
from finetuning.models.runs import RunStatus
from finetuning.services import leases, reaping, runs, steering
from finetuning.services.journals import Journal
from marketplace.errors import Conflict, Denied, Invalid
from models_catalog.models import Release
from models_catalog.services import publishing

pytestmark = pytest.mark.django_db(transaction=True)


def test_an_upload_is_inspected_and_reported(world: dict[str, Any]) -> None:
    dataset = world["dataset"]

    assert dataset.status == "valid", dataset.problems
    report = dataset.versions.get().report
    assert report["images"] == 16
    assert sum(report["splits"].values()) == 16


def test_an_upload_that_is_no_zip_says_so_and_keeps_nothing() -> None:
    dataset = uploaded(scenarios.person("bo"), b"<html>not a zip</html>")

    assert dataset.status == "invalid"
    assert dataset.problems[0]["code"] == "not_a_zip"
    assert not dataset.versions.exists()


def test_launching_is_refused_without_a_grant_on_a_withdrawn_release_and_twice(world: dict[str, Any]) -> None:
    stranger = scenarios.person("cy")
    theirs = uploaded(stranger, zip_of(class_folders(labels=("a", "b"), images=8)))
    with pytest.raises(Denied) as caught:
        launch(world, user=stranger, dataset=theirs)
    assert caught.value.code == "no_license"

    launch(world)
    with pytest.raises(Conflict) as twice:
        launch(world)
    assert twice.value.code == "duplicate_run"

    publishing.yank(user=world["vendor"], release=world["release"], reason="broken", now=timezone.now())
    world["release"] = Release.objects.get()
    with pytest.raises(Denied) as withdrawn:
        launch(world)
    assert withdrawn.value.code == "release_withdrawn"


def test_a_setting_out_of_its_range_names_the_field(world: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        launch(world, hyper={"epochs": 0})

    assert caught.value.field == "epochs"


def test_a_run_is_claimed_once_and_its_lease_decides_who_writes(world: dict[str, Any]) -> None:
    run = launch(world)
    claimed = runs.claim(run.pk)
    assert claimed is not None
    assert runs.claim(run.pk) is None

    later = timezone.now() + timedelta(minutes=5)
    assert reaping.reap(now=later) == 1
    lost, attempt = claimed
    assert not runs.finish(run=lost, attempt=attempt, result={}, evaluation={}, artifacts={})
    run.refresh_from_db()
    assert (run.status, run.interruptions) == (RunStatus.QUEUED, 1)
    assert Attempt.objects.get(run=run).outcome == "lease_expired"


def test_only_a_run_that_gets_no_further_is_given_up(world: dict[str, Any]) -> None:
    run = launch(world)

    def interrupt(*, after: list[Event]) -> str:
        claimed = runs.claim(run.pk)
        assert claimed is not None
        journal = Journal(*claimed)
        journal.add(Verb.TRAIN, after)
        journal.flush()
        reaping.reap(now=timezone.now() + timedelta(minutes=5))
        run.refresh_from_db()
        return run.status

    stage = [Event(0, 0.0, Kind.STAGE, {"name": "train", "title": "Training"})]
    checkpoint = [*stage, Event(1, 0.0, Kind.CHECKPOINT, {"step": 7})]
    for _ in range(leases.MAX_INTERRUPTIONS - 1):
        assert interrupt(after=stage) == "queued"
    for _ in range(3):
        assert interrupt(after=checkpoint) == "queued"
    assert run.interruptions == 1
    while run.interruptions < leases.MAX_INTERRUPTIONS:
        assert interrupt(after=stage) == "queued"
    assert interrupt(after=stage) == "failed"
    assert (run.failure_code, "10 times in a row" in run.failure_message) == ("app:no_progress", True)


def test_a_queued_run_is_canceled_at_once_and_canceling_again_is_refused(world: dict[str, Any]) -> None:
    run = steering.request_cancel(user=world["buyer"], run=launch(world), now=timezone.now())

    assert run.status == RunStatus.CANCELED
    assert runs.claim(run.pk) is None
    with pytest.raises(Conflict) as caught:
        steering.request_cancel(user=world["buyer"], run=run, now=timezone.now())
    assert caught.value.code == "already_finished"


def test_weights_that_cannot_be_read_fail_the_run_with_the_users_code(world: dict[str, Any]) -> None:
    run = launch(world)

    tasks.fine_tune(run.pk)

    run.refresh_from_db()
    assert run.status == RunStatus.FAILED
    assert run.failure_code.startswith("user:")


def test_somebody_elses_dataset_and_run_do_not_exist(world: dict[str, Any], client: Client) -> None:
    run = launch(world)
    client.force_login(scenarios.person("cy"))

    for path in (f"datasets/{world['dataset'].uid}/", f"runs/{run.uid}/"):
        assert client.get(f"/{path}").status_code == 404
        assert client.get(f"/api/v1/{path}").status_code == 404


def test_parallel_launches_stay_below_the_limit(world: dict[str, Any], settings: Any) -> None:
    settings.MAX_ACTIVE_RUNS = 2
    line = threading.Barrier(8)
    answers: list[str] = []

    def hurry(seed: int) -> None:
        try:
            line.wait()
            launch(world, hyper={"seed": seed})
            answers.append("launched")
        except Denied as error:
            answers.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=hurry, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answers) == ["launched"] * 2 + ["quota_exceeded"] * 6
    assert Run.objects.active().count() == 2
