"""Runs that try several settings first: what may be asked for, and the whole way with the real engine."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scenarios
from django.db import connection
from django.test import Client
from django.utils import timezone
from engine_runs import image_folders
from form_values import values_of
from shapes_factory import write_release
from uploads_factory import masks
from worlds import World, dataset_of, uploaded

from finetuning import selectors, tasks
from finetuning.engine import headlines
from finetuning.engine import spec as engine
from finetuning.engine.spec import SearchMode, Task
from finetuning.models import Run, RunEvent
from finetuning.models.runs import RunStatus
from finetuning.services import derivatives, leases, runs, steering, workspaces
from finetuning.services.searches import Wish
from marketplace import storage
from marketplace.accounts.services import people
from marketplace.errors import Invalid
from models_catalog.services import publishing

pytestmark = pytest.mark.django_db(transaction=True)
SEARCH, RACE = SearchMode.SEARCH, SearchMode.RACE
QUICK = {"epochs": 2, "batch_size": 8, "augmentation": "none", "start_from_probe": False}
WAIT_SECONDS = 240


@pytest.fixture
def owned() -> World:
    """A vendor's own model and data, which hold nothing."""
    vera = scenarios.person("vera")
    return {
        "user": vera,
        "release": scenarios.published_release(vera),
        "dataset": dataset_of(people.namespace_of(vera)),
    }


@pytest.fixture
def trainable(tmp_path: Path, settings: Any) -> World:
    """One's own weights that can be trained, and a dataset of shapes."""
    settings.ENGINE_THREADS = 1
    vera = scenarios.person("vera")
    draft = scenarios.draft_release(vera)
    for file in write_release(tmp_path / "release").iterdir():
        publishing.attach_artifact(user=vera, release=draft, path=file.name, blob=storage.put_file(file))
    release = publishing.publish(user=vera, release=scenarios.verify(vera, draft), now=timezone.now())
    return {"user": vera, "release": release, "dataset": uploaded(vera, image_folders(24))}


def launch(world: World, wish: Wish, **given: Any) -> Run:
    run = runs.launch(**world, search=wish, hyper=given.pop("hyper", {}), now=timezone.now(), **given)
    run.refresh_from_db()  # as the database keeps it
    return run


def test_what_was_given_is_fixed_and_what_was_left_is_varied(owned: World) -> None:
    run = launch(owned, Wish(mode=SEARCH, trials=7), preset="best", hyper={"weight_decay": 0.5})

    assert run.search["space"] == ["learning_rate"]
    assert run.search["strategies"] == ["full"]
    assert (run.search["trials"], run.search["budget_seconds"]) == (7, 1800)
    fixed = run.search["fixed"]
    assert (fixed["weight_decay"], fixed["epochs"]) == (0.5, 20)
    assert "learning_rate" not in fixed  # the preset's, which is varied
    assert (run.strategy, run.hyper["weight_decay"]) == ("full", 0.5)


@pytest.mark.parametrize(
    ("wish", "given", "field", "said"),
    [
        (Wish(mode=SEARCH), {}, "strategy", "“Head only” has nothing to vary"),
        (Wish(mode=SEARCH, strategies=("head",)), {"strategy": "full"}, "strategies", "ask for a race"),
        (Wish(mode=SEARCH, space=("stages",)), {"strategy": "full"}, "space", "stages cannot be searched here"),
        (
            Wish(mode=SEARCH, space=("warm_up",)),
            {"strategy": "full", "hyper": {"warm_up": 0.2}},
            "space",
            "warm_up: give a value or vary it",
        ),
        (
            Wish(mode=SEARCH),
            {"strategy": "full", "hyper": {"learning_rate": 0.1, "weight_decay": 0.1}},
            "space",
            "Nothing is left to vary",
        ),
        (Wish(mode=SEARCH, trials=0), {"strategy": "full"}, "trials", "at least one"),
        (Wish(mode=SEARCH, trials=201), {"strategy": "full"}, "trials", "at most 200"),
        (Wish(mode=SEARCH, minutes=10_000), {"strategy": "full"}, "minutes", "from 1 to 288 minutes"),
        (Wish(mode=SEARCH, minutes=9), {"strategy": "full", "budget_minutes": 9}, "minutes", "the run more"),
        (Wish(mode=RACE, strategies=("full",)), {}, "strategies", "at least two strategies"),
        (Wish(mode=RACE, strategies=("full", "all")), {}, "strategies", "at least two strategies"),
        (Wish(mode=RACE, strategies=("full", "full")), {}, "strategies", "each once"),
        (Wish(mode=RACE, strategies=("full", "head"), trials=1), {}, "trials", "at least one for each strategy"),
        (Wish(mode=RACE, strategies=("full", "head")), {"strategy": "full"}, "strategy", "names its own strategies"),
        (Wish(mode=RACE, strategies=("full", "head")), {"preset": "best"}, "preset", "names its own strategies"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_field_and_what_to_do(
    owned: World, wish: Wish, given: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(Invalid) as caught:
        launch(owned, wish, **given)

    assert (caught.value.code, caught.value.field) == ("bad_search", field)
    assert said in caught.value.message
    assert not Run.objects.exists()


def test_the_api_takes_a_search_and_tells_what_was_asked(owned: World, client: Client) -> None:
    client.force_login(owned["user"])
    body = {"listing": "vera/net", "dataset": str(owned["dataset"].uid)}

    def post(search: dict[str, Any], **more: Any) -> Any:
        return client.post("/api/v1/runs/", json.dumps({**body, **more, "search": search}), "application/json")

    race = post({"mode": "race", "strategies": ["head", "last"], "trials": 4, "minutes": 5})
    alone = post({"mode": "none"}, strategy="head")
    refused = post({"mode": "search"})

    assert race.status_code == 201, race.content
    told = race.json()["search"]
    assert (told["mode"], told["strategies"], told["trials"]) == ("race", ["head", "last"], 4)
    assert (told["budget_seconds"], told["result"]) == (300, None)
    assert alone.json()["search"] is None
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_search")


def test_the_page_launches_a_search_and_varies_what_is_ticked(owned: World, client: Client) -> None:
    client.force_login(owned["user"])
    address = f"/runs/new/?model=vera/net&dataset={owned['dataset'].uid}&strategy=full"
    shown: dict[str, Any] = dict(values_of(client.get(address).content.decode()))
    assert shown["mode"] == "none"
    changed = {"learning_rate": "0.001", "epochs": "4", "mode": "search", "trials": "3"}
    fields = {**shown, **changed, "space": ["learning_rate", "warm_up"]}

    wrong = client.post(address, {**fields, "space": "stages"}).content.decode()
    answer = client.post(address, fields)

    assert "stages cannot be searched here" in wrong
    run = Run.objects.get()
    assert answer.headers["Location"] == f"/runs/{run.uid}/"
    assert (run.search["space"], run.search["trials"]) == (["learning_rate", "warm_up"], 3)
    assert run.search["fixed"]["epochs"] == 4
    assert "learning_rate" not in run.search["fixed"]
    page = client.get(f"/runs/{run.uid}/").content.decode()
    assert "The first trial has not begun yet" in page
    assert f'data-poll-url="/runs/{run.uid}/trials/"' in page


def test_a_search_precedes_the_training_and_its_winner_becomes_the_settings(trainable: World, client: Client) -> None:
    run = launch(trainable, Wish(mode=SEARCH, trials=3), strategy="full", hyper=QUICK)
    tasks.fine_tune(run.pk)
    run.refresh_from_db()

    assert run.status == RunStatus.SUCCEEDED, run.failure_message
    tried, winner = run.searched["trials"], run.searched["winner"]
    assert [row["trial"] for row in tried] == [1, 2, 3]
    assert winner["objective"] == min(row["objective"] for row in tried)
    assert {name: run.hyper[name] for name in winner["values"]} == winner["values"]
    assert run.hyper["epochs"] == 2
    assert run.result["validation"]["loss"] == pytest.approx(winner["validation"]["loss"], rel=1e-3)

    client.force_login(trainable["user"])
    envelope = json.loads(b"".join(client.get(f"/api/v1/runs/{run.uid}/receipt/").streaming_content))
    items = run.searched["validation_items"]
    assert envelope["receipt"]["spec"]["selection"] == {"mode": "search", "trials": 3, "validation_items": items}
    assert client.get(f"/api/v1/runs/{run.uid}/").json()["search"]["result"]["trials"] == tried
    news = client.get(f"/api/v1/runs/{run.uid}/events/").json()["trials"]
    assert {row["trial"]: row for row in news} == {row["trial"]: row for row in tried}
    page = client.get(f"/runs/{run.uid}/").content.decode()
    assert run.searched["caution"] in page
    assert page.count("· chosen") == 1
    assert "best of 3 trials" in derivatives.card(run, title="t", summary="s", terms=run.terms.value)


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_a_search_that_was_cut_goes_on_where_it_was_and_never_has_test_items(
    trainable: World, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)  # how soon the wish is heard: the trials are over in seconds
    run = launch(trainable, Wish(mode=RACE, trials=4, strategies=("last", "full")), hyper=QUICK | {"epochs": 3})
    path = workspaces.directory("run", run.pk, engine.Verb.SEARCH)

    def cut() -> None:
        if how == "killed":
            os.kill(_pid(path), signal.SIGKILL)
        else:
            steering.request_pause(user=trainable["user"], run=run, now=timezone.now())
            connection.close()

    with _once(lambda: bool(_ended(path)), cut):
        tasks.fine_tune(run.pk)
    run.refresh_from_db()
    expected = (RunStatus.QUEUED, 1) if how == "killed" else (RunStatus.PAUSED, 0)
    assert (run.status, run.failures, run.searched) == (*expected, {})
    assert sorted(file.name for file in (path / engine.INPUTS_DIR).iterdir()) == ["release", "train.pack"]
    before = {row["trial"]: row for row in selectors.trials_of(run) if row["ended"]}

    if how == "paused":
        steering.resume(user=trainable["user"], run=run, now=timezone.now())
    tasks.fine_tune(run.pk)
    run.refresh_from_db()

    assert run.status == RunStatus.SUCCEEDED, run.failure_message
    after = {row["trial"]: row for row in run.searched["trials"]}
    assert before
    assert {number: after[number] for number in before} == before
    again = RunEvent.objects.filter(run=run, attempt=2, verb="search", kind="metric")
    repeated = {f"trial_{number}_loss" for number in before} & {event.payload["name"] for event in again}
    assert repeated == set()
    assert run.strategy == run.searched["winner"]["strategy"]


def test_masks_are_searched_by_their_own_score_over_a_pause(
    trainable: World, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    client.force_login(trainable["user"])
    data = uploaded(trainable["user"], masks(), name="scenes", task=Task.SEMANTIC_SEGMENTATION)
    quick = {"epochs": 2, "batch_size": 8, "augmentation": "none"}
    wish = {"mode": "race", "strategies": ["head", "last"], "trials": 3}
    body = {"listing": "vera/net", "dataset": str(data.uid), "hyper": quick, "search": wish}
    answer = client.post("/api/v1/runs/", json.dumps(body), "application/json")
    assert answer.status_code == 201, answer.content
    run = Run.objects.get()
    path = workspaces.directory("run", run.pk, engine.Verb.SEARCH)

    def pause() -> None:
        steering.request_pause(user=trainable["user"], run=run, now=timezone.now())
        connection.close()

    with _once(lambda: any(event["kind"] == "trial" for event in _told(path)), pause):
        tasks.fine_tune(run.pk)
    run.refresh_from_db()
    assert (run.status, run.searched) == (RunStatus.PAUSED, {})
    steering.resume(user=trainable["user"], run=run, now=timezone.now())
    tasks.fine_tune(run.pk)
    run.refresh_from_db()

    assert run.status == RunStatus.SUCCEEDED, run.failure_message
    tried, winner = run.searched["trials"], run.searched["winner"]
    best = max(row["validation"]["miou"] for row in tried)
    assert winner["validation"]["miou"] == pytest.approx(best)
    assert run.result["validation"]["miou"] == pytest.approx(best, abs=0.01)
    page = client.get(f"/runs/{run.uid}/").content.decode()
    title = headlines.HEADLINES[Task.SEMANTIC_SEGMENTATION][1]
    assert f"Trials, compared by their validation {title}" in page
    assert page.count("· chosen") == 1
    assert f"{best:.1%}" in page


def test_a_search_is_canceled_like_a_training(trainable: World) -> None:
    run = launch(trainable, Wish(mode=SEARCH, trials=200), strategy="full", hyper=QUICK)
    path = workspaces.directory("run", run.pk, engine.Verb.SEARCH)

    def cancel() -> None:
        steering.request_cancel(user=trainable["user"], run=run, now=timezone.now())
        connection.close()

    with _once(lambda: bool(_ended(path)), cancel):
        tasks.fine_tune(run.pk)
    run.refresh_from_db()

    assert (run.status, run.searched) == (RunStatus.CANCELED, {})
    assert not path.exists()


class _once:  # noqa: N801 - reads as a word
    """Acts once, from a thread of its own, when the condition holds."""

    def __init__(self, condition: Callable[[], bool], act: Callable[[], None]) -> None:
        self._condition, self._act = condition, act
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_exception: object) -> None:
        self._thread.join()

    def _watch(self) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not self._condition():
            if time.monotonic() > deadline:
                return
            time.sleep(0.005)
        self._act()


def _told(path: Path) -> list[dict[str, Any]]:
    events = path / engine.EVENTS_FILE
    lines = events.read_text().split("\n")[:-1] if events.exists() else []
    return [json.loads(line) for line in lines]


def _ended(path: Path) -> list[int]:
    return [event["trial"] for event in _told(path) if event["kind"] == "trial" and event["ended"]]


def _pid(path: Path) -> int:
    return int(next(event["pid"] for event in _told(path) if event["kind"] == "started"))
