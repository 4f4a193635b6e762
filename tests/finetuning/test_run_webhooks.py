"""The end of a run is told to its owner's webhooks once, however it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
import scenarios
from django.conf import settings
from django.test import Client
from django.utils import timezone
from worlds import World, claimed_run, dataset_of, launch

from finetuning.models import Run
from finetuning.services import leases, reaping, runs, steering
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
    endpoints.create(user=buyer, namespace=namespace, url="https://example.com/hooks", now=timezone.now())
    return {"vendor": vendor, "buyer": buyer, "release": release, "dataset": dataset_of(namespace)}


def told(world: World) -> list[dict[str, Any]]:
    found = [json.loads(body) for body in Message.objects.order_by("pk").values_list("body", flat=True)]
    client = Client()
    client.force_login(world["buyer"])
    for document in found:
        assert client.get(document["data"]["run"]["url"].removeprefix(settings.SITE_URL)).status_code == 200
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
