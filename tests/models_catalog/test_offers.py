"""Vendors compose terms of their own: what they say, what they are called, and where they go."""

from __future__ import annotations

from typing import Any

import pytest
import scenarios
from django.test import Client

from marketplace.errors import Conflict, Denied, Invalid
from models_catalog.models import Release
from models_catalog.models.lineage import Relation
from models_catalog.plain_words import as_text
from models_catalog.presets import COMMERCIAL_TEMPLATE, OFFERS, PRESETS
from models_catalog.services import lineage, offers, publishing
from models_catalog.terms import Answer, Kind, Right
from models_catalog.terms_form import TermsForm, initial

pytestmark = pytest.mark.django_db
BUILDER = "/vendor/vera/net/terms/new/"


@pytest.fixture
def draft() -> Release:
    return scenarios.draft_release(scenarios.person("vera"))


def posted(start: str, **changes: Any) -> dict[str, Any]:
    """The builder's form as a browser sends it."""
    fields = {**initial(OFFERS[start]), "version": "1.0", **changes}
    return {name: value for name, value in fields.items() if value not in (None, False)}


@pytest.mark.parametrize("start", OFFERS)
def test_what_is_not_changed_stays_the_license_it_was(start: str) -> None:
    assert offers.compose({}, start=start) == OFFERS[start]
    form = TermsForm(posted(start))
    assert form.is_valid(), form.errors
    assert offers.compose(form.clauses, start=start) == OFFERS[start]


def test_a_price_on_a_license_leaves_it_that_license() -> None:
    assert offers.compose({"price_minor": 500, "currency": "USD"}, start="mit").license_id == "mit"


def test_a_license_whose_clauses_were_changed_is_that_license_no_more() -> None:
    changed = {"rights": {"commercial_use": "deny"}}
    with pytest.raises(Invalid) as caught:
        offers.compose(changed, start="mit")
    assert caught.value.field == "name"

    terms = offers.compose({**changed, "name": "Ours"}, start="mit")

    assert (terms.license_id, terms.spdx_id, terms.kind) == ("other", "", Kind.PROPRIETARY)
    assert terms.text == as_text(terms)
    assert "Use it commercially" in terms.text.partition("You may not")[2]


@pytest.mark.parametrize("field", ["license_id", "spdx_id", "kind", "edition"])
def test_nobody_calls_their_terms_by_a_license_s_id(field: str) -> None:
    with pytest.raises(Invalid) as caught:
        offers.compose({field: "mit"}, start="commercial")

    assert caught.value.field == field


def test_own_terms_keep_the_text_that_their_vendor_wrote() -> None:
    assert offers.compose({"text": "Mine.", "seats": 5}, start="commercial").text == "Mine."
    generated = offers.compose({"seats": 5}, start="commercial")
    assert generated.text == as_text(generated)
    assert "Is for 5 seats" in generated.text


def test_terms_are_read_in_plain_words_over_the_api(client: Client) -> None:
    client.force_login(scenarios.person("vera"))
    url = "/api/v1/terms/"

    listed = client.get(url).json()["results"]
    answer = client.post(
        url, {"start": "commercial", "terms": {"denied_territories": ["KP"]}}, content_type="application/json"
    )
    bad = client.post(url, {"terms": {"price_minor": 1.5}}, content_type="application/json")

    assert {row["start"] for row in listed} == set(OFFERS)
    assert "Use it in North Korea" in answer.json()["plain"]["may_not"]
    assert answer.json()["document"]["denied_territories"] == ["KP"]
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "price_minor")


def test_a_release_is_drafted_under_composed_terms_over_the_api(client: Client, draft: Release) -> None:
    client.force_login(scenarios.vendor_of(draft))

    answer = client.post(
        "/api/v1/listings/vera/net/releases/",
        {"version": "2.0", "license": "commercial", "terms": {"price_minor": 700, "royalty_bps": 250, "seats": 3}},
        content_type="application/json",
    )

    assert answer.status_code == 201, answer.content
    terms = Release.objects.get(version="2.0").terms.value
    assert (terms.price_minor, terms.royalty_bps, terms.seats) == (700, 250, 3)


def test_the_page_shows_what_the_terms_say_before_they_are_saved(client: Client, draft: Release) -> None:
    client.force_login(scenarios.vendor_of(draft))
    fields = posted(
        "commercial", royalty="12.50", price="49.50", right_redistribute="allow", denied_territories="kp, cu"
    )

    first = client.get(f"{BUILDER}?start=cc-by-nc-4.0&version=1.0").content.decode()
    page = client.post(BUILDER, {**fields, "do": "preview"}).content.decode()

    assert 'value="cc-by-nc-4.0" selected' in first
    assert "Pay for each sale of a derivative: 12.5% of its price" in page
    assert "Costs €49.50 once" in page
    assert "Use it in Cuba or North Korea" in page
    draft.refresh_from_db()
    assert draft.terms.value == PRESETS["apache-2.0"], "a preview stores nothing"


def test_the_page_saves_on_the_draft_or_makes_one(client: Client, draft: Release) -> None:
    client.force_login(scenarios.vendor_of(draft))

    old = client.post(f"{BUILDER}?start=commercial", {**posted("commercial", price="5"), "do": "save"})
    new = client.post(f"{BUILDER}?start=mit", {**posted("mit", version="2.0"), "do": "save"})

    assert (old.status_code, new.status_code) == (302, 302)
    draft.refresh_from_db()
    assert draft.terms.value.price_minor == 500
    assert Release.objects.get(version="2.0").terms.value == PRESETS["mit"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"royalty": "101"}, "A royalty is at most 100%."),
        ({"price": "5.00", "royalty_floor": "6.00"}, "The least royalty is not above the price"),
        ({"currency": "JPY", "price": "5.50"}, "Price minor is a whole number."),
        ({"denied_territories": "Germany"}, "is no country"),
        ({"billing": "per_period"}, "needs a term in days"),
    ],
)
def test_what_makes_no_sense_comes_back_beside_its_field(
    client: Client, draft: Release, changes: dict[str, str], words: str
) -> None:
    client.force_login(scenarios.vendor_of(draft))

    page = client.post(BUILDER, {**posted("commercial", **changes), "do": "save"})

    assert page.status_code == 200
    assert words in page.content.decode()


def test_terms_of_a_draft_are_judged_by_its_lineage_and_frozen_with_it() -> None:
    parent = scenarios.published_release(scenarios.person("vera"), terms=PRESETS["cc-by-nc-4.0"])
    maker = scenarios.person("mo")
    scenarios.licensed(maker, parent)
    draft = scenarios.draft_release(maker, name="own", terms=PRESETS["cc-by-nc-4.0"])
    given = {"user": maker, "release": draft, "parent": parent, "relation": Relation.FINETUNE}
    lineage.declare(**given, now=scenarios.timezone.now())

    with pytest.raises(Denied) as caught:
        offers.set_terms(user=maker, release=draft, terms=PRESETS["mit"])
    assert caught.value.code == "terms_too_wide"
    with pytest.raises(Denied):
        offers.set_terms(user=scenarios.person("sam"), release=draft, terms=COMMERCIAL_TEMPLATE)
    narrower = offers.compose({"name": "Ours", "rights": {"host_as_service": "deny"}}, start="cc-by-nc-4.0")
    changed = offers.set_terms(user=maker, release=draft, terms=narrower)
    assert changed.terms.value.answer(Right.HOST_AS_SERVICE) is Answer.DENY
    assert "Creative Commons" in changed.terms.value.attribution_text
    publishing.submit(user=maker, release=draft)
    draft.refresh_from_db()
    with pytest.raises((Denied, Conflict)):
        offers.set_terms(user=maker, release=draft, terms=narrower)
