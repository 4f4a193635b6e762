"""Royalties that nobody has paid this site are not paid out, and what makes that good."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import scenarios
from django.test import Client
from test_orders import balance, bought, refused, staff
from test_royalties import ROYAL, child, priced

from marketplace.accounts.models import AuditEvent, User
from marketplace.errors import Conflict, Denied, Invalid
from models_catalog import statements
from models_catalog.models import LedgerTransaction, Order, Release
from models_catalog.services import debts, orders, payouts, refunds
from models_catalog.services.licensing import accept_terms

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def sold() -> Release:
    """mia's derivative of rita's model, whose sales bring rita 10%; nobody owes anything yet."""
    root = scenarios.published_release(scenarios.person("rita"), name="root", terms=ROYAL)
    return child(scenarios.person("mia"), root, name="child", terms=priced(6000))


def owner(name: str) -> User:
    return User.objects.get(username=name)


def asked(user: User) -> dict[str, int]:
    batch = payouts.create(actor=user, namespace=user.namespace, currency="EUR", minimum_minor=1, now=NOW)
    return {payout.namespace.name: payout.amount_minor for payout in batch.payouts.all()}


def collected(user: User, amount: int, reference: str = "SEPA 1") -> None:
    stan = User.objects.filter(is_staff=True).first() or staff()
    given = {"namespace": user.namespace, "currency": "EUR", "reference": reference, "now": NOW}
    debts.collect(actor=stan, amount_minor=amount, **given)


def paid_to_site(name: str, release: Release) -> None:
    stan = User.objects.filter(is_staff=True).first() or staff()
    terms_hash = release.terms.terms_hash
    order = accept_terms(user=scenarios.person(name), release=release, terms_hash=terms_hash, now=NOW)
    orders.settle_order(order=order, actor=stan, now=NOW, received_by="site")


def test_a_royalty_that_the_vendor_owes_is_paid_out_neither_by_request_nor_by_the_staff(sold: Release) -> None:
    rita = owner("rita")
    bought(scenarios.person("bo"), sold, NOW)

    refused(Conflict, "royalties_wait", asked, user=rita)
    refused(Conflict, "royalties_wait", payouts.create, actor=staff(), currency="EUR", minimum_minor=1, now=NOW)

    assert (balance(rita), balance(owner("mia"))) == (600, -600)


def test_a_collected_debt_frees_the_oldest_royalties_first(sold: Release) -> None:
    rita, mia = owner("rita"), owner("mia")
    bought(scenarios.person("bo"), sold, NOW)
    bought(scenarios.person("cy"), sold, NOW)

    collected(mia, 700)

    assert asked(rita) == {"rita": 700}
    refused(Conflict, "royalties_wait", asked, user=rita)
    collected(mia, 500, "SEPA 2")
    assert asked(rita) == {"rita": 500}
    assert statements.statements(mia.namespace, statements.Month.of(NOW))[0].collected == 1200


def test_what_this_site_was_paid_for_is_paid_out_beside_what_waits(sold: Release) -> None:
    rita, mia = owner("rita"), owner("mia")
    bought(scenarios.person("bo"), sold, NOW)
    paid_to_site("cy", scenarios.published_release(rita, name="other", terms=priced(900)))

    assert asked(rita) == {"rita": 900}

    paid_to_site("di", sold)  # of this the debt of the first is kept
    assert balance(mia) == 4800
    assert asked(rita) == {"rita": 1200}


def test_who_waits_for_royalties_owes_their_own_still(sold: Release) -> None:
    """A chain: what mia's descendant owes her is no money that she pays rita with."""
    rita, mia = owner("rita"), owner("mia")
    second = scenarios.published_release(mia, name="second", terms=ROYAL)
    last = child(scenarios.person("lea"), second, name="last", terms=priced(6000))
    bought(scenarios.person("bo"), sold, NOW)  # mia owes rita 600
    bought(scenarios.person("cy"), last, NOW)  # lea owes mia 600
    assert balance(mia) == 0

    refused(Conflict, "royalties_wait", asked, user=rita)

    collected(owner("lea"), 600)
    assert asked(rita) == {"rita": 600}


def test_a_circle_of_debts_pays_nobody_and_comes_to_an_end(sold: Release) -> None:
    rita, mia = owner("rita"), owner("mia")
    second = scenarios.published_release(mia, name="second", terms=ROYAL)
    back = child(rita, second, name="back", terms=priced(6000))
    for number in range(12):
        bought(scenarios.person(f"b{number}"), sold, NOW)
        bought(scenarios.person(f"c{number}"), back, NOW)
    bought(scenarios.person("dan"), sold, NOW)
    assert (balance(rita), balance(mia)) == (600, -600)

    refused(Conflict, "royalties_wait", asked, user=rita)


def test_a_refunded_sale_holds_nothing_back(sold: Release) -> None:
    rita, mia = owner("rita"), owner("mia")
    first, _ = bought(scenarios.person("bo"), sold, NOW)
    bought(scenarios.person("cy"), sold, NOW)

    refunds.refund_order(order=first, actor=mia, reason="x", now=NOW)
    collected(mia, 600)

    assert asked(rita) == {"rita": 600}


def test_a_vendor_takes_back_no_royalty_that_was_paid_out(sold: Release) -> None:
    rita, mia, stan = owner("rita"), owner("mia"), staff()
    order, _ = bought(scenarios.person("bo"), sold, NOW)
    given = {"order": order, "reason": "x", "now": NOW}
    collected(mia, 600)
    asked(rita)

    refused(Conflict, "balance_too_low", refunds.refund_order, actor=mia, **given)
    assert (balance(rita), balance(mia)) == (0, 0)

    refunds.refund_order(actor=stan, **given)
    assert (balance(rita), balance(mia)) == (-600, 600)


def test_a_vendor_refunds_nothing_that_this_site_was_paid_by_invoice(client: Client, sold: Release) -> None:
    mia, stan = owner("mia"), staff()
    paid_to_site("bo", sold)
    order = Order.objects.get(received_by="site")
    given = {"order": order, "reason": "x", "now": NOW}

    refused(Denied, "paid_to_site", refunds.refund_order, actor=mia, **given)
    client.force_login(mia)
    assert "To send the money back, ask its staff." in client.get(f"/orders/{order.pk}/").content.decode()
    client.force_login(stan)
    assert "Refund…" in client.get(f"/orders/{order.pk}/").content.decode()

    assert refunds.refund_order(actor=stan, **given).status == "refunded"


def test_a_debt_is_collected_once_no_more_than_it_is_and_by_the_staff(sold: Release) -> None:
    rita, mia, stan = owner("rita"), owner("mia"), staff()
    bought(scenarios.person("bo"), sold, NOW)
    given = {"actor": stan, "namespace": mia.namespace, "currency": "EUR", "now": NOW}
    given |= {"amount_minor": 300, "reference": "SEPA 1"}

    refused(Denied, "not_staff", debts.collect, **{**given, "actor": mia})
    refused(Invalid, "reference_missing", debts.collect, **{**given, "reference": " "})
    for wrong in ({"amount_minor": 601}, {"amount_minor": 0}, {"currency": "USD"}, {"namespace": rita.namespace}):
        refused(Conflict, "no_such_debt", debts.collect, **{**given, **wrong})
    debts.collect(**given)
    refused(Conflict, "debt_collected", debts.collect, **given)

    assert balance(mia) == -300
    assert AuditEvent.objects.get(action="debt.collect").details["reference"] == "SEPA 1"


def test_the_staff_collect_a_debt_by_the_api(client: Client, sold: Release) -> None:
    mia = owner("mia")
    bought(scenarios.person("bo"), sold, NOW)
    url, body = "/api/v1/statements/mia/debt/", {"currency": "EUR", "amount_minor": 600, "reference": "SEPA 1"}
    given = {"content_type": "application/json", "headers": {"Idempotency-Key": "k"}}

    client.force_login(mia)
    assert client.post(url, body, **given).json()["code"] == "not_staff"
    client.force_login(staff())
    answers = [client.post(url, body, **given).json() for _ in range(2)]

    assert answers[0] == answers[1]
    assert answers[0][0]["collected"] == 600
    assert LedgerTransaction.objects.filter(event="debt_collected").count() == 1
    assert client.get("/statements/mia/").status_code == 200


def test_the_staff_see_who_owes_and_record_a_payment_on_the_page(client: Client, sold: Release) -> None:
    bought(scenarios.person("bo"), sold, NOW)
    client.force_login(staff())
    assert 'href="/statements/mia/"' in client.get("/payouts/").content.decode()

    fields = {"currency": "EUR", "amount": "6.01", "reference": "SEPA 7"}
    refusal = client.post("/statements/mia/", fields)
    assert "owes this site less than that" in refusal.content.decode()
    assert client.post("/statements/mia/", {**fields, "amount": "6.00"}).status_code == 302
    assert (balance(owner("rita")), balance(owner("mia"))) == (600, 0)
    assert "/statements/mia/" not in client.get("/payouts/").content.decode()

    client.force_login(owner("mia"))
    assert client.post("/statements/mia/", fields).status_code == 403
    assert "Record what" not in client.get("/statements/mia/").content.decode()
