"""Cards are strangers' text: bounded, harmless, rendered once."""

from __future__ import annotations

import pytest
import scenarios
from django.core.cache import cache
from django.test import Client

from marketplace.errors import TooLarge
from models_catalog import cards
from models_catalog.services import publishing

DEEP = cards.MAX_CARD_BYTES


@pytest.mark.parametrize(
    "hostile",
    [
        "[" * DEEP,
        "- " * (DEEP // 2),
        "{a: " * (DEEP // 4),
        "a: &x [1]\nb: *x",
        "- 1",
        "a: [",
        "x: !!bool maybe",
        'x: !!int ""',
        "x: !!timestamp foo",
    ],
)
def test_front_matter_that_is_no_plain_mapping_counts_as_absent(hostile: str) -> None:
    card = f"---\n{hostile}\n---\n# A net"

    assert cards.front_matter(card) == {}
    assert cards.render(card) == "<h2>A net</h2>\n"


def test_front_matter_is_read_and_left_out_of_the_page() -> None:
    card = cards.write({"license": "mit", "tags": ["a", "b"]}, "# A net")

    assert cards.front_matter(card) == {"license": "mit", "tags": ["a", "b"]}
    assert cards.render(card) == "<h2>A net</h2>\n"


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "![x](https://tracker.example/a.png)",
        '<a onclick="x()">x</a>',
    ],
)
def test_nothing_in_a_card_runs_or_loads(hostile: str) -> None:
    html = cards.render(hostile)

    for trace in ("<script", 'href="javascript', "<img", "<a onclick"):
        assert trace not in html


@pytest.mark.django_db
def test_a_card_has_a_bound_and_other_texts_do_not() -> None:
    vendor = scenarios.person("vera")
    release = scenarios.draft_release(vendor)
    text = "x" * (cards.MAX_CARD_BYTES + 1)

    with pytest.raises(TooLarge) as caught:
        publishing.attach_texts(user=vendor, release=release, texts=[("README.md", text)])
    assert caught.value.code == "card_too_large"
    publishing.attach_texts(user=vendor, release=release, texts=[("README.md", text[1:]), ("notes.md", text)])


@pytest.mark.django_db
def test_a_card_is_rendered_once_however_often_it_is_read(client: Client) -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    sha256 = release.artifacts.get(path="README.md").sha256
    cache.clear()
    client.force_login(scenarios.person("reader"))  # whose pages are made each time
    assert b"<h2>A net</h2>" in client.get("/models/vera/net/").content

    cache.set(f"card:{cards.RENDERING}:{sha256}", "<p>from the cache</p>")

    assert b"<p>from the cache</p>" in client.get("/models/vera/net/").content
    cache.clear()
