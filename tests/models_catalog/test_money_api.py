"""Quotes, orders and prices, by page and by API."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import scenarios
from django.test import Client
from django.utils import timezone
from test_orders import bought, ordered, staff
from test_royalties import ROYAL, child, priced

from marketplace.accounts.models import User
from models_catalog.models import Grant, Order, Release
from models_catalog.presets import COMMERCIAL_TEMPLATE
from models_catalog.services import publishing
from models_catalog.terms import Billing

pytestmark = pytest.mark.django_db
PRICE = COMMERCIAL_TEMPLATE.price_minor
PERIODIC = dataclasses.replace(COMMERCIAL_TEMPLATE, term_days=30, billing=Billing.PER_PERIOD, seats=3)


def post(client: Client, url: str, body: Any = None, **headers: str) -> Any:
    return client.post(url, body or {}, content_type="application/json", headers=headers)


@pytest.fixture
def release() -> Release:
    return scenarios.published_release(scenarios.person("vera"), terms=COMMERCIAL_TEMPLATE)


@pytest.fixture
def buyer() -> User:
    return scenarios.person("bo")


# Quotes


def test_a_quote_says_what_it_costs_and_what_the_grant_will_be(client: Client, buyer: User) -> None:
    scenarios.published_release(scenarios.person("vera"), terms=PERIODIC)
    client.force_login(buyer)

    quote = client.get("/api/v1/listings/vera/net/quote/").json()

    assert (quote["price_minor"], quote["tax_minor"], quote["total_minor"]) == (PRICE, 0, PRICE)
    assert quote["payments"] == ["manual"]
    grant = quote["grant"]
    assert (grant["licensee"], grant["term_days"], grant["seats"], grant["renews_by_order"]) == ("bo", 30, 3, True)
    assert quote["license"]["allowed"]
    assert quote["split"] is None
    page = client.get("/models/vera/net/license/").content.decode()
    assert "this site adds no tax" in page
    assert "a further order renews it" in page


def test_a_vendor_sees_where_the_price_of_a_sale_goes(client: Client, settings: Any) -> None:
    settings.SITE_FEE_BPS = 500
    root = scenarios.published_release(scenarios.person("rita"), name="root", terms=ROYAL)
    mia = scenarios.person("mia")
    child(mia, root, name="child", terms=priced(6000))
    client.force_login(mia)

    quote = client.get("/api/v1/listings/mia/child/quote/").json()
    page = client.get("/vendor/mia/child/1.0/").content.decode()

    assert quote["split"] == {
        "royalties": [{"listing": "rita/root", "amount_minor": 600}],
        "fee_minor": 300,
        "seller_minor": 5100,
    }
    for words in ("Royalty to rita/root", "€6.00", "€3.00", "€51.00"):
        assert words in page


def test_a_licensee_is_told_what_selling_a_derivative_would_owe_to_every_ancestor(client: Client, buyer: User) -> None:
    root = scenarios.published_release(scenarios.person("rita"), name="root", terms=ROYAL)
    child(scenarios.person("mia"), root, name="child", terms=priced(6000))
    client.force_login(buyer)

    quote = client.get("/api/v1/listings/mia/child/quote/").json()
    page = client.get("/models/mia/child/license/").content.decode()

    terms = {"royalty_bps": ROYAL.royalty_bps, "floor_minor": ROYAL.royalty_floor_minor, "currency": "EUR"}
    assert quote["royalties"] == [{"listing": name, **terms} for name in ("rita/root", "mia/child")]
    assert "Royalty to rita/root" in page
    assert "10% of its price, and at least" in page
    release = root.listing.releases.get()
    publishing.yank(user=scenarios.vendor_of(release), release=release, reason="Wrong weights.", now=timezone.now())
    assert client.get("/api/v1/listings/mia/child/quote/").json()["royalties"][0]["listing"] == "a private model"


def test_a_quote_tells_why_it_cannot_be_bought(client: Client, release: Release, buyer: User) -> None:
    bought(buyer, release)
    client.force_login(buyer)

    quote = client.get("/api/v1/listings/vera/net/quote/").json()

    assert quote["license"]["code"] == "already_licensed"


# Orders


def test_an_order_is_followed_and_canceled_over_the_api(client: Client, release: Release, buyer: User) -> None:
    order = ordered(buyer, release)
    client.force_login(buyer)

    listed = client.get("/api/v1/orders/?status=pending").json()["results"]
    one = client.get(f"/api/v1/orders/{order.pk}/").json()
    asked = post(client, f"/api/v1/orders/{order.pk}/pay/").json()
    canceled = post(client, f"/api/v1/orders/{order.pk}/cancel/")

    assert listed == [one] == [asked]
    assert (one["amount_minor"], one["currency"], one["grant"]) == (PRICE, "EUR", None)
    assert canceled.json()["status"] == "canceled"
    assert client.get("/api/v1/orders/?status=nonsense").json()["code"] == "bad_filter"
    client.force_login(scenarios.person("sam"))
    assert client.get(f"/api/v1/orders/{order.pk}/").status_code == 404


def test_a_vendor_settles_and_refunds_over_the_api(client: Client, release: Release, buyer: User) -> None:
    order = ordered(buyer, release)
    url = f"/api/v1/orders/{order.pk}/"
    client.force_login(buyer)
    assert post(client, f"{url}settle/").json()["code"] == "not_billing"
    client.force_login(scenarios.vendor_of(release))
    assert post(client, f"{url}settle/", {"received_by": "site"}).json()["code"] == "not_staff"

    settled = post(client, f"{url}settle/").json()
    partial = post(client, f"{url}refund/", {"reason": "x", "amount_minor": 1})
    refunded = post(client, f"{url}refund/", {"reason": "By mistake."}).json()

    assert (settled["status"], settled["received_by"]) == ("paid", "vendor")
    assert settled["grant"] == str(Grant.objects.get().pk)
    assert (partial.status_code, partial.json()["code"]) == (422, "partial_refund")
    assert (refunded["status"], refunded["refund_reason"]) == ("refunded", "By mistake.")


def test_the_pages_of_an_order_offer_what_each_side_may_do(client: Client, release: Release, buyer: User) -> None:
    order = ordered(buyer, release)
    url = f"/orders/{order.pk}/"
    offers = {
        buyer: ({"Cancel the order"}, {"Mark as paid", "What a sale pays"}),
        scenarios.vendor_of(release): ({"Mark as paid", "What a sale pays"}, {"Mark as paid to this site"}),
        staff(): ({"Mark as paid to this site", "What a sale pays"}, set()),
    }
    for user, (there, absent) in offers.items():
        client.force_login(user)
        page = client.get(url).content.decode()
        assert {words for words in there if words not in page} == set(), user
        assert {words for words in absent if words in page} == set(), user

    client.post(f"{url}settle/", {"received_by": "site"})
    page = client.get(url).content.decode()
    assert "This site, " in page
    client.post(f"{url}refund/", {"reason": "Asked for."})
    client.force_login(buyer)
    assert "Asked for." in client.get(url).content.decode()


def test_a_list_of_orders_takes_the_same_queries_for_one_and_for_three(
    client: Client, release: Release, django_assert_max_num_queries: Any
) -> None:
    for name in ("a", "b", "c"):
        bought(scenarios.person(name), release)
    client.force_login(scenarios.vendor_of(release))

    with django_assert_max_num_queries(4):
        assert len(client.get("/api/v1/orders/").json()["results"]) == 3


# Bad prices


@pytest.mark.parametrize("price", [-1, 1.5, "1.5", 10**9 + 1, 10**30, "a lot", None, True])
def test_a_price_that_is_none_is_refused_over_the_api(client: Client, price: Any) -> None:
    vendor = scenarios.person("vera")
    scenarios.draft_release(vendor)
    client.force_login(vendor)
    body = {"version": "2.0", "license": "commercial", "price_minor": price}

    answer = post(client, "/api/v1/listings/vera/net/releases/", body)

    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["price_minor"]
    assert Release.objects.count() == 1


@pytest.mark.parametrize("price", ["-1", "0.001", "10000001", "1e30", "NaN", "Infinity", "a lot"])
def test_a_price_that_is_none_is_refused_on_the_page(client: Client, price: str) -> None:
    vendor = scenarios.person("vera")
    scenarios.draft_release(vendor)
    client.force_login(vendor)

    page = client.post("/vendor/vera/net/", {"version": "2.0", "license": "commercial", "price": price})

    assert page.status_code == 200
    assert "errorlist" in page.content.decode()
    assert Release.objects.count() == 1


def test_two_submissions_of_the_checkout_page_make_one_order(client: Client, release: Release, buyer: User) -> None:
    client.force_login(buyer)
    form = {"terms_hash": release.terms.terms_hash, "accept": "on"}

    places = {client.post("/models/vera/net/license/", form)["Location"] for _ in range(2)}

    assert places == {f"/orders/{Order.objects.get().pk}/"}
    assert Order.objects.get().placed_at <= timezone.now()
