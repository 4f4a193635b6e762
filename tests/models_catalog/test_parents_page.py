"""A vendor declares on the page of a draft what it was made from."""

from __future__ import annotations

import pytest
import scenarios
from django.test import Client

from models_catalog.models import Release
from models_catalog.presets import PRESETS

pytestmark = pytest.mark.django_db
ADDRESS = "/vendor/mo/child/1.0/"


def test_parents_are_declared_on_the_draft_s_page_one_after_the_other() -> None:
    mo, vera = scenarios.person("mo"), scenarios.person("vera")
    for name in ("one", "two"):
        scenarios.licensed(mo, scenarios.published_release(vera, name=name, terms=PRESETS["apache-2.0"]))
    scenarios.draft_release(mo, name="child", terms=PRESETS["apache-2.0"])
    client = Client()
    client.force_login(mo)

    for name in ("one", "two"):
        client.post(f"{ADDRESS}parents/", {"listing": f"vera/{name}", "relation": "merge"})

    page = client.get(ADDRESS).content.decode()
    assert page.count("Merged from</span>") == 2
    assert "Declare a further parent" in page
    edges = Release.objects.get(listing__name="child").parent_edges
    assert list(edges.order_by("id").values_list("parent__listing__name", flat=True)) == ["one", "two"]


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        ("vera/nothing", "Nothing of this name is here for you"),
        ("no slash", "Nothing of this name is here for you"),
        ("vera/strict", "CC-BY-ND"),
    ],
)
def test_a_parent_that_is_refused_keeps_what_was_typed_and_says_why(listing: str, said: str) -> None:
    mo, vera = scenarios.person("mo"), scenarios.person("vera")
    scenarios.licensed(mo, scenarios.published_release(vera, name="strict", terms=PRESETS["cc-by-nd-4.0"]))
    scenarios.draft_release(mo, name="child", terms=PRESETS["mit"])
    client = Client()
    client.force_login(mo)

    page = client.post(f"{ADDRESS}parents/", {"listing": listing, "relation": "finetune"}).content.decode()

    assert f'value="{listing}"' in page
    assert said.replace("CC-BY-ND", PRESETS["cc-by-nd-4.0"].name) in page
    assert not Release.objects.get(listing__name="child").parent_edges.exists()
