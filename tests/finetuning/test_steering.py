"""Cancel, pause and resume: what each means in every state, for two who ask at once, and for the weights."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import scenarios
from django.db import connection
from django.test import Client
from django.utils import timezone
from worlds import World, claimed_run, launch, tuned

from finetuning import tasks
from finetuning.models import Attempt, Run, RunEvent
from finetuning.models.attempts import EXPIRED
from finetuning.models.runs import RunStatus
from finetuning.services import datasets, garbage, leases, reaping, runs, steering
from marketplace.accounts.models import AuditEvent
from marketplace.errors import Conflict, Denied, DomainError
from models_catalog.models import Grant

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE_SECONDS = 240


def cancel(world: World, run: Run) -> Run:
    return steering.request_cancel(user=world["buyer"], run=fresh(run), now=timezone.now())


def pause(world: World, run: Run) -> Run:
    return steering.request_pause(user=world["buyer"], run=fresh(run), now=timezone.now())


def resume(world: World, run: Run) -> Run:
    return steering.resume(user=world["buyer"], run=fresh(run), now=timezone.now())


def fresh(run: Run) -> Run:
    return Run.objects.get(pk=run.pk)


def refused(act: Callable[[World, Run], Run], world: World, run: Run) -> str:
    with pytest.raises(DomainError) as caught:
        act(world, run)
    return caught.value.code


def ended(world: World, status: str) -> Run:
    run, attempt = claimed_run(world)
    if status == "succeeded":
        assert runs.finish(run=run, attempt=attempt, result={}, evaluation={}, artifacts={})
    elif status == "failed":
        runs.fail(run=run, attempt=attempt, code="user:bad", message="It failed.")
    else:
        cancel(world, run)
        assert steering.cancel(run=run, attempt=attempt)
    assert fresh(run).status == status
    return run


@pytest.mark.parametrize("status", ["succeeded", "failed", "canceled"])
@pytest.mark.parametrize("act", [cancel, pause, resume])
def test_a_run_that_has_ended_stays_as_it_is(world: World, status: str, act: Callable[[World, Run], Run]) -> None:
    run = ended(world, status)

    assert refused(act, world, run) == "already_finished"
    assert fresh(run).status == status


def test_a_queued_run_is_paused_at_once_and_nobody_works_on_it_until_it_is_resumed(world: World) -> None:
    run = pause(world, launch(world))

    assert run.status == RunStatus.PAUSED
    assert runs.claim(run.pk) is None
    assert reaping.reap(now=timezone.now() + timedelta(hours=1)) == 0
    assert refused(pause, world, run) == "already_paused"
    assert resume(world, run).status == RunStatus.QUEUED
    assert runs.claim(run.pk) is not None
    assert list(
        AuditEvent.objects.filter(action__startswith="run.").order_by("id").values_list("action", flat=True)
    ) == [
        "run.launch",
        "run.pause",
        "run.resume",
    ]


def test_resuming_a_run_that_is_not_paused_is_refused_with_its_state(world: World) -> None:
    queued = launch(world)
    assert refused(resume, world, queued) == "not_paused"

    assert runs.claim(queued.pk) is not None
    with pytest.raises(Conflict, match="This run is starting, not paused"):
        resume(world, queued)


def test_the_same_fine_tune_is_not_launched_beside_a_paused_one(world: World) -> None:
    run = pause(world, launch(world))

    with pytest.raises(Conflict) as caught:
        launch(world)
    assert (caught.value.code, caught.value.extra) == ("duplicate_run", {"run": str(run.uid)})


def test_a_paused_run_is_canceled_at_once(world: World) -> None:
    run = cancel(world, pause(world, launch(world)))

    assert run.status == RunStatus.CANCELED
    assert run.finished_at is not None


def test_a_cancel_wins_over_a_pause_that_has_not_happened_yet(world: World) -> None:
    run, attempt = claimed_run(world)
    assert pause(world, run).asked_to == "pause"
    assert cancel(world, run).asked_to == "cancel"
    assert refused(pause, world, run) == "being_canceled"

    steering.pause(run=run, attempt=attempt)

    assert fresh(run).status == RunStatus.CANCELED


def test_a_run_whose_worker_died_while_it_was_asked_to_pause_is_paused(world: World) -> None:
    run, attempt = claimed_run(world)
    pause(world, run)

    reaping.reap(now=attempt.leased_until + timedelta(seconds=1))

    assert fresh(run).status == RunStatus.PAUSED
    steering.pause(run=run, attempt=attempt)  # the worker lives after all: its word counts no more
    assert fresh(run).status == RunStatus.PAUSED
    assert Attempt.objects.get(run=run).outcome == EXPIRED


@pytest.mark.parametrize(("act", "loser"), [(cancel, "already_finished"), (resume, "not_paused")])
def test_of_two_who_ask_at_once_the_run_hears_one(world: World, act: Callable[[World, Run], Run], loser: str) -> None:
    run = launch(world)
    if act is resume:
        pause(world, run)
    line, answers = threading.Barrier(2), []

    def ask() -> None:
        try:
            seen = fresh(run)
            line.wait()
            done = {cancel: steering.request_cancel, resume: steering.resume}[act]
            answers.append(done(user=world["buyer"], run=seen, now=timezone.now()).status)
        except Conflict as error:
            answers.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    status = {cancel: "canceled", resume: "queued"}[act]
    assert status in answers
    assert set(answers) <= {status, loser}
    assert AuditEvent.objects.filter(action=f"run.{act.__name__}").count() == 1


def test_a_run_whose_dataset_or_license_has_gone_stays_paused_and_says_why(world: World) -> None:
    run = pause(world, launch(world))
    Grant.objects.update(expires_at=timezone.now() - timedelta(days=1))
    assert refused(resume, world, run) == "no_license"

    Grant.objects.update(expires_at=None)
    datasets.delete(user=world["buyer"], dataset=world["dataset"], now=timezone.now())
    assert refused(resume, world, run) == "dataset_gone"
    assert fresh(run).status == RunStatus.PAUSED
    assert cancel(world, run).status == RunStatus.CANCELED


def test_a_paused_run_takes_no_place_and_needs_one_to_go_on(world: World, settings: Any) -> None:
    settings.MAX_ACTIVE_RUNS = 1
    run = pause(world, launch(world))
    launch(world, hyper={"seed": 5})

    with pytest.raises(Denied) as caught:
        resume(world, run)
    assert caught.value.code == "quota_exceeded"


def test_page_and_api_answer_alike(world: World, client: Client) -> None:
    run = launch(world)
    client.force_login(world["buyer"])
    api, page = f"/api/v1/runs/{run.uid}/", f"/runs/{run.uid}/"

    assert client.post(f"{api}resume/").json()["code"] == "not_paused"
    assert client.post(f"{page}pause/").status_code == 302
    shown = client.get(page).content.decode()
    assert "This run is paused." in shown
    assert f"{page}resume/" in shown
    assert f"{page}pause/" not in shown
    assert client.get(api).json()["status"] == "paused"
    again = client.post(f"{api}pause/")
    assert (again.status_code, again.json()["code"]) == (409, "already_paused")
    assert client.post(f"{api}resume/").json()["status"] == "queued"
    assert client.post(f"{api}pause/").json()["status"] == "paused"
    assert client.post(f"{api}cancel/").json()["status"] == "canceled"
    assert client.get(f"{api}events/").json()["status"] == "canceled"
    client.force_login(scenarios.person("cy"))
    assert [client.post(f"{api}{verb}/").status_code for verb in ("pause", "resume", "cancel")] == [404] * 3


def worker(run: Run) -> threading.Thread:
    def work() -> None:
        try:
            tasks.fine_tune(run.pk)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _trained_an_epoch(run: Run) -> bool:
    """Has the training loop told of an epoch? The probe, which comes before it, tells of its own fit."""
    training = RunEvent.objects.filter(run=run, kind="stage", payload__title="Training").first()
    return training is not None and RunEvent.objects.filter(run=run, kind="metric", pk__gt=training.pk).exists()


@pytest.mark.parametrize("is_elsewhere", [False, True], ids=["here", "on another machine"])
def test_a_run_that_was_paused_ends_with_the_weights_of_one_that_was_not(
    trainable: World, monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path, is_elsewhere: bool
) -> None:
    settings.STORAGE_IS_SHARED = is_elsewhere
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    cut = tuned(trainable)
    Run.objects.filter(pk=cut.pk).update(interruptions=leases.MAX_INTERRUPTIONS, failures=1)
    thread = worker(cut)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _trained_an_epoch(cut):
        assert time.monotonic() < deadline
        assert thread.is_alive()
        time.sleep(0.05)
    pause(trainable, cut)
    thread.join(PATIENCE_SECONDS)
    assert fresh(cut).status == RunStatus.PAUSED
    assert list(Attempt.objects.filter(run=cut).values_list("outcome", flat=True)) == ["paused"]
    # It got as far as a checkpoint: what went wrong before that counts no more.
    assert (fresh(cut).interruptions, fresh(cut).failures) == (0, 0)
    assert bool(fresh(cut).checkpoints) is is_elsewhere
    if is_elsewhere:  # which has the blobs, and run directories of its own
        settings.RUNS_DIR = tmp_path / "runs"
        assert set(fresh(cut).checkpoints.values()) <= set(garbage.mentioned())
    resume(trainable, cut)
    tasks.fine_tune(cut.pk)
    whole = tuned(trainable)
    tasks.fine_tune(whole.pk)

    weights = [fresh(run).artifacts["release/model.safetensors"]["sha256"] for run in (cut, whole)]
    assert weights[0] == weights[1]
    said = RunEvent.objects.filter(run=cut, kind="log", payload__message__startswith="Going on from epoch")
    assert said.count() == 1
    assert fresh(cut).checkpoints == {}  # nobody needs them any more
