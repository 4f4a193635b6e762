"""What is spent with a token counts against its cap: orders and runs beyond it are refused."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
import scenarios
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone
from worlds import dataset_of

from finetuning.models import Run
from finetuning.services import runs, steering
from marketplace.accounts.models import ApiToken, CapPeriod, Scope, Spend, User
from marketplace.accounts.services import people, spending, tokens
from marketplace.errors import Denied
from models_catalog.models import Order, Release
from models_catalog.presets import COMMERCIAL_TEMPLATE
from models_catalog.services import orders, refunds

pytestmark = pytest.mark.django_db
EURO = 100


def priced(name: str, minor: int) -> Release:
    vendor = User.objects.filter(username="vera").first() or scenarios.person("vera")
    return scenarios.published_release(vendor, name=name, terms=scenarios.priced(COMMERCIAL_TEMPLATE, minor))


def capped(user: User, minor: int, *, currency: str = "EUR", period: CapPeriod = CapPeriod.MONTH) -> ApiToken:
    """The user as they come with a token that may spend so much."""
    cap = tokens.Cap(minor, currency, period)
    token, _ = tokens.issue(user=user, name="capped", scopes=Scope.values, cap=cap)
    user.api_token = token
    return token


@pytest.fixture
def bo() -> User:
    return scenarios.person("bo")


def test_an_order_beyond_the_cap_is_refused_and_says_what_is_left(client: Client, bo: User) -> None:
    cheap, dear = priced("cheap", 30 * EURO), priced("dear", 25 * EURO)
    cap = tokens.Cap(50 * EURO, "EUR", CapPeriod.MONTH)
    token, secret = tokens.issue(user=bo, name="ci", scopes=Scope.values, cap=cap)

    def ordered(release: Release) -> Any:
        body = {"terms_hash": release.terms.terms_hash, "declaration": {"country": "DE"}}
        headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": str(release)}
        path = f"/api/v1/listings/{release.listing}/grants/"
        return client.post(path, body, content_type="application/json", headers=headers)

    first, again, second = ordered(cheap), ordered(cheap), ordered(dear)

    assert (first.status_code, again.status_code, second.status_code) == (202, 202, 403)
    problem = second.json()
    assert (problem["code"], problem["cap_minor"], problem["spent_minor"]) == ("spend_cap_exceeded", 5000, 3000)
    assert "€20.00" in problem["detail"]
    assert Order.objects.count() == 1
    shown = client.get(f"/api/v1/tokens/{token.pk}/", headers={"Authorization": f"Bearer {secret}"}).json()
    assert (shown["spend_cap"]["spent_minor"], shown["spent"]) == (3000, {"EUR": 3000})


def test_an_order_that_is_canceled_or_refunded_counts_no_more(bo: User) -> None:
    token, now = capped(bo, 50 * EURO), timezone.now()
    first = scenarios.accepted(bo, priced("first", 50 * EURO))
    assert isinstance(first, Order)
    orders.cancel_order(order=first, actor=bo, now=now)
    assert spending.spent_minor(token, now=now) == 0

    second = scenarios.accepted(bo, priced("second", 50 * EURO))
    assert isinstance(second, Order)
    vendor = User.objects.get(username="vera")
    orders.settle_order(order=second, actor=vendor, now=now)
    assert spending.spent_minor(token, now=now) == 50 * EURO
    refunds.refund_order(order=Order.objects.get(pk=second.pk), actor=vendor, reason="So.", now=now)
    assert spending.spent_minor(token, now=now) == 0


def test_another_currency_than_the_caps_is_refused(bo: User) -> None:
    capped(bo, 50 * EURO, currency="USD")

    with pytest.raises(Denied) as refused:
        scenarios.accepted(bo, priced("net", 1 * EURO))

    assert refused.value.code == "spend_cap_currency"


def test_pages_and_free_licenses_have_no_cap(bo: User) -> None:
    token = capped(bo, 0)
    scenarios.accepted(bo, scenarios.published_release(scenarios.person("free"), name="free"))
    bo.api_token = None

    scenarios.accepted(bo, priced("net", 99 * EURO))

    assert not Spend.objects.filter(token=token).exists()


@pytest.mark.parametrize(
    ("period", "days", "counts"),
    [("day", 0.9, True), ("day", 1.1, False), ("week", 6, True), ("month", 31, False), ("ever", 4000, True)],
)
def test_only_what_was_spent_within_the_period_counts(bo: User, period: str, days: float, counts: bool) -> None:
    token, now = capped(bo, 50, period=CapPeriod(period)), timezone.now()
    spending.spend(user=bo, subject="order x", amount_minor=40, currency="EUR", now=now - timedelta(days=days))

    assert spending.spent_minor(token, now=now) == (40 if counts else 0)


@pytest.fixture
def launching(bo: User, settings: Any) -> dict[str, Any]:
    settings.COMPUTE_PRICE_MINOR_PER_HOUR, settings.COMPUTE_CURRENCY = 600, "EUR"
    release = scenarios.published_release(scenarios.person("vera"))
    scenarios.licensed(bo, release)
    dataset = dataset_of(people.namespace_of(bo))
    return {"user": bo, "release": release, "dataset": dataset, "hyper": {}}


def test_a_run_counts_its_budget_until_it_is_known_what_it_cost(bo: User, launching: dict[str, Any]) -> None:
    token, now = capped(bo, 10 * EURO), timezone.now()

    run = runs.launch(**launching, budget_minutes=60, now=now)
    held = spending.spent_minor(token, now=now)
    claimed = runs.claim(run.pk)
    assert claimed is not None
    runs.finish(run=claimed[0], attempt=claimed[1], result={}, evaluation={}, artifacts={})

    run.refresh_from_db()
    assert held == 6 * EURO
    assert spending.spent_minor(token, now=now) == run.charge_minor < 6 * EURO


def test_a_run_that_may_cost_more_than_is_left_is_refused(bo: User, launching: dict[str, Any]) -> None:
    capped(bo, 10 * EURO)

    codes = []
    for budget in (101, None):
        with pytest.raises(Denied) as refused:
            runs.launch(**launching, budget_minutes=budget, now=timezone.now())
        codes.append(refused.value.code)

    assert codes == ["spend_cap_exceeded", "budget_missing"]
    assert not Run.objects.exists()


def test_a_run_that_fails_or_is_canceled_costs_nothing(bo: User, launching: dict[str, Any]) -> None:
    token, now = capped(bo, 10 * EURO), timezone.now()
    canceled = runs.launch(**launching, budget_minutes=60, now=now)
    steering.request_cancel(user=bo, run=canceled, now=now)
    assert spending.spent_minor(token, now=now) == 0

    failing = runs.launch(**launching, budget_minutes=60, now=now)
    claimed = runs.claim(failing.pk)
    assert claimed is not None
    runs.fail(run=claimed[0], attempt=claimed[1], code="user:bad", message="It failed.")

    assert spending.spent_minor(token, now=now) == 0


@pytest.mark.django_db(transaction=True)
def test_of_two_calls_at_once_that_pass_the_cap_together_one_is_refused() -> None:
    bo = scenarios.person("bo")
    token, outcomes, start = capped(bo, 50), [], threading.Barrier(2)

    def spend(number: int) -> None:
        user = User.objects.get(pk=bo.pk)
        user.api_token = token
        start.wait()
        try:
            with transaction.atomic():
                spending.spend(
                    user=user, subject=f"order {number}", amount_minor=40, currency="EUR", now=timezone.now()
                )
            outcomes.append("spent")
        except Denied as error:
            outcomes.append(error.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=spend, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["spend_cap_exceeded", "spent"]
