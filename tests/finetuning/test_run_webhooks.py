"""The end of a run, and of an inspection, is told to its owner's webhooks once, however it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
import scenarios
from django.conf import settings
from django.test import Client
from django.utils import timezone
from worlds import World, claimed_run, dataset_of, launch, received

from finetuning.models import Dataset, Run
from finetuning.services import datasets, leases, reaping, runs, steering
from marketplace.accounts.models import Namespace
from marketplace.webhooks.models import Message
from marketplace.webhooks.services import endpoints

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    release = scenarios.published_release(vendor)
    scenarios.licensed(buyer, release)
    namespace = Namespace.objects.get(user=buyer)
    dataset = dataset_of(namespace)
    endpoints.create(user=buyer, namespace=namespace, url="https://example.com/hooks", now=timezone.now())
    return {"vendor": vendor, "buyer": buyer, "release": release, "dataset": dataset}


def told(world: World) -> list[dict[str, Any]]:
    found = [json.loads(body) for body in Message.objects.order_by("pk").values_list("body", flat=True)]
    client = Client()
    client.force_login(world["buyer"])
    for document in found:
        [thing] = [value for value in document["data"].values() if isinstance(value, dict)]
        assert client.get(thing["url"].removeprefix(settings.SITE_URL)).status_code == 200
    return found


def test_a_run_that_succeeds(world: World) -> None:
    run, attempt = claimed_run(world)

    for _ in range(2):  # the second one has lost its lease
        runs.finish(run=run, attempt=attempt, result={}, evaluation={}, artifacts={})

    [document] = told(world)
    assert (document["type"], document["data"]["run"]["id"]) == ("run.succeeded", str(run.uid))


def test_a_run_that_fails_for_good_says_why(world: World) -> None:
    run = launch(world)
    while Run.objects.get(pk=run.pk).status == "queued":  # what may end otherwise is tried again, and not told
        claimed = runs.claim(run.pk)
        assert claimed is not None
        runs.fail(run=claimed[0], attempt=claimed[1], code="app:internal", message="It failed.")

    [document] = told(world)
    assert (document["type"], document["data"]["code"]) == ("run.failed", "app:internal")


def test_a_run_that_was_interrupted_too_often(world: World) -> None:
    run, attempt = claimed_run(world)
    Run.objects.filter(pk=run.pk).update(interruptions=leases.MAX_INTERRUPTIONS)

    reaping.reap(now=attempt.leased_until + leases.POKE_AFTER)

    [document] = told(world)
    assert (document["type"], document["data"]["code"]) == ("run.failed", "app:no_progress")


@pytest.mark.parametrize("is_running", [False, True])
def test_a_run_that_is_canceled(world: World, is_running: bool) -> None:
    run, attempt = claimed_run(world) if is_running else (launch(world), None)

    steering.request_cancel(user=world["buyer"], run=run, now=timezone.now())
    if attempt is not None:
        assert told(world) == []
        steering.cancel(run=run, attempt=attempt)

    assert [document["type"] for document in told(world)] == ["run.canceled"]


def test_what_an_inspection_found(world: World) -> None:
    good, bad = (received(world["buyer"], b"zip", name=name) for name in ("good", "bad"))
    report = {"digest": "d" * 64, "labels": ["a", "b"], "images": 9}
    files = {name: {"sha256": "a" * 64} for name in ("train.pack", "test.pack", "thumbnails.pack", "index.jsonl")}
    results = ({"status": "valid", "report": report}, {"status": "invalid", "problems": []})
    for dataset, result in zip((good, bad), results, strict=True):
        claimed = leases.acquire(Dataset.objects.select_related("owner"), dataset.pk, now=timezone.now())
        assert claimed is not None
        for _ in range(2):  # the second one has lost its lease
            datasets.record_inspection(attempt=claimed[1], dataset=dataset, result=result, files=files)

    found = [(document["type"], document["data"]["dataset"]["id"]) for document in told(world)]
    assert found == [("dataset.valid", str(good.uid)), ("dataset.invalid", str(bad.uid))]
