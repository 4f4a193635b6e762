"""What may be launched on what, and what the form and the API make of it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import scenarios
from django.conf import settings
from django.test import Client
from django.utils import timezone
from form_values import values_of
from worlds import dataset_of

from finetuning.engine.spec import PRESETS, STRATEGIES, Framework, Hyper, Strategy, Task, defaults_for
from finetuning.models import Dataset, Run
from finetuning.services import runs
from marketplace import signing
from marketplace.accounts.models import User
from marketplace.accounts.services import people
from marketplace.errors import Denied, Invalid
from models_catalog.models import Release

pytestmark = pytest.mark.django_db
# Detectors of this library: the engine does not read them.
UNTUNABLE = {"task": "object-detection", "framework": "transformers", "architecture": "DetrForObjectDetection"}
ENCODER = {"task": "text-classification", "framework": "transformers", "architecture": "BertModel"}


def owner(username: str = "vera") -> User:
    return User.objects.filter(username=username).first() or scenarios.person(username)


def data(task: str, **given: Any) -> Dataset:
    return dataset_of(people.namespace_of(owner()), task=task, **given)


def model(**kind: str) -> Release:
    return scenarios.published_release(owner(), **kind)


def launch(release: Release, dataset: Dataset, **given: Any) -> Run:
    return runs.launch(
        user=owner(), release=release, dataset=dataset, hyper=given.pop("hyper", {}), now=timezone.now(), **given
    )


# What a model can learn


@pytest.mark.parametrize("task", ["image-classification", "object-detection", "semantic-segmentation"])
def test_a_timm_classifier_learns_every_task_of_images(task: str) -> None:
    run = launch(model(), data(task))

    spec = runs.train_spec(run.release, run.dataset_version, Strategy(run.strategy), Hyper(**run.hyper))
    assert (spec.weights.task, spec.task) == (Task.IMAGE_CLASSIFICATION, Task(task))
    assert run.task == task


@pytest.mark.parametrize(
    ("kind", "task"),
    [
        ({}, "text-classification"),
        ({"framework": "torchvision", "architecture": "resnet18"}, "object-detection"),
        ({"task": "object-detection"}, "image-classification"),
        ({"task": "semantic-segmentation"}, "object-detection"),
        (ENCODER, "image-classification"),
    ],
)
def test_a_dataset_of_a_task_that_the_model_cannot_learn_is_refused_in_words(kind: dict[str, str], task: str) -> None:
    with pytest.raises(Denied) as caught:
        launch(model(**kind), data(task))

    assert caught.value.code == "task_mismatch"
    assert task.replace("-", " ") in caught.value.message
    assert "Choose another" in caught.value.message


def test_nobody_is_sent_for_a_license_of_what_cannot_be_tuned(client: Client) -> None:
    model(**UNTUNABLE)
    client.force_login(scenarios.person("bo"))

    decision = client.get("/api/v1/listings/vera/net/").json()["actions"]["fine_tune"]

    assert decision["code"] == "not_tunable_yet"


def test_models_are_offered_by_what_the_dataset_needs(client: Client) -> None:
    model(name="pictures")
    model(name="words", **ENCODER)
    model(name="other-net", **UNTUNABLE)
    client.force_login(owner())

    every = client.get("/runs/new/").content.decode()
    texts = client.get(f"/runs/new/?dataset={data('text-classification').uid}").content.decode()

    assert [name in every for name in ("pictures", "words", "other-net")] == [True, True, False]
    assert [name in texts for name in ("vera/pictures", "vera/words")] == [False, True]


# Settings


def test_what_is_not_chosen_follows_the_task_and_the_strategy() -> None:
    dataset = data("text-classification")

    run = launch(model(**ENCODER), dataset, strategy="lora", hyper={"epochs": 2})

    assert (run.hyper["epochs"], run.hyper["learning_rate"], run.hyper["schedule"]) == (2, 3e-4, "linear")


def test_a_preset_gives_strategy_and_settings_and_what_is_given_goes_over_it() -> None:
    run = launch(model(), data("object-detection"), preset="best", hyper={"epochs": 3})

    assert (run.strategy, run.hyper["epochs"], run.hyper["average_weights"]) == ("full", 3, True)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"strategy": "lora"}, "strategy"),
        ({"strategy": "no such"}, "strategy"),
        ({"preset": "resnet50-cifar10"}, "preset"),
        ({"preset": "best", "strategy": "head"}, "strategy"),
        ({"strategy": "full", "hyper": {"loss": "focal"}}, "loss"),
        ({"strategy": "full", "hyper": {"epochs": 0}}, "epochs"),
        ({"hyper": {"epoch": 1}}, "epoch"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_queued(given: dict[str, Any], field: str) -> None:
    release, dataset = model(), data("object-detection")

    with pytest.raises(Invalid) as caught:
        launch(release, dataset, **given)

    assert caught.value.field == field
    assert caught.value.message.endswith(".")
    assert not Run.objects.exists()


def test_the_api_takes_a_preset_and_names_the_field_of_a_bad_one(client: Client) -> None:
    model()
    dataset = data("semantic-segmentation")
    client.force_login(owner())

    def ask(**given: Any) -> Any:
        body = {"listing": "vera/net", "dataset": str(dataset.uid), **given}
        return client.post("/api/v1/runs/", json.dumps(body), content_type="application/json")

    refused, taken = ask(preset="resnet50-cifar10"), ask(preset="balanced")

    assert (refused.status_code, refused.json()["code"]) == (422, "bad_preset")
    assert refused.json()["errors"][0]["field"] == "preset"
    run = taken.json()
    assert (run["task"], run["strategy"], run["hyper"]["stages"]) == ("semantic-segmentation", "last", 3)


# The form


@pytest.mark.parametrize("task", ["object-detection", "text-classification"])
@pytest.mark.parametrize("strategy", ["full", "head"])
def test_without_a_script_untouched_settings_follow_the_strategy_that_is_sent(
    client: Client, task: str, strategy: str
) -> None:
    model(**(ENCODER if task == "text-classification" else {}))
    dataset = data(task)
    client.force_login(owner())
    address = f"/runs/new/?model=vera/net&dataset={dataset.uid}"
    sent = values_of(client.get(address).content.decode())
    assert sent["strategy"] == "head"

    answer = client.post(address, {**sent, "strategy": strategy, "seed": "5"})

    run = Run.objects.get()
    assert answer.headers["Location"] == f"/runs/{run.uid}/"
    expected = {**defaults_for(Task(task), Strategy(strategy)), "seed": 5}
    assert {name: run.hyper[name] for name in expected} == expected


@pytest.mark.parametrize("task", ["image-classification", "object-detection", "semantic-segmentation"])
def test_the_form_shows_what_the_task_reads_and_no_more(client: Client, task: str) -> None:
    model()
    dataset = data(task)
    client.force_login(owner())

    page = client.get(f"/runs/new/?model=vera/net&dataset={dataset.uid}").content.decode()

    read = set().union(*(defaults_for(Task(task), strategy) for strategy in STRATEGIES[Task(task)]))
    names = set(re.findall(r'name="(\w+)"', page)) & {*Hyper.__dataclass_fields__}
    assert names == read
    assert set(re.findall(r'name="strategy" value="(\w+)"', page)) == {item.value for item in STRATEGIES[Task(task)]}


@pytest.mark.parametrize("name", ["best", "resnet50-cifar10"])
def test_a_preset_s_link_fills_the_form(client: Client, name: str) -> None:
    model()
    dataset = data("image-classification")
    client.force_login(owner())
    start = client.get(f"/runs/new/?model=vera/net&dataset={dataset.uid}").content.decode()
    link = next(href for href in re.findall(r'href="(\?[^"]*)"', start) if f"preset={name}" in href)

    address = "/runs/new/" + link.replace("&amp;", "&")
    client.post(address, values_of(client.get(address).content.decode()))

    preset = next(preset for preset in PRESETS[Task.IMAGE_CLASSIFICATION] if preset.name == name)
    run = Run.objects.get()
    assert run.strategy == preset.strategy
    expected = {**defaults_for(Task.IMAGE_CLASSIFICATION, preset.strategy), **preset.hyper}
    assert {name: run.hyper[name] for name in expected} == expected


def test_launching_the_same_again_leads_to_the_run_that_is_under_way(client: Client) -> None:
    model()
    client.force_login(owner())
    address = f"/runs/new/?model=vera/net&dataset={data('image-classification').uid}"
    sent = values_of(client.get(address).content.decode())

    client.post(address, sent)
    answer = client.post(address, sent, follow=True)

    assert answer.redirect_chain == [(f"/runs/{Run.objects.get().uid}/", 302)]
    assert "The same fine-tune is queued, running or paused already." in answer.content.decode()


def test_a_model_of_several_tasks_asks_which_one(client: Client) -> None:
    model()
    client.force_login(owner())
    data("semantic-segmentation")

    page = client.get("/runs/new/?model=vera/net").content.decode()

    tabs = page[page.index('aria-label="What it learns"') :]
    assert re.search(r'task=semantic-segmentation" aria-current="page">Semantic segmentation', tabs)
    other = client.get("/runs/new/?model=vera/net&task=object-detection").content.decode()
    assert "You have no checked dataset for this task." in other


def test_an_unknown_preset_says_which_there_are(client: Client) -> None:
    model()
    client.force_login(owner())

    page = client.get("/runs/new/?model=vera/net&preset=fastest").content.decode()

    assert "Choose one of quick, balanced, best" in page


# What the evaluation is asked


def test_the_evaluation_is_told_of_leaked_items_and_of_both_tasks() -> None:
    pairs = [{"train": 1, "test": 7, "kind": "near"}, {"train": 2, "test": 7, "kind": "exact"}, {"train": 1, "test": 3}]
    run = launch(model(), data("object-detection", report={"leakage": pairs}))

    spec = runs.evaluate_spec(run)

    assert spec.leaked == (3, 7)
    assert (spec.base.task, spec.tuned.task) == (Task.IMAGE_CLASSIFICATION, Task.OBJECT_DETECTION)
    assert spec.tuned.framework is Framework.TIMM


def test_the_signing_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Any) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        signing.lay_key(folder)

    assert (first / signing.KEY_FILE).read_bytes() == (second / signing.KEY_FILE).read_bytes()
    places = (first / signing.KEY_FILE, settings.DATA_DIR / signing.KEY_FILE)
    assert [place.stat().st_mode & 0o777 for place in places] == [0o600, 0o600]


def test_a_run_without_a_receipt_has_none_to_download(client: Client) -> None:
    run = launch(model(), data("image-classification"))
    client.force_login(owner())

    assert client.get(f"/api/v1/runs/{run.uid}/receipt/").status_code == 404
    Run.objects.filter(pk=run.pk).update(artifacts=_receipt(b'{"receipt": {}}'))
    answer = client.get(f"/api/v1/runs/{run.uid}/receipt/")
    assert b"".join(answer.streaming_content) == b'{"receipt": {}}'
    assert answer.headers["Content-Type"] == "application/json"
    client.force_login(scenarios.person("cy"))
    assert client.get(f"/api/v1/runs/{run.uid}/receipt/").status_code == 404


def _receipt(content: bytes) -> dict[str, Any]:
    blob = scenarios.blob(content)
    return {"evaluation/receipt.json": {"sha256": blob.sha256, "bytes": blob.bytes}}
