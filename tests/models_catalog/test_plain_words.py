"""What terms say in words: read whole in the golden files of `plain_words/`, and clause by clause here."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_catalog import territories, uses
from models_catalog.plain_words import DATA_WORDS, WORDS, as_text, in_plain_words
from models_catalog.presets import APPROVAL_TEMPLATE, OFFERS, OWN_DATA, PRESETS, TEXTS
from models_catalog.terms import (
    Answer,
    Approval,
    Attribution,
    Billing,
    DerivativeTerms,
    DownstreamGrant,
    Revocable,
    Right,
    Terms,
)
from models_catalog.uses import Use
from models_catalog.validation import flaws

GOLDEN = Path(__file__).with_name("plain_words")
EVERY_CLAUSE = dataclasses.replace(
    APPROVAL_TEMPLATE,
    name="Every clause",
    attribution=Attribution.DISPLAY,
    attribution_text="Made with Every",
    include_text=True,
    state_changes=True,
    derivative_terms=DerivativeTerms.SAME,
    pass_to_users=True,
    network_source=True,
    prohibited_uses=("biometric_id", "military"),
    research_only=True,
    approval=Approval.MANUAL,
    price_minor=4950,
    currency="USD",
    term_days=30,
    royalty_bps=1250,
    edition="2",
    name_prefix="Every",
    max_monthly_users=1_000_000,
    max_revenue_minor=5_000_000_00,
    denied_territories=("CU", "IR", "KP"),
    billing=Billing.PER_PERIOD,
    seats=5,
    trial_days=7,
    royalty_floor_minor=100,
    royalty_depth=3,
    downstream_grant=DownstreamGrant.OWN_GRANT_REQUIRED,
    transferable=True,
    revocable_on=Revocable.NEVER,
)
READ: dict[str, Terms] = {**OFFERS, "own-data": OWN_DATA, "every-clause": EVERY_CLAUSE}
PLAIN = Terms(name="Plain", license_id="other")


def sentences(terms: Terms) -> list[str]:
    plain = in_plain_words(terms)
    return [*plain.may, *plain.may_ask, *plain.must, *plain.may_not, *plain.deal]


@pytest.mark.parametrize("key", READ)
def test_terms_read_as_their_golden_file_says(key: str) -> None:
    assert as_text(READ[key]) == (GOLDEN / f"{key}.txt").read_text(encoding="utf-8")


def test_every_offer_has_a_golden_file_and_none_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(READ)


@pytest.mark.parametrize("right", Right)
@pytest.mark.parametrize("answer", Answer)
def test_a_right_stands_where_its_answer_puts_it_and_nowhere_else(right: Right, answer: Answer) -> None:
    terms = dataclasses.replace(PLAIN, rights={**PLAIN.rights, right: answer})
    for of_data, names in ((False, WORDS), (True, DATA_WORDS)):
        plain = in_plain_words(terms, of_data=of_data)

        assert (names[right] in plain.may) == (answer is Answer.ALLOW)
        assert (names[right] in plain.may_ask) == (answer is Answer.ASK)
        assert (names[right] in plain.may_not) == (answer is Answer.DENY)


SAID: list[tuple[dict[str, Any], str, str]] = [
    ({"attribution": Attribution.NOTICE}, "must", "Keep the copyright and license notices"),
    ({"attribution": Attribution.DISPLAY, "attribution_text": "By V"}, "must", "Give visible credit: “By V”"),
    ({"include_text": True}, "must", "Pass on the license text"),
    ({"state_changes": True}, "must", "Say what you changed"),
    ({"pass_to_users": True}, "must", "Bind your own users to the same use restrictions"),
    ({"network_source": True}, "must", "Publish the weights and training configuration of what you serve"),
    ({"name_prefix": "Abc"}, "must", "Begin the name of a derivative with “Abc”"),
    ({"royalty_bps": 1050}, "must", "Pay for each sale of a derivative: 10.5% of its price"),
    ({"royalty_floor_minor": 250}, "must", "Pay for each sale of a derivative: €2.50"),
    (
        {"royalty_bps": 500, "royalty_floor_minor": 250, "royalty_depth": 1},
        "must",
        "Pay for each sale of a derivative: 5% of its price, and at least €2.50, for 1 generation of derivatives",
    ),
    (
        {"downstream_grant": DownstreamGrant.OWN_GRANT_REQUIRED},
        "must",
        "Make sure that those who license a derivative hold a license of this too",
    ),
    (
        {"derivative_terms": DerivativeTerms.CARRY_RESTRICTIONS},
        "must",
        "Carry these restrictions into the terms of a derivative",
    ),
    (
        {"derivative_terms": DerivativeTerms.SAME_OR_COMPATIBLE},
        "must",
        "License a shared derivative under the same or compatible terms, with no limits of your own",
    ),
    (
        {"derivative_terms": DerivativeTerms.SAME},
        "must",
        "License a shared derivative under the same terms, with no limits of your own",
    ),
    ({"prohibited_uses": ("military",)}, "may_not", "Use it for military purposes or warfare"),
    ({"prohibited_uses": ("an older text",)}, "may_not", "Use it for an older text"),
    ({"research_only": True}, "may_not", "Use it for anything but research"),
    ({"max_monthly_users": 5000}, "may_not", "Use it in products with more than 5,000 users a month"),
    (
        {"max_revenue_minor": 100_000_00},
        "may_not",
        "Use it in an organization whose revenue is above €100,000.00 a year",
    ),
    ({"denied_territories": ("CU", "KP")}, "may_not", "Use it in Cuba or North Korea"),
    ({"price_minor": 500, "currency": "JPY"}, "deal", "Costs ¥500 once"),
    (
        {"price_minor": 500, "billing": Billing.PER_PERIOD, "term_days": 30},
        "deal",
        "Costs €5.00 for each 30 days, bought again to renew",
    ),
    ({"trial_days": 14}, "deal", "Can be tried for 14 days first"),
    ({"seats": 1}, "deal", "Is for 1 seat"),
    ({"term_days": 30}, "deal", "Lasts 30 days"),
    ({"approval": Approval.MANUAL}, "deal", "Is given once the vendor has approved you"),
    ({"transferable": True}, "deal", "Can be passed on to another licensee"),
    ({"revocable_on": Revocable.NEVER}, "deal", "Is never taken back"),
]


@pytest.mark.parametrize(("clause", "column", "sentence"), SAID)
def test_a_clause_is_said_where_it_is_set_and_not_where_it_is_not(
    clause: dict[str, Any], column: str, sentence: str
) -> None:
    assert sentence in getattr(in_plain_words(dataclasses.replace(PLAIN, **clause)), column)
    assert sentence not in sentences(PLAIN)


def test_what_is_not_set_is_said_as_it_is_by_default() -> None:
    deal = ["Costs nothing", "Lasts without end", "Cannot be passed on to another licensee"]

    assert in_plain_words(PLAIN).deal == [*deal, "Is taken back only if you break these terms"]


SILENT = {"name", "license_id", "spdx_id", "kind", "text", "rights", "edition"}


def test_every_clause_is_said() -> None:
    """A clause that is added later is put into the sentences, or here."""
    clauses = {clause for given, _, _ in SAID for clause in given}

    assert clauses == {field.name for field in dataclasses.fields(Terms)} - SILENT


def test_every_code_has_words() -> None:
    assert set(uses.WORDS) == set(Use)
    assert territories.name("DE") == "Germany"
    assert 240 < len(territories.names()) < 255


def test_every_preset_has_its_text_in_a_file_and_its_values_make_sense() -> None:
    texts = {path.stem: path.read_text(encoding="utf-8") for path in TEXTS.glob("*.txt")}

    assert set(texts) == set(PRESETS) - {"unknown"}
    for key, text in texts.items():
        assert PRESETS[key].text == text
    assert [flaw for terms in READ.values() for flaw in flaws(terms)] == []


# SHA-256 of the texts as their authors publish them, line ends and outer blank lines aside: none changes unseen.
TEXT_SHA256 = {
    "agpl-3.0": "0d96a4ff68ad6d4b6f1f30f713b18d5184912ba8dd389f86aa7710db079abcb0",
    "apache-2.0": "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
    "bigscience-openrail-m": "148c1d7b8def81c8c016b718df75449df175dfb73e0570f1adef5d58183fa9a0",
    "bsd-3-clause": "83d52deda5b7aab5400f211fb0b42aca4a71627f6d2a585bb7d78307fd7baaae",
    "cc-by-4.0": "3f3608d39151c587abfe92c2b8eda50eaa5958997d1f3dd8ad812c8af379cd83",
    "cc-by-nc-4.0": "3bcc7e8e1583843af78da84a2b0455e4fc6adc837505a033ac4ae4797c2f9a7d",
    "cc-by-nc-sa-4.0": "d715987186a2c6b893fdbc64049cc8cc02b28bd2ef9c4bc5eec981b47511fe69",
    "cc-by-nd-4.0": "94d13e172e3225794fa0679db2e263f2bdb212694f2d2e8799d993a2d77c3020",
    "cc-by-sa-4.0": "b42fac528cae505cd8673b7f0c6112dc7c73e9c04a75f71af4517830796bf208",
    "cc0-1.0": "a2010f343487d3f7618affe54f789f5487602331c0a8d03f49e9a7c547cf0499",
    "llama3.1": "a16e608b12b532eb5b13bcb45563c47661e53c2d0831ddfa069e11cfc2fe2f93",
    "mit": "10d5120a16805804ffda8b688c220bfb4e8f39741b57320604d455a309e01972",
    "openmdw-1.0": "22d5488faff30b2e34e934779d2a6f033712ec6d1eaaee7e774e9cbe0c3c7587",
}


@pytest.mark.parametrize("key", sorted(TEXT_SHA256))
def test_a_license_text_is_kept_word_for_word(key: str) -> None:
    assert hashlib.sha256(PRESETS[key].text.encode()).hexdigest() == TEXT_SHA256[key]


def test_a_text_that_is_not_here_says_so_and_where_it_stands() -> None:
    text = PRESETS["creativeml-openrail-m"].text

    assert "full text is not on this server" in text
    assert "https://" in text


@given(st.sampled_from(sorted(READ)), st.booleans())
def test_no_sentence_comes_twice(key: str, of_data: bool) -> None:
    plain = in_plain_words(READ[key], of_data=of_data)
    said = [*plain.may, *plain.may_ask, *plain.must, *plain.may_not, *plain.deal]

    assert len(said) == len(set(said))
