"""Stripe: the session that is asked for, and every event as it may come. The live service is never reached: the
library talks to a local server, and events are signed by its own code."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest
import scenarios
import stripe
from django.test import Client
from django.utils import timezone
from test_orders import balance, ordered, refused, staff

from marketplace.accounts.models import AuditEvent, User
from marketplace.errors import Conflict, Denied, Invalid, Unavailable
from models_catalog.models import Grant, LedgerTransaction, Order, PaymentEvent, Release
from models_catalog.presets import COMMERCIAL_TEMPLATE
from models_catalog.services import grants, licensing, orders, payment_watch, payouts, quarantine, refunds

pytestmark = pytest.mark.django_db
SECRET = "whsec_test_of_the_suite"
PRICE = COMMERCIAL_TEMPLATE.price_minor
WEBHOOK = "/payments/stripe/webhook/"


class FakeStripe(HTTPServer):
    """Answers the three calls that this site makes, as Stripe documents them; keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: list[tuple[str, dict[str, str], str]] = []
        self.failure: tuple[int, dict[str, Any]] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        fake = self.server
        assert isinstance(fake, FakeStripe)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        fields = {name: values[0] for name, values in parse_qs(body).items()}
        fake.calls.append((self.path, fields, self.headers["Idempotency-Key"]))
        status, answer = fake.failure or (200, self._answer(fields))
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _answer(self, fields: dict[str, str]) -> dict[str, Any]:
        if self.path == "/v1/refunds":
            return {"id": "re_1", "object": "refund", "status": "succeeded", "payment_intent": fields["payment_intent"]}
        url = None if self.path.endswith("/expire") else "https://checkout.stripe.com/c/pay/cs_test_1"
        return {"id": "cs_test_1", "object": "checkout.session", "url": url, "status": "open"}

    def log_message(self, *_args: Any) -> None: ...


@pytest.fixture
def fake(settings: Any) -> Iterator[FakeStripe]:
    server = FakeStripe()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET = "sk_test_of_the_suite", SECRET
    settings.STRIPE_API_BASE = server.url
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def buyer() -> User:
    return scenarios.person("bo")


@pytest.fixture
def order(fake: FakeStripe, buyer: User) -> Order:  # noqa: ARG001 - pytest's way to order fixtures
    return ordered(buyer, scenarios.published_release(scenarios.person("vera"), terms=COMMERCIAL_TEMPLATE))


def session(order: Order, **changes: Any) -> dict[str, Any]:
    """A Checkout session as Stripe's events carry it, cut down to what is documented of a payment."""
    return {
        "id": "cs_test_1",
        "object": "checkout.session",
        "amount_total": order.amount_minor,
        "client_reference_id": str(order.pk),
        "currency": order.currency.lower(),
        "livemode": False,
        "metadata": {"order": str(order.pk)},
        "mode": "payment",
        "payment_intent": "pi_1",
        "payment_status": "paid",
        "status": "complete",
        **changes,
    }


def charge(order: Order, **changes: Any) -> dict[str, Any]:
    return {
        "id": "ch_1",
        "object": "charge",
        "amount": order.amount_minor,
        "amount_refunded": order.amount_minor,
        "currency": order.currency.lower(),
        "metadata": {"order": str(order.pk)},
        "payment_intent": "pi_1",
        "refunded": True,
        **changes,
    }


def send(
    kind: str, content: dict[str, Any], *, event: str = "evt_1", signature: str | None = None, age: int = 0
) -> Any:
    """Posts a signed event as Stripe does; returns the status and the answer."""
    body = json.dumps(
        {
            "id": event,
            "object": "event",
            "api_version": stripe.api_version,
            "created": int(time.time()),
            "type": kind,
            "livemode": False,
            "data": {"object": content},
        }
    )
    if signature is None:
        sign = stripe.WebhookSignature.generate_signature_header
        signature = sign(body, SECRET, timestamp=int(time.time()) - age)
    answer = Client(enforce_csrf_checks=True).post(
        WEBHOOK, body, content_type="application/json", headers={"Stripe-Signature": signature}
    )
    return answer.status_code, answer.json()


def outcome(kind: str, content: dict[str, Any], *, event: str = "evt_1") -> str:
    status, answer = send(kind, content, event=event)
    assert status == 200, answer
    return str(answer["outcome"])


def state(order: Order) -> tuple[str, int, int]:
    """The order's status, and how many grants and sales there are."""
    order.refresh_from_db()
    grants = Grant.objects.filter(revoked_at__isnull=True).count()
    return order.status, grants, LedgerTransaction.objects.filter(event="sale").count()


# What this site asks for


def test_an_order_opens_one_checkout_session_with_its_price(fake: FakeStripe, order: Order, buyer: User) -> None:
    assert ordered(buyer, order.listing.latest_release) == order

    ((path, fields, key),) = fake.calls
    assert (path, key) == ("/v1/checkout/sessions", f"order-{order.pk}")
    assert fields["line_items[0][price_data][unit_amount]"] == str(PRICE)
    assert fields["line_items[0][price_data][currency]"] == "eur"
    assert fields["mode"] == "payment"
    assert fields["metadata[order]"] == fields["payment_intent_data[metadata][order]"] == str(order.pk)
    assert fields["success_url"].endswith(f"/orders/{order.pk}/")
    assert (order.provider, order.status) == ("stripe", "pending")
    assert order.checkout_url == "https://checkout.stripe.com/c/pay/cs_test_1"


def test_an_order_outlives_stripe_s_absence_and_is_opened_later(fake: FakeStripe, client: Client, buyer: User) -> None:
    fake.failure = (500, {"error": {"type": "api_error", "message": "down"}})
    found = ordered(buyer, scenarios.published_release(scenarios.person("vera"), terms=COMMERCIAL_TEMPLATE))
    assert (found.status, found.checkout_url) == ("pending", "")

    fake.failure = None
    client.force_login(buyer)
    assert client.post(f"/orders/{found.pk}/pay/").status_code == 302

    found.refresh_from_db()
    assert found.checkout_url
    assert "https://checkout.stripe.com" in client.get(f"/orders/{found.pk}/").content.decode()


def test_without_both_secrets_stripe_is_not_offered(fake: FakeStripe, settings: Any, buyer: User) -> None:
    settings.STRIPE_WEBHOOK_SECRET = ""

    found = ordered(buyer, scenarios.published_release(scenarios.person("vera"), terms=COMMERCIAL_TEMPLATE))

    assert (found.provider, fake.calls) == ("manual", [])
    assert Client().post(WEBHOOK, "{}", content_type="application/json").status_code == 404


def test_canceling_closes_the_session_first(fake: FakeStripe, order: Order, buyer: User) -> None:
    fake.failure = (400, {"error": {"type": "invalid_request_error", "message": "not open"}})
    refused(Conflict, "payment_under_way", orders.cancel_order, order=order, actor=buyer, now=timezone.now())
    fake.failure = (500, {"error": {"type": "api_error", "message": "down"}})
    refused(Unavailable, "payment_unavailable", orders.cancel_order, order=order, actor=buyer, now=timezone.now())
    assert state(order)[0] == "pending"

    fake.failure = None
    orders.cancel_order(order=order, actor=buyer, now=timezone.now())

    assert state(order)[0] == "canceled"
    assert fake.calls[-1][0] == "/v1/checkout/sessions/cs_test_1/expire"


def test_what_is_paid_online_is_not_marked_as_paid_by_hand(order: Order) -> None:
    vendor = scenarios.vendor_of(order.release)
    refused(Conflict, "paid_online", orders.settle_order, order=order, actor=vendor, now=timezone.now())


def test_a_refund_goes_through_stripe_and_its_event_changes_nothing_more(fake: FakeStripe, order: Order) -> None:
    outcome("checkout.session.completed", session(order))
    order.refresh_from_db()
    vendor = scenarios.vendor_of(order.release)
    fake.failure = (500, {"error": {"type": "api_error", "message": "down"}})
    given: dict[str, Any] = {"order": order, "actor": vendor, "reason": "Asked for.", "now": timezone.now()}
    refused(Unavailable, "payment_unavailable", refunds.refund_order, **given)
    assert state(order)[:2] == ("paid", 1)

    fake.failure = None
    refunds.refund_order(**given)

    path, fields, key = fake.calls[-1]
    assert (path, fields["payment_intent"], key) == ("/v1/refunds", "pi_1", f"refund-{order.pk}")
    assert outcome("charge.refunded", charge(order), event="evt_2") == "nothing_to_do"
    assert state(order)[:2] == ("refunded", 0)
    assert balance(vendor) == 0


def test_a_vendor_sends_back_no_money_that_was_paid_out_to_them(fake: FakeStripe, order: Order) -> None:
    outcome("checkout.session.completed", session(order))
    order.refresh_from_db()
    vendor, stan, now = scenarios.vendor_of(order.release), staff(), timezone.now()
    batch = payouts.create(actor=vendor, namespace=vendor.namespace, currency="EUR", minimum_minor=1, now=now)
    given: dict[str, Any] = {"order": order, "actor": vendor, "reason": "Asked for.", "now": now}

    refused(Conflict, "balance_too_low", refunds.refund_order, **given)
    assert fake.calls[-1][0] == "/v1/checkout/sessions"  # nothing was sent back
    assert state(order)[:2] == ("paid", 1)

    payouts.cancel(batch=batch, actor=stan, now=now)
    assert refunds.refund_order(**given).status == "refunded"
    assert fake.calls[-1][0] == "/v1/refunds"


# What Stripe tells


def test_a_completed_session_is_a_paid_order_with_its_grant(order: Order) -> None:
    assert outcome("checkout.session.completed", session(order)) == "settled"

    assert state(order) == ("paid", 1, 1)
    assert (order.received_by, order.payment_reference, order.settled_by) == ("site", "pi_1", None)
    assert balance(scenarios.vendor_of(order.release)) == PRICE
    assert PaymentEvent.objects.get().outcome == "settled"


def test_money_for_a_quarantined_release_is_left_to_the_staff(order: Order, buyer: User, client: Client) -> None:
    quarantine.quarantine(user=staff(), release=order.release, reason="Not theirs.", now=timezone.now())
    client.force_login(buyer)

    assert client.post(f"/api/v1/orders/{order.pk}/pay/").json()["code"] == "quarantined"
    assert order.checkout_url not in client.get(f"/orders/{order.pk}/").content.decode()
    assert outcome("checkout.session.completed", session(order)) == "not_granted"

    assert state(order) == ("pending", 0, 0)


def test_an_event_that_comes_again_changes_nothing(order: Order) -> None:
    outcome("checkout.session.completed", session(order))

    assert outcome("checkout.session.completed", session(order)) == "replayed"
    assert outcome("checkout.session.completed", session(order), event="evt_2") == "nothing_to_do"

    assert state(order) == ("paid", 1, 1)


@pytest.mark.parametrize("signature", ["", "t=1,v1=00", "nonsense"])
def test_an_event_with_a_wrong_signature_changes_nothing(order: Order, signature: str) -> None:
    status, answer = send("checkout.session.completed", session(order), signature=signature)

    assert (status, answer["code"]) == (400, "bad_signature")
    assert state(order) == ("pending", 0, 0)
    assert not PaymentEvent.objects.exists()


def test_a_recorded_event_is_too_old_to_be_believed(order: Order) -> None:
    status, answer = send("checkout.session.completed", session(order), age=3600)

    assert (status, answer["code"]) == (400, "bad_signature")


@pytest.mark.usefixtures("fake")
def test_what_is_signed_but_no_event_is_refused() -> None:
    for body in ("[]", "{}", '{"id": 1, "type": "x", "data": {"object": {}}}', "not json"):
        signature = stripe.WebhookSignature.generate_signature_header(body, SECRET)
        answer = Client().post(WEBHOOK, body, content_type="application/json", headers={"Stripe-Signature": signature})
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_event")


def test_a_slow_payment_waits_and_then_succeeds_or_fails(order: Order) -> None:
    assert outcome("checkout.session.completed", session(order, payment_status="unpaid")) == "waiting"
    assert state(order) == ("pending", 0, 0)

    kind = "checkout.session.async_payment_succeeded"
    assert outcome(kind, session(order), event="evt_2") == "settled"
    assert state(order) == ("paid", 1, 1)
    late = outcome("checkout.session.async_payment_failed", session(order), event="evt_3")
    assert (late, state(order)) == ("nothing_to_do", ("paid", 1, 1))


@pytest.mark.parametrize("kind", ["checkout.session.async_payment_failed", "checkout.session.expired"])
def test_a_payment_that_fails_cancels_the_order(order: Order, buyer: User, kind: str) -> None:
    assert outcome(kind, session(order, payment_status="unpaid")) == "canceled"

    assert state(order) == ("canceled", 0, 0)
    assert ordered(buyer, order.listing.latest_release) != order


def test_money_that_comes_for_a_canceled_order_still_buys_the_license(order: Order) -> None:
    outcome("checkout.session.expired", session(order, payment_status="unpaid"))

    assert outcome("checkout.session.completed", session(order), event="evt_2") == "settled"

    assert state(order) == ("paid", 1, 1)


def test_money_that_comes_twice_for_one_license_is_left_to_the_staff(order: Order, buyer: User) -> None:
    outcome("checkout.session.expired", session(order, payment_status="unpaid"))
    second = ordered(buyer, order.listing.latest_release)
    outcome("checkout.session.completed", session(second), event="evt_2")

    assert outcome("checkout.session.completed", session(order), event="evt_3") == "not_granted"

    assert state(order) == ("canceled", 1, 1)
    assert PaymentEvent.objects.get(event_id="evt_3").detail.startswith("already_licensed")


@pytest.mark.parametrize(
    "changes", [{"amount_total": PRICE - 1}, {"amount_total": None}, {"currency": "usd"}, {"currency": None}]
)
def test_another_amount_or_currency_than_agreed_settles_nothing(order: Order, changes: dict[str, Any]) -> None:
    assert outcome("checkout.session.completed", session(order, **changes)) == "amount_mismatch"

    assert state(order) == ("pending", 0, 0)
    assert f"not {PRICE} EUR" in PaymentEvent.objects.get().detail


def test_an_order_that_is_not_known_is_told_so_and_not_sent_again(order: Order) -> None:
    strange = {"metadata": {}, "client_reference_id": "cart-7", "payment_intent": "pi_of_another_shop"}

    assert outcome("checkout.session.completed", session(order, **strange)) == "unknown_order"
    assert outcome("customer.created", {"id": "cus_1"}, event="evt_2") == "ignored"

    assert state(order) == ("pending", 0, 0)


def test_a_refund_at_stripe_ends_the_license(order: Order) -> None:
    outcome("checkout.session.completed", session(order))

    assert outcome("charge.refunded", charge(order, metadata={}), event="evt_2") == "refunded"

    assert state(order)[:2] == ("refunded", 0)
    assert balance(scenarios.vendor_of(order.release)) == 0


def test_a_refund_that_is_told_before_the_payment_grants_nothing(order: Order) -> None:
    assert outcome("charge.refunded", charge(order)) == "refunded"

    assert outcome("checkout.session.completed", session(order), event="evt_2") == "nothing_to_do"
    assert state(order) == ("refunded", 0, 0)


def test_a_part_of_the_money_going_back_is_left_to_the_staff(order: Order) -> None:
    outcome("checkout.session.completed", session(order))

    part = charge(order, amount_refunded=100, refunded=False)
    assert outcome("charge.refunded", part, event="evt_2") == "partial_refund"

    assert state(order) == ("paid", 1, 1)
    assert PaymentEvent.objects.get(event_id="evt_2").detail == f"100 of {PRICE}"


def test_a_payment_does_not_undo_a_revocation_for_a_breach(fake: FakeStripe, buyer: User) -> None:
    """A renewal that was ordered before, and is paid after it."""
    assert fake.url
    now = timezone.now()
    terms = dataclasses.replace(COMMERCIAL_TEMPLATE, name="Monthly", term_days=10)
    release = scenarios.published_release(scenarios.person("vera"), terms=terms)
    outcome("checkout.session.completed", session(ordered(buyer, release)))
    grant = Grant.objects.get()
    renewal = licensing.renew(user=buyer, grant=grant, terms_hash=release.terms.terms_hash, now=now)
    assert isinstance(renewal, Order)
    grants.revoke(grant=grant, actor=scenarios.vendor_of(release), reason="Resold.", now=now)

    paid = session(renewal, id="cs_test_2", payment_intent="pi_2")
    assert outcome("checkout.session.completed", paid, event="evt_2") == "not_granted"

    assert not Grant.objects.active(now).exists()


def test_a_payment_that_the_bank_takes_back_ends_the_license(order: Order) -> None:
    outcome("checkout.session.completed", session(order))
    dispute = {
        "id": "du_1",
        "object": "dispute",
        "amount": order.amount_minor,
        "currency": order.currency.lower(),
        "metadata": {},
        "payment_intent": "pi_1",
        "reason": "fraudulent",
        "status": "needs_response",
    }

    assert outcome("charge.dispute.created", dispute, event="evt_2") == "disputed"
    assert state(order) == ("paid", 1, 1)
    assert outcome("charge.dispute.closed", {**dispute, "status": "won"}, event="evt_3") == "nothing_to_do"
    assert outcome("charge.dispute.closed", {**dispute, "status": "lost"}, event="evt_4") == "refunded"
    assert state(order)[:2] == ("refunded", 0)
    assert balance(scenarios.vendor_of(order.release)) == 0


def test_the_staff_are_shown_what_waits_for_them_until_the_order_followed(order: Order, client: Client) -> None:
    client.force_login(staff())
    events = "/admin/models_catalog/paymentevent/"
    outcome("checkout.session.completed", session(order, amount_total=PRICE - 1))

    counted = client.get("/moderation/").content.decode()
    listed = client.get(f"{events}?staff=open").content.decode()
    outcome("checkout.session.completed", session(order), event="evt_2")
    after = client.get(f"{events}?staff=open").content.decode()

    assert 'href="/payments/">Payments to look at <span class="tab-count">1</span>' in counted
    assert "evt_1" in listed
    assert "evt_1" not in after
    assert "evt_2" in client.get(f"{events}?outcome=settled").content.decode()
    assert client.get("/moderation/").content.decode().count('class="tab-count">0<') == 2


# What the staff must look at


def mismatched(order: Order) -> PaymentEvent:
    outcome("checkout.session.completed", session(order, amount_total=PRICE - 1))
    return PaymentEvent.objects.get()


def test_the_staff_see_a_payment_that_waits_and_say_what_was_done(order: Order, client: Client) -> None:
    event = mismatched(order)
    client.force_login(staff())

    page = client.get("/payments/").content.decode()
    assert "Another amount than agreed was paid" in page
    assert f"/orders/{order.pk}/" in page
    answer = client.post(f"/payments/{event.pk}/", {"decision": "Sent back at Stripe."}, follow=True)

    assert "No payment waits" in answer.content.decode()
    assert "Sent back at Stripe." in client.get("/payments/?status=attended").content.decode()
    assert AuditEvent.objects.get(action="payment.attend").details["decision"] == "Sent back at Stripe."


def test_the_staff_grant_what_was_paid_once_its_reason_is_gone(order: Order, client: Client) -> None:
    stan, now = staff(), timezone.now()
    quarantine.quarantine(user=stan, release=order.release, reason="Not theirs.", now=now)
    outcome("checkout.session.completed", session(order))
    vendor = scenarios.vendor_of(order.release)
    refused(Conflict, "paid_online", orders.settle_order, order=order, actor=vendor, now=now)
    refused(Denied, "quarantined", orders.settle_order, order=order, actor=stan, now=now)
    quarantine.lift(user=stan, release=Release.objects.get(), now=now)

    client.force_login(stan)
    assert "Paid, and no license came of it" in client.get(f"/orders/{order.pk}/").content.decode()
    client.post(f"/orders/{order.pk}/settle/", {"received_by": "site"})

    assert state(order) == ("paid", 1, 1)
    assert (order.received_by, order.payment_reference) == ("site", "pi_1")
    assert not payment_watch.open_events().exists()


def test_the_staff_send_back_what_bought_nothing(fake: FakeStripe, order: Order) -> None:
    mismatched(order)
    order.refresh_from_db()
    vendor, stan = scenarios.vendor_of(order.release), staff()
    given: dict[str, Any] = {"order": order, "reason": "Another amount.", "now": timezone.now()}
    refused(Conflict, "not_paid", refunds.refund_order, actor=vendor, **given)

    refunds.refund_order(actor=stan, **given)

    assert (fake.calls[-1][0], fake.calls[-1][1]["payment_intent"]) == ("/v1/refunds", "pi_1")
    assert state(order) == ("refunded", 0, 0)
    assert not payment_watch.open_events().exists()


def test_money_that_came_twice_is_sent_back_on_the_order_that_it_came_for(
    fake: FakeStripe, order: Order, buyer: User
) -> None:
    outcome("checkout.session.expired", session(order, payment_status="unpaid"))
    second = ordered(buyer, order.listing.latest_release)
    outcome("checkout.session.completed", session(second, payment_intent="pi_2"), event="evt_2")
    outcome("checkout.session.completed", session(order), event="evt_3")
    order.refresh_from_db()

    refunds.refund_order(order=order, actor=staff(), reason="Paid twice.", now=timezone.now())

    assert fake.calls[-1][1]["payment_intent"] == "pi_1"
    assert state(order) == ("refunded", 1, 1)


def test_an_order_that_nobody_paid_is_still_not_settled_by_hand(order: Order) -> None:
    event, stan, now = mismatched(order), staff(), timezone.now()
    payment_watch.attend(event=event, actor=stan, decision="Sent back at Stripe.", now=now)

    refused(Conflict, "paid_online", orders.settle_order, order=order, actor=stan, now=now)


def test_a_payment_is_dealt_with_once_with_words_and_by_the_staff(order: Order, buyer: User, client: Client) -> None:
    event, stan, now = mismatched(order), staff(), timezone.now()

    refused(Denied, "not_staff", payment_watch.attend, event=event, actor=buyer, decision="Mine.", now=now)
    refused(Invalid, "decision_missing", payment_watch.attend, event=event, actor=stan, decision=" ", now=now)
    payment_watch.attend(event=event, actor=stan, decision="Sent back.", now=now)
    refused(Conflict, "nothing_to_attend", payment_watch.attend, event=event, actor=stan, decision="Again.", now=now)

    event.refresh_from_db()
    assert (event.decision, event.attended_by) == ("Sent back.", stan)
    client.force_login(buyer)
    assert client.get("/payments/").status_code == 403
