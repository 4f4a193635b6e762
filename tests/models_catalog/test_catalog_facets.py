"""The catalog's facets: what each option says is what one gets by ticking it, and counting them costs no query each."""

from __future__ import annotations

import re

import pytest
import scenarios
from django.http import QueryDict
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from models_catalog import filters, selectors
from models_catalog.intent_search import judge
from models_catalog.presets import COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.verdict import Plan
from models_catalog.web.facets import FACETS, chips, facets

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop() -> None:
    vendor = scenarios.person("vera")
    scenarios.published_release(vendor, name="free-net", terms=PRESETS["mit"])
    scenarios.published_release(vendor, name="paid-net", terms=COMMERCIAL_TEMPLATE)
    scenarios.published_release(vendor, name="nc-net", terms=PRESETS["cc-by-nc-4.0"])
    scenarios.published_release(
        vendor, name="text", terms=PRESETS["mit"], task="text-classification", framework="transformers"
    )


def listed(client: Client, query: str) -> int:
    page = client.get(f"/models/?{query}").content.decode()
    found = re.search(r"<b>(\d+)</b> model", page)
    assert found
    return int(found[1])


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    "query",
    [
        "",
        "task=image-classification",
        "right=fine_tune&price=free",
        "right=commercial_use&right=fine_tune&task=image-classification&task=text-classification",
        "q=net&size=tiny&here=true",
        "vendor=VERA&price=free&price=paid",
        "here=false",
    ],
)
def test_a_count_is_what_ticking_the_option_shows_and_a_chips_what_taking_it_off_shows(
    client: Client, query: str
) -> None:
    every = selectors.catalog(scenarios.person("reader"))
    found = filters.ListingFilter(QueryDict(query), queryset=every)

    for facet in facets(every, found):
        for option in facet.options:
            ticked = QueryDict(query, mutable=True)
            kept = ticked.getlist(facet.name) if facet.name == "right" else []
            ticked.setlist(facet.name, [*kept, option.value])
            assert option.count == listed(client, ticked.urlencode()), (facet.name, option.value)
    for chip in chips(every, found, judge(Plan())):
        assert chip.count_without == listed(client, chip.query_without), chip


@pytest.mark.usefixtures("shop")
def test_an_option_that_is_none_leaves_the_other_filters(client: Client) -> None:
    answer = client.get("/models/?task=steal&price=free")

    assert answer.status_code == 200
    assert 'value="free" checked' in answer.content.decode()


@pytest.mark.usefixtures("shop")
def test_all_facets_are_counted_by_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    every = selectors.catalog(scenarios.person("reader"))
    query = "right=fine_tune&right=commercial_use&task=image-classification&price=free&price=paid"
    found = filters.ListingFilter(QueryDict(query), queryset=every)
    assert sum(len(choices) for _, choices in FACETS.values()) > 15

    with django_assert_num_queries(1):
        facets(every, found)
    with django_assert_num_queries(1):
        assert len(chips(every, found, judge(Plan()))) == 5


def test_the_country_that_is_chosen_stays_chosen(client: Client) -> None:
    page = client.get("/models/?country=DE").content.decode()

    assert '<option value="DE" selected>Germany</option>' in page
    assert page.count("selected>") == 2  # the other one is of the sort
    assert client.get("/models/?country=%3Cb%3E").content.decode().count("<b>") == 1  # the number of models alone
