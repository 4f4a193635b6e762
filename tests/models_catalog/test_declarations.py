"""Caps of country, users and revenue bind at acceptance, and at every use after it: by what the licensee states."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import Any

import pytest
import scenarios
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from marketplace.accounts.models import Namespace, User
from marketplace.errors import Conflict, Denied, DomainError, Invalid
from models_catalog import policies
from models_catalog.declarations import NOTHING, Declaration
from models_catalog.models import Acceptance, Grant, Order, Release
from models_catalog.presets import COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import consent, grants, keys, licensing, orders
from models_catalog.terms import Terms

pytestmark = pytest.mark.django_db
LOCAL = dataclasses.replace(
    PRESETS["mit"],
    license_id="other",
    spdx_id="",
    name="Local",
    denied_territories=("KP", "US"),
    max_monthly_users=1000,
    max_revenue_minor=5_000_000_00,
    transferable=True,
    term_days=30,
    trial_days=7,
)
FITS = Declaration(country="DE", monthly_users=1000, revenue_minor=5_000_000_00)
JSON = "application/json"


def world(terms: Terms = LOCAL) -> tuple[User, Release]:
    return scenarios.person("bo"), scenarios.published_release(scenarios.person("vera"), terms=terms)


def accept(user: User, release: Release, declaration: Declaration = FITS) -> Grant | Order:
    return licensing.accept_terms(
        user=user,
        release=release,
        terms_hash=release.terms.terms_hash,
        now=timezone.now(),
        declaration=declaration,
    )


def refusal(act: object, *args: object, **given: object) -> DomainError:
    with pytest.raises(DomainError) as caught:
        act(*args, **given)  # type: ignore[operator]
    return caught.value


def test_what_was_stated_is_kept_in_the_receipt() -> None:
    buyer, release = world()

    grant = accept(buyer, release)

    assert isinstance(grant, Grant)
    stated = {"country": "DE", "monthly_users": 1000, "revenue_minor": 5_000_000_00}
    assert consent.receipt(grant.acceptance)["receipt"]["declaration"] == stated == grant.declaration
    assert policies.may_download(buyer, release, now=timezone.now()).allowed


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"country": ""}, "declaration_missing", "country"),
        ({"monthly_users": None}, "declaration_missing", "monthly_users"),
        ({"revenue_minor": None}, "declaration_missing", "revenue_minor"),
        ({"country": "XX"}, "bad_declaration", "country"),
        ({"monthly_users": -1}, "bad_declaration", "monthly_users"),
        ({"revenue_minor": 10**16}, "bad_declaration", "revenue_minor"),
    ],
)
def test_what_is_missing_or_makes_no_sense_is_asked_for(changes: dict[str, Any], code: str, field: str) -> None:
    buyer, release = world()

    error = refusal(accept, buyer, release, dataclasses.replace(FITS, **changes))

    assert isinstance(error, Invalid)
    assert (error.code, error.field) == (code, field)
    assert not Acceptance.objects.exists()


@pytest.mark.parametrize(
    ("changes", "clause", "words"),
    [
        ({"country": "US"}, "denied_territories.US", "does not allow use in United States"),
        ({"monthly_users": 1001}, "max_monthly_users", "does not allow more than 1,000 users a month"),
        ({"revenue_minor": 5_000_000_01}, "max_revenue_minor", "at a yearly revenue above €5,000,000.00"),
    ],
)
@pytest.mark.parametrize("way", ["license", "trial", "renewal", "transfer"])
def test_who_is_outside_a_cap_is_refused_with_its_clause(
    changes: dict[str, Any], clause: str, words: str, way: str
) -> None:
    buyer, release = world()
    now, outside = timezone.now(), dataclasses.replace(FITS, **changes)
    given: dict[str, Any] = {"user": buyer, "terms_hash": release.terms.terms_hash, "declaration": outside, "now": now}

    if way == "license":
        error = refusal(licensing.accept_terms, release=release, **given)
    elif way == "trial":
        error = refusal(licensing.start_trial, release=release, **given)
    elif way == "renewal":
        near = now + timedelta(days=20)
        error = refusal(licensing.renew, grant=accept(buyer, release), **{**given, "now": near})
    else:
        cy = scenarios.person("cy")
        recipient = Namespace.objects.get(user=cy)
        offer = grants.offer_transfer(grant=accept(buyer, release), actor=buyer, recipient=recipient, now=now)
        del given["user"]
        error = refusal(grants.accept_transfer, transfer_id=offer.pk, actor=cy, **given)

    assert isinstance(error, Denied)
    assert error.code == "use_not_granted"
    assert error.extra["reasons"][0]["clause"] == clause
    assert words in error.message


def test_terms_without_such_clauses_ask_nothing_and_keep_nothing() -> None:
    buyer, release = world(PRESETS["apache-2.0"])

    grant = accept(buyer, release, FITS)

    assert isinstance(grant, Grant)
    assert grant.declaration == grant.acceptance.declaration == {}
    error = refusal(licensing.state, user=buyer, grant=grant, declaration=FITS, now=timezone.now())
    assert error.code == "nothing_asked"


def test_every_use_is_judged_by_what_was_stated_last() -> None:
    buyer, release = world()
    grant, now = accept(buyer, release), timezone.now()
    assert isinstance(grant, Grant)

    licensing.state(user=buyer, grant=grant, declaration=dataclasses.replace(FITS, monthly_users=2000), now=now)

    for decision in (
        policies.may_download(buyer, release, now=now),
        policies.may_predict(buyer, release, now=now),
        policies.may_fine_tune(buyer, release, now=now),
        policies.may_share_derivative(buyer, release, now=now),
    ):
        assert (decision.code, decision.reasons[0]["clause"]) == ("use_not_granted", "max_monthly_users")
    _, text = keys.rotate(grant=grant, actor=buyer, now=now)
    assert keys.validate(text=text, scope=keys.Scope(), now=now).code == "SUSPENDED"
    licensing.state(user=buyer, grant=grant, declaration=FITS, now=now)
    assert policies.may_download(buyer, release, now=now).allowed
    assert keys.validate(text=text, scope=keys.Scope(), now=now).valid
    purposes = list(Acceptance.objects.order_by("accepted_at").values_list("purpose", flat=True))
    assert purposes == ["license", "statement", "statement"]


def test_a_grant_from_before_the_question_stays_open() -> None:
    buyer, release = world()
    grant = accept(buyer, release)
    Grant.objects.filter(pk=grant.pk).update(declaration={})

    assert policies.may_download(buyer, release, now=timezone.now()).allowed


def test_an_order_keeps_what_was_stated_when_it_was_placed() -> None:
    terms = dataclasses.replace(COMMERCIAL_TEMPLATE, name="Small firms", max_monthly_users=1000)
    buyer, release = world(terms)
    order = accept(buyer, release, Declaration(monthly_users=10))
    assert isinstance(order, Order)

    assert accept(buyer, release, Declaration(monthly_users=10)) == order
    error = refusal(accept, buyer, release, Declaration(monthly_users=20))
    assert isinstance(error, Conflict)
    assert error.code == "order_open"
    grant = orders.settle_order(order=order, actor=scenarios.vendor_of(release), now=timezone.now())
    assert grant.declaration == {"monthly_users": 10}


def test_the_api_says_what_to_state_and_names_the_clause() -> None:
    buyer, release = world()
    client = Client()
    client.force_login(buyer)
    url = "/api/v1/listings/vera/net/grants/"
    asked = {"terms_hash": release.terms.terms_hash}

    def post(to: str, body: object) -> Any:
        return client.post(to, json.dumps(body), content_type=JSON)

    quote = client.get("/api/v1/listings/vera/net/quote/").json()
    assert quote["declare"] == ["country", "monthly_users", "revenue_minor"]
    missing = post(url, asked)
    assert (missing.status_code, missing.json()["code"]) == (422, "declaration_missing")
    facts = {"country": "US", "monthly_users": 5, "revenue_minor": 5}
    refused = post(url, {**asked, "declaration": facts})
    assert (refused.status_code, refused.json()["reasons"][0]["clause"]) == (403, "denied_territories.US")
    taken = post(url, {**asked, "declaration": {**facts, "country": "DE"}})
    assert taken.status_code == 201
    grant = f"/api/v1/grants/{taken.json()['id']}/"
    assert client.get(grant).json()["declaration"] == {**facts, "country": "DE"}
    assert post(f"{grant}declaration/", facts).status_code == 200
    assert client.get("/api/v1/listings/vera/net/releases/1.0/artifacts/config.json").status_code == 403


def test_the_pages_ask_keep_and_let_it_be_stated_anew() -> None:
    buyer, release = world()
    client = Client()
    client.force_login(buyer)
    page = reverse("checkout", args=["vera", "net"])
    assert "Not allowed in North Korea, United States." in client.get(page).content.decode()
    posted = {"terms_hash": release.terms.terms_hash, "accept": "on", "monthly_users": "5", "revenue_minor": "5000000"}

    refused = client.post(page, {**posted, "country": "US"})
    assert "does not allow use in United States" in refused.content.decode()
    taken = client.post(page, {**posted, "country": "DE"})

    grant = Grant.objects.get()
    assert taken["Location"] == f"/licenses/{grant.pk}/"
    assert grant.declaration["revenue_minor"] == 5_000_000_00
    assert "Germany" in client.get(taken["Location"]).content.decode()
    assert "Country of use, as stated" in client.get(f"{taken['Location']}receipt/").content.decode()
    anew = {"country": "DE", "monthly_users": "7000", "revenue_minor": "1"}
    client.post(f"{taken['Location']}act/state/", anew)
    assert policies.may_download(buyer, release, now=timezone.now()).code == "use_not_granted"


def test_nothing_is_the_declaration_of_nothing() -> None:
    assert NOTHING.plan == Declaration(monthly_users=0, revenue_minor=0).plan
