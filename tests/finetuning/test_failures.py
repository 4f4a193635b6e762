"""Whose fault a failure is, and what follows: another try, or a sentence on what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone
from worlds import World, claimed_run, launch

from finetuning import failures, tasks
from finetuning.engine.events import Event
from finetuning.engine.spec import Verb
from finetuning.models import Attempt, Run
from finetuning.runner import Ending, Signal, run_engine
from finetuning.services import runs, steering, workspaces
from marketplace.errors import Unavailable

pytestmark = pytest.mark.django_db(transaction=True)
SAYS = """
import json, sys
with open(sys.argv[2] + "/events.jsonl", "a") as file:
    file.write('{"at": 1, "kind": "started"}\\n\\xff\\x00 garbage\\n[1, 2]\\n')
    file.write(json.dumps({"at": 1, "kind": "failed", "code": CODE, "message": "It failed."}) + "\\n")
sys.exit(70)
"""


@pytest.mark.parametrize(
    ("code", "tries"),
    [
        ("user:too_few_images", 1),
        ("user:not_allowed_any_more", 1),
        ("app:out_of_memory", 1),
        ("app:deadline", 1),
        ("app:internal", 2),
        ("app:stalled", 2),
        ("app:killed", 3),
        ("app:disk", 15),
        ("app:disk_full", 15),
    ],
)
def test_only_what_may_end_otherwise_is_tried_again(world: World, code: str, tries: int) -> None:
    run = launch(world)
    done = 0
    while Run.objects.get(pk=run.pk).status == "queued":
        claimed = runs.claim(run.pk)
        assert claimed is not None
        runs.fail(run=claimed[0], attempt=claimed[1], code=code, message="It failed.")
        done += 1

    run.refresh_from_db()
    assert (done, run.status, run.failure_code) == (tries, "failed", code)


def test_a_bucket_that_was_away_takes_no_try_from_an_engine_that_is_killed(world: World) -> None:
    run = launch(world)

    def fails(code: str) -> str:
        claimed = runs.claim(run.pk)
        assert claimed is not None
        runs.fail(run=claimed[0], attempt=claimed[1], code=code, message="It failed.")
        return Run.objects.get(pk=run.pk).status

    assert [fails("app:disk") for _ in range(4)] == ["queued"] * 4
    assert [fails("app:killed") for _ in range(3)] == ["queued", "queued", "failed"]


def test_page_and_api_say_what_to_do_next(world: World, client: Client) -> None:
    run, attempt = claimed_run(world)
    runs.fail(run=run, attempt=attempt, code="app:out_of_memory", message="The memory did not suffice.")
    client.force_login(world["buyer"])

    failure = client.get(f"/api/v1/runs/{run.uid}/").json()["failure"]
    page = client.get(f"/runs/{run.uid}/").content.decode()

    assert failure["code"] == "app:out_of_memory"
    assert "smaller batch" in failure["advice"]
    assert failure["advice"] in page


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError("the disk"), "app:disk"),
        (Unavailable("storage_failed", "The bucket is away."), "app:disk"),
        (ValueError("the weights changed after the engine had finished"), "app:internal"),
    ],
    ids=["disk", "bucket", "changed file"],
)
def test_what_may_come_back_is_waited_for_and_what_is_wrong_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    run = launch(world)

    def fails(*_: object) -> Path:
        raise error

    monkeypatch.setattr(workspaces, "prepare", fails)
    tasks.fine_tune(run.pk)

    assert Attempt.objects.get(run=run).outcome == code


def test_a_run_says_why_it_waits_for_another_try_as_long_as_it_waits(world: World, client: Client) -> None:
    run, attempt = claimed_run(world)
    runs.fail(run=run, attempt=attempt, code="app:disk", message="The bucket is away.")
    client.force_login(world["buyer"])

    def told() -> tuple[str, str]:
        events = client.get(f"/api/v1/runs/{run.uid}/events/").json()
        return events["stage"], client.get(f"/runs/{run.uid}/").content.decode()

    reason = "The bucket is away. It is tried again."
    stage, page = told()
    assert stage == reason
    assert reason in page

    steering.request_pause(user=world["buyer"], run=run, now=timezone.now())
    stage, page = told()
    assert stage == ""
    assert reason not in page


@pytest.mark.parametrize(("ask", "status"), [(steering.request_cancel, "canceled"), (steering.request_pause, "paused")])
def test_what_its_owner_asks_for_comes_before_another_try(
    world: World, ask: Callable[..., object], status: str
) -> None:
    run, attempt = claimed_run(world)
    ask(user=world["buyer"], run=run, now=timezone.now())

    runs.fail(run=run, attempt=attempt, code="app:disk", message="The bucket is away.")

    run.refresh_from_db()
    assert (run.status, run.failures) == (status, 0)


@pytest.mark.parametrize("code", ["'x' * 5000", "'app:<script>'", "None", "{'a': 1}", "'user:'"])
def test_a_code_that_is_none_is_a_fault_of_ours(tmp_path: Path, code: str) -> None:
    outcome = run_engine(
        Verb.TRAIN,
        tmp_path,
        on_events=lambda _: None,
        heartbeat=lambda: Signal.CONTINUE,
        deadline_seconds=60,
        program=(sys.executable, "-c", f"CODE = {code}\n{SAYS}"),
    )

    assert (outcome.code, outcome.message) == (failures.UNKNOWN, "It failed.")


def test_an_engine_that_says_nothing_is_ended(tmp_path: Path) -> None:
    seen: list[Event] = []
    began = timezone.now()

    outcome = run_engine(
        Verb.TRAIN,
        tmp_path,
        on_events=seen.extend,
        heartbeat=lambda: Signal.CONTINUE,
        deadline_seconds=600,
        stall_seconds=1,
        program=(sys.executable, "-c", "import time; time.sleep(600)"),
    )

    assert (outcome.ending, outcome.code) == (Ending.FAILED, "app:stalled")
    assert (timezone.now() - began).total_seconds() < 60
