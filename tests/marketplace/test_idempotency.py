"""Idempotency-Key: one effect and one answer, however often a client asks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import scenarios
from django.test import Client
from django.utils import timezone

from marketplace.accounts.models import IdempotentCall, User
from marketplace.idempotency import KEPT, RUNNING
from models_catalog.models import Order, Release
from models_catalog.presets import COMMERCIAL_TEMPLATE
from models_catalog.services import orders

pytestmark = pytest.mark.django_db
URL = "/api/v1/listings/vera/net/grants/"
KEY = "3f8e2f6a"


@pytest.fixture
def release() -> Release:
    return scenarios.published_release(scenarios.person("vera"), terms=COMMERCIAL_TEMPLATE)


@pytest.fixture
def buyer() -> User:
    return scenarios.person("bo")


@pytest.fixture
def api(client: Client, buyer: User) -> Client:
    client.force_login(buyer)
    return client


def buy(api: Client, release: Release, key: str | None = KEY, **document: Any) -> Any:
    body = {"terms_hash": release.terms.terms_hash, **document}
    headers = {"Idempotency-Key": key} if key is not None else {}
    return api.post(URL, body, content_type="application/json", headers=headers)


def test_what_costs_money_needs_a_key(api: Client, release: Release) -> None:
    answer = buy(api, release, key=None)

    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing")
    assert not Order.objects.exists()


def test_what_is_free_needs_none(api: Client) -> None:
    free = scenarios.published_release(scenarios.person("vera"))

    assert buy(api, free, key=None).status_code == 201


def test_the_same_call_again_is_answered_and_not_made(api: Client, release: Release) -> None:
    first = buy(api, release)
    order = Order.objects.get()
    orders.cancel_order(order=order, actor=order.placed_by, now=timezone.now())  # else a second call would find it

    again = buy(api, release, key=f'"{KEY}"')

    assert (again.status_code, again.json()) == (first.status_code, first.json()) == (202, first.json())
    assert again["Idempotency-Replayed"] == "true"
    assert Order.objects.count() == 1


def test_a_refusal_is_replayed_as_the_problem_that_it_was(api: Client, release: Release) -> None:
    first = buy(api, release, terms_hash="0" * 64)
    again = buy(api, release, terms_hash="0" * 64)

    assert first.json()["code"] == again.json()["code"] == "terms_changed"
    assert (again.status_code, again["Content-Type"]) == (409, "application/problem+json")


def test_a_key_with_another_body_is_refused(api: Client, release: Release) -> None:
    buy(api, release)

    answer = buy(api, release, licensee="bo")

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")


def test_a_key_is_one_person_s(api: Client, release: Release) -> None:
    buy(api, release)
    api.force_login(scenarios.person("cy"))

    assert buy(api, release).json()["buyer"] == "cy"
    assert Order.objects.count() == 2


def test_while_the_first_call_runs_another_waits_and_a_dead_one_is_made_again(
    api: Client, release: Release, buyer: User
) -> None:
    buy(api, release)
    call = IdempotentCall.objects.filter(user=buyer)
    call.update(status=None)  # as if its process had not answered yet

    answer = buy(api, release)
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_running")

    call.update(started_at=timezone.now() - RUNNING - timedelta(seconds=1))
    assert buy(api, release).status_code == 202
    assert Order.objects.count() == 1


def test_an_answer_is_kept_for_a_day_at_least_and_not_for_ever(api: Client, release: Release, buyer: User) -> None:
    assert timedelta(hours=24) <= KEPT
    buy(api, release)
    IdempotentCall.objects.filter(user=buyer).update(started_at=timezone.now() - KEPT - timedelta(seconds=1))

    buy(api, release, key="another")

    assert [call.key for call in IdempotentCall.objects.filter(user=buyer)] == ["another"]


@pytest.mark.parametrize("key", ["x" * 256, "tab\there"])
def test_a_key_that_cannot_be_kept_is_refused(api: Client, release: Release, key: str) -> None:
    answer = buy(api, release, key=key)

    assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_invalid")
