"""Searching by what one wants to do: only what allows it, and the reason for everything else."""

from __future__ import annotations

import dataclasses

import pytest
import scenarios
from django.test import Client

from marketplace.errors import Invalid
from models_catalog import intents
from models_catalog.intent_search import judge
from models_catalog.models import ClauseSet, Listing
from models_catalog.presets import APPROVAL_TEMPLATE, COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.terms import Answer, Right
from models_catalog.verdict import Plan

pytestmark = pytest.mark.django_db
URL = "/api/v1/listings/"
SHOP = {
    "free": PRESETS["mit"],
    "nc": PRESETS["cc-by-nc-4.0"],
    "nd": PRESETS["cc-by-nd-4.0"],
    "llama": PRESETS["llama3.1"],
    "paid": COMMERCIAL_TEMPLATE,
    "reviewed": APPROVAL_TEMPLATE,
    "unknown": PRESETS["unknown"],
    "local": dataclasses.replace(COMMERCIAL_TEMPLATE, name="Local", denied_territories=("US",), max_monthly_users=1000),
}


@pytest.fixture
def shop() -> None:
    vendor = scenarios.person("vera")
    for name, terms in SHOP.items():
        scenarios.published_release(vendor, name=name, terms=terms)


def names(answer: object) -> set[str]:
    return {row["name"] for row in answer.json()["results"]}  # type: ignore[attr-defined]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", set(SHOP)),
        ("intent=sell_product", {"free", "nd", "llama", "paid", "local"}),
        ("intent=fine_tune", {"free", "nc", "nd", "llama", "paid", "reviewed", "local"}),
        ("intent=publish_derivative", {"free", "nc", "llama", "paid", "local"}),
        ("intent=sell_derivative", {"free", "llama", "paid", "local"}),
        ("intent=host_service", {"free", "nc", "nd", "llama", "paid", "local"}),
        ("intent=redistribute", {"free", "nc", "nd", "llama"}),
        ("intent=train_on_outputs&intent=sell_product", {"free", "nd", "llama"}),
        ("intent=fine_tune&intent=users:1001", {"free", "nc", "nd", "llama", "paid", "reviewed"}),
        ("intent=sell_product&users=700000001", {"free", "nd", "paid"}),
        ("intent=sell_product&country=US", {"free", "nd", "llama", "paid"}),
        ("intent=country:us", set(SHOP) - {"local"}),
        ("intent=field:surveillance", set(SHOP) - {"reviewed"}),
        ("intent=sell_product&price=free", {"free", "nd", "llama"}),
    ],
)
def test_only_what_allows_all_of_it_is_shown_and_the_rest_has_its_reasons(
    client: Client, query: str, shown: set[str]
) -> None:
    answer, left_out = client.get(f"{URL}?{query}"), client.get(f"{URL}excluded/?{query}")

    assert names(answer) == shown
    rest = {row["listing"].partition("/")[2]: row["reasons"] for row in left_out.json()["results"]}
    everything = {"free", "nc", "nd", "llama", "unknown"} if "price=free" in query else set(SHOP)
    if query:
        assert set(rest) >= everything - shown - {"reviewed"}
        assert not set(rest) & shown
    for name, reasons in rest.items():
        assert reasons
        for reason in reasons:
            assert reason["parent"] == f"vera/{name}"
            assert f"vera/{name} (“{SHOP[name].name}”)" in reason["words"]
            assert f"vera/{name}" in reason["fix"]
            assert reason["clause"]


@pytest.mark.usefixtures("shop")
def test_the_page_shows_the_same_with_chips_and_the_reasons_below(client: Client) -> None:
    page = client.get("/models/?intent=sell_derivative&users=1001&excluded=1").content.decode()

    assert "5 models left out: see why" in page
    top = page.partition('class="model-grid"')[0]
    assert "<b>5</b> left out: see why</a>" in top
    assert "excluded=1#excluded" in top
    assert (
        "vera/nc (“Creative Commons Attribution-NonCommercial 4.0”) does not allow to sell what you fine-tune from it."
        in page
    )
    assert "does not allow more than 1,000 users a month" in page
    assert "Serve 1,001 users a month" in page
    assert 'value="sell_derivative" checked' in page
    plain = client.get("/models/").content.decode()
    assert "left out" not in plain


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("bad", ["steal", "users:-1", "users:1.5", "users:²", "country:ZZ", "field:fun", "fine_tune:1"])
def test_an_intent_that_is_none_is_refused_and_the_page_says_so(client: Client, bad: str) -> None:
    with pytest.raises(Invalid):
        intents.read([bad])
    answer = client.get(URL, {"intent": bad})

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_intent")
    page = client.get("/models/", {"intent": bad})
    assert page.status_code == 200
    assert "There is no intent" in page.content.decode()


def test_terms_that_say_the_same_are_judged_once() -> None:
    vendor = scenarios.person("vera")
    for number in range(4):
        terms = dataclasses.replace(COMMERCIAL_TEMPLATE, name=f"Offer {number}", price_minor=100 + number)
        scenarios.published_release(vendor, name=f"net{number}", terms=terms)

    assert ClauseSet.objects.count() == 1
    assert judge(Plan(rights=frozenset({Right.USE}))).allowing(Listing.objects.all()).count() == 4


def test_what_asks_for_consent_does_not_allow_yet() -> None:
    asks = {**COMMERCIAL_TEMPLATE.rights, Right.HOST_AS_SERVICE: Answer.ASK}
    release = scenarios.published_release(
        scenarios.person("vera"), terms=dataclasses.replace(COMMERCIAL_TEMPLATE, rights=asks)
    )

    judged = judge(intents.read(["host_service"]))

    assert not judged.allowing(Listing.objects.all()).exists()
    [reason] = judged.explain(release.listing.__class__.objects.select_related("latest_release__terms").get()).reasons
    assert "asks for consent before you offer it to others as a service" in reason.words


def test_the_search_takes_a_constant_number_of_queries(client: Client, django_assert_max_num_queries: object) -> None:
    vendor = scenarios.person("vera")
    counts = []
    for batch in (range(2), range(2, 14)):
        for number in batch:
            terms = dataclasses.replace(PRESETS["cc-by-nc-4.0"], max_monthly_users=number, license_id="other")
            scenarios.published_release(vendor, name=f"nc{number}", terms=terms)
            scenarios.published_release(vendor, name=f"free{number}", terms=PRESETS["mit"])
        with django_assert_max_num_queries(60) as page:  # type: ignore[operator]
            client.get("/models/?intent=sell_product&intent=fine_tune&users=5")
        with django_assert_max_num_queries(10) as api:  # type: ignore[operator]
            client.get(f"{URL}?intent=sell_product")
        counts.append((len(page), len(api)))

    assert counts[0] == counts[1]
