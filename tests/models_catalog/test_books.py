"""Statements, their files, and payouts."""

from __future__ import annotations

import csv
import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
import scenarios
from django.test import Client
from test_orders import balance, bought, ordered, refused, staff
from test_royalties import ROYAL, child, priced

from marketplace.accounts.models import Role, User
from marketplace.errors import Conflict, Denied, Invalid
from models_catalog import exports, statements
from models_catalog.models import LedgerTransaction, PayoutBatch, Release
from models_catalog.presets import COMMERCIAL_TEMPLATE
from models_catalog.services import orders, payouts, refunds
from models_catalog.statements import Month, Statement

pytestmark = pytest.mark.django_db
OCTOBER, NOVEMBER = Month(2026, 10), Month(2026, 11)
IN_OCTOBER, IN_NOVEMBER = datetime(2026, 10, 31, 23, 59, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
PRICE = COMMERCIAL_TEMPLATE.price_minor


def paid_to_site(buyer: User, release: Release, now: datetime) -> Any:
    order = ordered(buyer, release, now)
    stan = User.objects.filter(is_staff=True).first() or staff()
    orders.settle_order(order=order, actor=stan, now=now, received_by="site")
    order.refresh_from_db()
    return order


def euros(user: User, month: Month) -> Statement:
    return next(found for found in statements.statements(user.namespace, month) if found.currency == "EUR")


@pytest.fixture
def sold(settings: Any) -> Release:
    """mia's derivative of rita's model; its sales pay 10% to rita and 5% to this site."""
    settings.SITE_FEE_BPS = 500
    root = scenarios.published_release(scenarios.person("rita"), name="root", terms=ROYAL)
    return child(scenarios.person("mia"), root, name="child", terms=priced(6000))


def people() -> tuple[User, User]:
    return User.objects.get(username="rita"), User.objects.get(username="mia")


# Statements


def test_a_statement_sums_a_month_and_carries_its_end_over(sold: Release) -> None:
    rita, mia = people()
    first = paid_to_site(scenarios.person("bo"), sold, IN_OCTOBER)
    bought(scenarios.person("cy"), sold, IN_NOVEMBER)  # mia is paid herself
    refunds.refund_order(order=first, actor=User.objects.get(is_staff=True), reason="x", now=IN_NOVEMBER)

    october, november = euros(mia, OCTOBER), euros(mia, NOVEMBER)
    assert (october.sales, october.royalties_out, october.fees) == (6000, -600, -300)
    assert (october.opening, october.closing) == (0, 5100)
    assert (november.sales, november.refunds) == (6000, -6000)
    assert (november.royalties_out, november.fees, november.paid_directly) == (0, 0, -6000)
    assert november.opening == october.closing
    assert (euros(rita, OCTOBER).royalties_in, euros(rita, NOVEMBER).royalties_in) == (600, 0)


def test_the_lines_of_a_statement_are_those_that_it_sums(sold: Release) -> None:
    _, mia = people()
    paid_to_site(scenarios.person("bo"), sold, IN_OCTOBER)
    found = euros(mia, OCTOBER)

    lines = list(statements.lines_of(mia.namespace, OCTOBER))

    assert sum(line.in_minor - line.out_minor for line in lines) == found.closing - found.opening
    assert [(line.purpose, line.model) for line in lines] == [
        ("sale", "mia/child"),
        ("royalty", "rita/root"),
        ("fee", "mia/child"),
    ]


def test_each_currency_has_its_own_statement() -> None:
    vendor = scenarios.person("vera")
    for name, currency in (("a", "USD"), ("b", "EUR")):
        terms = dataclasses.replace(COMMERCIAL_TEMPLATE, currency=currency)
        paid_to_site(
            scenarios.person(f"bo{name}"), scenarios.published_release(vendor, name=name, terms=terms), IN_OCTOBER
        )

    found = statements.statements(vendor.namespace, OCTOBER)

    assert [(one.currency, one.closing) for one in found] == [("EUR", PRICE), ("USD", PRICE)]


def test_a_statement_takes_the_same_queries_for_any_number_of_sales(
    sold: Release, django_assert_num_queries: Any
) -> None:
    _, mia = people()
    for number in range(6):
        paid_to_site(scenarios.person(f"b{number}"), sold, IN_OCTOBER)

    namespace = mia.namespace
    with django_assert_num_queries(5):
        statements.statements(namespace, OCTOBER)
    with django_assert_num_queries(2):  # a batch, and none after it
        assert len(list(statements.lines_of(namespace, OCTOBER))) == 18


@pytest.mark.parametrize("text", ["2026-13", "2026-1", "26-11", "2026-00", "0000-01", "9999-12", "２０２６-11", "x"])
def test_what_is_no_month_is_refused(text: str) -> None:
    assert Month.parse(text) is None


def test_a_december_ends_with_the_year() -> None:
    assert Month.parse("2026-12") == Month(2026, 12)
    assert Month(2026, 12).end == datetime(2027, 1, 1, tzinfo=UTC)


def test_books_are_for_billing_roles(client: Client) -> None:
    olga = scenarios.person("olga")
    acme = scenarios.organization(olga, "acme")
    people_ = {role: scenarios.member(acme, role.value, role) for role in (Role.BILLING, Role.WRITER)}
    expected = {olga: 200, people_[Role.BILLING]: 200, people_[Role.WRITER]: 403, scenarios.person("sam"): 404}

    for user, status in expected.items():
        client.force_login(user)
        api = "/api/v1/statements/acme/"
        for url in ("/statements/acme/", "/statements/acme/csv/", api, f"{api}csv/"):
            assert client.get(url).status_code == status, (user, url)
    client.force_login(staff())
    assert client.get("/api/v1/statements/acme/").status_code == 200
    client.logout()
    assert client.get("/api/v1/statements/acme/").status_code in (401, 403)


def test_page_api_and_file_of_a_month_agree(client: Client, sold: Release) -> None:
    _, mia = people()
    paid_to_site(scenarios.person("bo"), sold, IN_OCTOBER)
    client.force_login(mia)

    page = client.get("/statements/mia/?month=2026-10").content.decode()
    answer = client.get("/api/v1/statements/mia/?month=2026-10").json()
    lines = client.get("/api/v1/statements/mia/lines/?month=2026-10").json()["results"]
    content = b"".join(client.get("/statements/mia/csv/?month=2026-10").streaming_content).decode()

    found = euros(mia, OCTOBER)
    assert "€60.00" in page
    assert answer["statements"][0]["closing"] == found.closing
    assert answer["statements"][0]["sales"] == 6000
    rows = list(csv.DictReader(content.splitlines()))
    assert [row["purpose"] for row in rows] == [line["purpose"] for line in reversed(lines)]
    assert [(row["in"], row["out"]) for row in rows] == [("60.00", "0.00"), ("0.00", "6.00"), ("0.00", "3.00")]
    assert client.get("/api/v1/statements/mia/?month=never").json()["code"] == "bad_month"
    assert client.get("/statements/").status_code == 302


def test_a_file_s_cells_are_no_formulas(sold: Release) -> None:
    _, mia = people()
    stan = staff()
    paid_to_site(scenarios.person("bo"), sold, IN_OCTOBER)
    batch = payouts.create(actor=stan, currency="EUR", minimum_minor=1, now=IN_NOVEMBER)

    payouts.mark_sent(batch=batch, actor=stan, reference='=HYPERLINK("x")', now=IN_NOVEMBER)

    batch.refresh_from_db()
    content = b"".join(exports.payout_batch(batch, mia).streaming_content).decode()
    assert [row["reference"] for row in csv.DictReader(content.splitlines())] == ['\'=HYPERLINK("x")']


# Payouts


def test_a_batch_takes_the_balances_that_reach_the_least_amount_once(sold: Release) -> None:
    rita, mia = people()
    paid_to_site(scenarios.person("bo"), sold, IN_OCTOBER)
    due = {user.username: balance(user) for user in (rita, mia)}
    stan = User.objects.get(is_staff=True)

    batch = payouts.create(actor=stan, currency="EUR", minimum_minor=100, now=IN_NOVEMBER)

    taken = {payout.namespace.name: payout.amount_minor for payout in batch.payouts.all()}
    assert taken == {name: amount for name, amount in due.items() if amount >= 100}
    assert all(balance(User.objects.get(username=name)) == 0 for name in taken)
    refused(Conflict, "nothing_to_pay", payouts.create, actor=stan, currency="EUR", minimum_minor=100, now=IN_NOVEMBER)


def test_a_batch_is_sent_or_canceled_once(sold: Release) -> None:
    _, mia = people()
    paid_to_site(scenarios.person("bo"), sold, IN_OCTOBER)
    stan, due = User.objects.get(is_staff=True), balance(mia)
    given = {"actor": stan, "currency": "EUR", "minimum_minor": 1, "now": IN_NOVEMBER}

    canceled = payouts.cancel(batch=payouts.create(**given), actor=stan, now=IN_NOVEMBER)
    assert balance(mia) == due
    refused(Conflict, "payout_closed", payouts.cancel, batch=canceled, actor=stan, now=IN_NOVEMBER)

    batch = payouts.create(**given)
    sent = payouts.mark_sent(batch=batch, actor=stan, reference="SEPA 7", now=IN_NOVEMBER)
    assert (sent.status, sent.reference, balance(mia)) == ("paid", "SEPA 7", 0)
    for act in (payouts.cancel, payouts.mark_sent):
        more = {"reference": ""} if act is payouts.mark_sent else {}
        refused(Conflict, "payout_closed", act, batch=sent, actor=stan, now=IN_NOVEMBER, **more)
    assert euros(mia, NOVEMBER).payouts == -due


def test_a_refund_after_the_payout_is_the_vendor_s_debt(sold: Release) -> None:
    _, mia = people()
    order = paid_to_site(scenarios.person("bo"), sold, IN_OCTOBER)
    stan = User.objects.get(is_staff=True)
    payouts.create(actor=stan, currency="EUR", minimum_minor=1, now=IN_NOVEMBER)

    refunds.refund_order(order=order, actor=stan, reason="x", now=IN_NOVEMBER)

    assert balance(mia) == -5100


def test_a_billing_role_asks_for_its_own_balance_and_nobody_else_s(sold: Release) -> None:
    rita, mia = people()
    paid_to_site(scenarios.person("bo"), sold, IN_OCTOBER)
    given = {"currency": "EUR", "minimum_minor": 1, "now": IN_NOVEMBER}

    refused(Denied, "not_staff", payouts.create, actor=mia, **given)
    refused(Denied, "not_billing", payouts.create, actor=mia, namespace=rita.namespace, **given)
    batch = payouts.create(actor=mia, namespace=mia.namespace, **given)

    assert [payout.namespace.name for payout in batch.payouts.all()] == ["mia"]
    refused(Denied, "not_staff", payouts.mark_sent, batch=batch, actor=mia, reference="", now=IN_NOVEMBER)
    assert batch in PayoutBatch.objects.visible_to(mia)
    assert batch not in PayoutBatch.objects.visible_to(rita)


def test_a_batch_of_nonsense_is_refused() -> None:
    stan = staff()

    refused(Invalid, "bad_currency", payouts.create, actor=stan, currency="XXX", minimum_minor=1, now=IN_NOVEMBER)
    for minimum in (0, -1, 10**10):
        refused(
            Invalid, "bad_minimum", payouts.create, actor=stan, currency="EUR", minimum_minor=minimum, now=IN_NOVEMBER
        )


def test_payouts_by_page_and_api(client: Client, sold: Release) -> None:
    _, mia = people()
    due = balance(mia) + 5100
    paid_to_site(scenarios.person("bo"), sold, IN_OCTOBER)
    client.force_login(User.objects.get(is_staff=True))
    url, body = "/api/v1/payouts/", {"currency": "EUR", "minimum_minor": 1}

    assert client.post(url, body, content_type="application/json").json()["code"] == "idempotency_key_missing"
    made = client.post(url, body, content_type="application/json", headers={"Idempotency-Key": "k"})
    again = client.post(url, body, content_type="application/json", headers={"Idempotency-Key": "k"})

    assert (made.status_code, again.json()) == (201, made.json())
    pk = made.json()["id"]
    assert {"namespace": "mia", "amount_minor": due} in made.json()["payouts"]
    assert client.get(f"/payouts/{pk}/").status_code == client.get("/payouts/").status_code == 200
    content = b"".join(client.get(f"/payouts/{pk}/csv/").streaming_content).decode()
    assert {row["payee"]: row["amount"] for row in csv.DictReader(content.splitlines())}["mia"] == f"{due / 100:.2f}"
    client.post(f"/payouts/{pk}/sent/", {"reference": "SEPA 7"})
    assert PayoutBatch.objects.get().status == "paid"
    assert client.post(f"{url}{pk}/cancel/").json()["code"] == "payout_closed"
    client.force_login(mia)
    shown = client.get(f"{url}{pk}/").json()["payouts"]
    assert [payout["namespace"] for payout in shown] == ["mia"]
    assert client.post("/payouts/", {"currency": "EUR", "minimum": "50", "namespace": "mia"}).status_code == 200


def test_a_batch_is_canceled_or_sent_by_the_api(client: Client, sold: Release) -> None:
    paid_to_site(scenarios.person("bo"), sold, IN_OCTOBER)
    client.force_login(User.objects.get(is_staff=True))
    url, json = "/api/v1/payouts/", {"content_type": "application/json"}

    def made(key: str) -> str:
        body = {"currency": "EUR", "minimum_minor": 1}
        return f"{url}{client.post(url, body, headers={'Idempotency-Key': key}, **json).json()['id']}/"

    canceled = client.post(f"{made('a')}cancel/").json()
    batch = made("b")
    sent = client.post(f"{batch}sent/", {"reference": "SEPA 7"}, **json).json()

    assert [canceled["status"], sent["status"]] == ["canceled", "paid"]
    assert [row["status"] for row in client.get(url).json()["results"]] == ["paid", "canceled"]
    file = client.get(f"{batch}csv/")
    assert (file.status_code, file["Content-Type"].partition(";")[0]) == (200, "text/csv")


def test_the_form_takes_no_fraction_that_a_currency_has_not(client: Client) -> None:
    client.force_login(staff())

    page = client.post("/payouts/", {"currency": "JPY", "minimum": "50.5"}).content.decode()

    assert "JPY has no such fraction" in page
    assert not LedgerTransaction.objects.exists()
