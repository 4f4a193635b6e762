"""Publishing a result on its page: under which license, at which price in which currency."""

from __future__ import annotations

import dataclasses

import pytest
import scenarios
from django.test import Client
from test_derivatives import code_of, finished_run, licensed_buyer, published

from finetuning.models import Run
from finetuning.services import derivative_terms
from marketplace.accounts.models import User
from models_catalog.presets import COMMERCIAL_TEMPLATE, PRESETS

pytestmark = pytest.mark.django_db
YEN = dataclasses.replace(
    COMMERCIAL_TEMPLATE, name="House terms", price_minor=0, currency="JPY", royalty_floor_minor=90
)


def publish(user: User, run: Run, **fields: str) -> str:
    client = Client()
    client.force_login(user)
    posted = {"namespace": user.username, "name": "tuned", "version": "1.0", **fields}
    return client.post(f"/runs/{run.uid}/publish/", posted, follow=True).content.decode()


def test_the_page_offers_the_licenses_that_every_parent_allows_and_no_other() -> None:
    buyer, release = licensed_buyer(PRESETS["cc-by-sa-4.0"])
    alike = finished_run(buyer, release)
    cy = scenarios.person("cy")
    free = scenarios.published_release(scenarios.person("vic"), terms=PRESETS["mit"])
    scenarios.licensed(cy, free)

    offered = dict(derivative_terms.choices(alike, user=buyer))
    wide = dict(derivative_terms.choices(finished_run(cy, free), user=cy))

    assert offered[""].startswith(PRESETS["cc-by-sa-4.0"].name)
    assert not {"mit", "apache-2.0", "cc-by-nc-4.0"} & offered.keys()
    assert {"apache-2.0", "commercial"} <= wide.keys()
    assert code_of(lambda: published(buyer, alike, license="mit")) == "terms_too_wide"
    assert code_of(lambda: published(buyer, alike, license="no-such")) == "unknown_license"


def test_a_result_is_sold_under_the_template_that_was_chosen_with_the_duties_of_its_parents() -> None:
    buyer, release = licensed_buyer(PRESETS["mit"])
    run = finished_run(buyer, release)

    publish(buyer, run, license="commercial", price="49.00")

    run.refresh_from_db()
    assert run.derivative is not None
    terms = run.derivative.terms.value
    assert (terms.name, terms.price_minor, terms.include_text) == (COMMERCIAL_TEMPLATE.name, 4900, True)
    assert "€49.00" in terms.text


def test_a_result_is_published_by_the_api(client: Client) -> None:
    buyer, release = licensed_buyer(PRESETS["mit"])
    run = finished_run(buyer, release)
    client.force_login(buyer)
    body = {"namespace": "bo", "name": "tuned", "license": "commercial", "price_minor": 4900, "currency": "EUR"}

    answer = client.post(f"/api/v1/runs/{run.uid}/publish/", body, content_type="application/json")

    assert answer.status_code == 201, answer.content
    assert answer.json()["listing"] == "bo/tuned"


def test_a_price_is_in_the_currency_of_the_parents_floors_and_has_no_fraction_that_it_lacks() -> None:
    buyer, release = licensed_buyer(YEN)
    run = finished_run(buyer, release)

    page = publish(buyer, run, price="900.50", currency="JPY")
    other = publish(buyer, run, price="900", currency="EUR")
    publish(buyer, run, price="900")

    assert "JPY has no such fraction" in page
    assert "the price must be in JPY, not in EUR" in other
    run.refresh_from_db()
    assert run.derivative is not None
    assert (run.derivative.terms.price_minor, run.derivative.terms.currency) == (900, "JPY")
