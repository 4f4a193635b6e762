"""Two requests at once: one order, one charge, one payout; on SQLite, and where there is one on PostgreSQL."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import scenarios
import stripe
from django.db import connections
from django.test import Client
from django.utils import timezone
from test_orders import balance, bought, ordered, staff

from marketplace.accounts.models import IdempotentCall
from marketplace.errors import DomainError
from models_catalog.models import Grant, LedgerTransaction, Order, PaymentEvent, PayoutBatch
from models_catalog.presets import COMMERCIAL_TEMPLATE
from models_catalog.services import orders, payouts, refunds, stripe_webhook

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE_SECONDS = 60


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Runs the calls in threads that start together; returns what each gave, or the code of its refusal."""
    results: list[Any] = [None] * len(calls)
    start = threading.Barrier(len(calls))

    def run(place: int, call: Callable[[], Any]) -> None:
        try:
            start.wait(PATIENCE_SECONDS)
            results[place] = call()
        except DomainError as error:
            results[place] = error.code
        except Exception as error:  # shown by the assertion
            results[place] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(place, call)) for place, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    return results


def test_two_clicks_place_one_order() -> None:
    release = scenarios.published_release(scenarios.person("vera"), terms=COMMERCIAL_TEMPLATE)
    buyer = scenarios.person("bo")

    first, second = at_once(*[lambda: ordered(buyer, release)] * 2)

    assert first == second == Order.objects.get()


def test_two_settlements_give_one_license_and_one_sale() -> None:
    vendor = scenarios.person("vera")
    order = ordered(scenarios.person("bo"), scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE))

    settle = [lambda: orders.settle_order(order=order, actor=vendor, now=timezone.now())] * 2
    first, second = at_once(*settle)

    assert first == second == Grant.objects.get()
    assert LedgerTransaction.objects.count() == 1


def test_of_settling_and_canceling_one_wins() -> None:
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    order = ordered(buyer, scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE))

    settled, canceled = at_once(
        lambda: orders.settle_order(order=order, actor=vendor, now=timezone.now()),
        lambda: orders.cancel_order(order=order, actor=buyer, now=timezone.now()),
    )

    order.refresh_from_db()
    if order.status == "paid":
        assert (settled, canceled) == (Grant.objects.get(), "already_settled")
        assert LedgerTransaction.objects.count() == 1
    else:
        assert (order.status, settled, canceled) == ("canceled", "order_canceled", None)
        assert not Grant.objects.exists()
        assert not LedgerTransaction.objects.exists()


def test_two_refunds_reverse_one_sale_once() -> None:
    vendor = scenarios.person("vera")
    order, _ = bought(scenarios.person("bo"), scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE))

    refund = [lambda: refunds.refund_order(order=order, actor=vendor, reason="x", now=timezone.now()).status] * 2

    assert at_once(*refund) == ["refunded", "refunded"]
    assert LedgerTransaction.objects.filter(event="refund").count() == 1
    assert balance(vendor) == 0


def test_an_event_that_is_told_twice_at_once_is_taken_over_once(settings: Any) -> None:
    settings.STRIPE_WEBHOOK_SECRET = "whsec_race"
    order = ordered(
        scenarios.person("bo"), scenarios.published_release(scenarios.person("vera"), terms=COMMERCIAL_TEMPLATE)
    )
    Order.objects.update(provider="stripe")
    session = {
        "metadata": {"order": str(order.pk)},
        "payment_status": "paid",
        "amount_total": order.amount_minor,
        "currency": "eur",
        "payment_intent": "pi_1",
    }
    body = json.dumps({"id": "evt_1", "type": "checkout.session.completed", "data": {"object": session}})
    signature = stripe.WebhookSignature.generate_signature_header(body, settings.STRIPE_WEBHOOK_SECRET)

    tell = [lambda: stripe_webhook.receive(body=body.encode(), signature=signature, now=timezone.now())] * 2

    assert sorted(at_once(*tell)) == ["replayed", "settled"]
    assert (Grant.objects.count(), LedgerTransaction.objects.count(), PaymentEvent.objects.count()) == (1, 1, 1)


def test_a_balance_is_in_one_of_two_batches() -> None:
    vendor, stan = scenarios.person("vera"), staff()
    order = ordered(scenarios.person("bo"), scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE))
    orders.settle_order(order=order, actor=stan, now=timezone.now())

    create = [lambda: payouts.create(actor=stan, currency="EUR", minimum_minor=1, now=timezone.now())] * 2
    results = at_once(*create)

    batch = PayoutBatch.objects.get()
    assert sorted(map(str, results)) == sorted([str(batch), "nothing_to_pay"])
    assert balance(vendor) == 0


def test_one_key_at_once_is_one_call() -> None:
    release = scenarios.published_release(scenarios.person("vera"), terms=COMMERCIAL_TEMPLATE)
    clients = [Client(), Client()]
    buyer = scenarios.person("bo")
    for client in clients:
        client.force_login(buyer)

    def buy(client: Client) -> tuple[int, str]:
        answer = client.post(
            "/api/v1/listings/vera/net/grants/",
            {"terms_hash": release.terms.terms_hash},
            content_type="application/json",
            headers={"Idempotency-Key": "one"},
        )
        return answer.status_code, str(answer.json().get("id") or answer.json()["code"])

    results = at_once(*[lambda client=client: buy(client) for client in clients])

    order = Order.objects.get()
    assert (202, str(order.pk)) in results
    assert set(results) <= {(202, str(order.pk)), (409, "idempotency_key_running")}
    assert IdempotentCall.objects.get().status == 202
