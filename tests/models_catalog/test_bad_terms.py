"""Values of clauses that make no sense: refused in one place, with the field."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from marketplace.errors import Invalid
from models_catalog.models import LicenseTerms
from models_catalog.presets import COMMERCIAL_TEMPLATE
from models_catalog.services.licensing import terms_row
from models_catalog.terms import Answer, Right, as_json
from models_catalog.validation import read, require_sound

BAD: list[tuple[dict[str, Any], str]] = [
    ({"price_minor": -1}, "price_minor"),
    ({"price_minor": 10**9 + 1}, "price_minor"),
    ({"price_minor": 2**63}, "price_minor"),
    ({"price_minor": 49.5}, "price_minor"),
    ({"price_minor": True}, "price_minor"),
    ({"price_minor": "4900"}, "price_minor"),
    ({"royalty_bps": 10_001}, "royalty_bps"),
    ({"royalty_bps": -1}, "royalty_bps"),
    ({"royalty_bps": 12.5}, "royalty_bps"),
    ({"royalty_floor_minor": -1}, "royalty_floor_minor"),
    ({"royalty_floor_minor": 5000, "price_minor": 4999}, "royalty_floor_minor"),
    ({"royalty_depth": -1}, "royalty_depth"),
    ({"currency": "XYZ"}, "currency"),
    ({"currency": "eur"}, "currency"),
    ({"denied_territories": ("EU",)}, "denied_territories"),
    ({"denied_territories": ("de",)}, "denied_territories"),
    ({"prohibited_uses": ("fun",)}, "prohibited_uses"),
    ({"term_days": -30}, "term_days"),
    ({"billing": "per_period"}, "term_days"),
    ({"term_days": 7, "trial_days": 8}, "trial_days"),
    ({"seats": -1}, "seats"),
    ({"max_monthly_users": 10**11}, "max_monthly_users"),
    ({"max_revenue_minor": -5}, "max_revenue_minor"),
    ({"name": " "}, "name"),
    ({"name": "x" * 121}, "name"),
    ({"license_id": "MIT"}, "license_id"),
    ({"name_prefix": "a b"}, "name_prefix"),
    ({"text": "x" * 200_001}, "text"),
    ({"research_only": True}, "research_only"),
]
STATED: list[tuple[dict[str, Any], str]] = [
    ({"price": 1}, "price"),
    ({"transferable": "yes"}, "transferable"),
    ({"include_text": 1}, "include_text"),
    ({"billing": "hourly"}, "billing"),
    ({"prohibited_uses": "military"}, "prohibited_uses"),
    ({"denied_territories": [1]}, "denied_territories"),
    ({"rights": []}, "rights"),
    ({"rights": {"fly": "allow"}}, "rights.fly"),
    ({"rights": {"use": "yes"}}, "rights.use"),
]


def stated(clauses: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in clauses.items()}


@pytest.mark.parametrize(("clauses", "field"), BAD + STATED)
def test_what_makes_no_sense_is_refused_with_its_field_where_a_client_states_it(
    clauses: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        read(stated(clauses), over=COMMERCIAL_TEMPLATE)

    assert (caught.value.code, caught.value.field) == ("bad_terms", field)
    assert caught.value.message.endswith(".")


@pytest.mark.django_db
@pytest.mark.parametrize("clauses", [{"price_minor": -1}, {"price_minor": 2**63}, {"price_minor": 0.5}])
def test_and_where_code_of_the_site_would_store_it(clauses: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        terms_row(dataclasses.replace(COMMERCIAL_TEMPLATE, **clauses))

    assert not LicenseTerms.objects.exists()


def test_what_is_stated_goes_over_what_it_starts_from_and_the_rest_stays() -> None:
    value = read(
        {"price_minor": 100, "rights": {"redistribute": "ask"}, "denied_territories": ["KP", "CU", "KP"]},
        over=COMMERCIAL_TEMPLATE,
    )

    assert (value.price_minor, value.denied_territories) == (100, ("CU", "KP"))
    assert value.answer(Right.REDISTRIBUTE) is Answer.ASK
    assert value.answer(Right.FINE_TUNE) is COMMERCIAL_TEMPLATE.answer(Right.FINE_TUNE)
    assert require_sound(value) == value


def test_a_whole_document_is_read_back_as_it_was_written() -> None:
    assert read(as_json(COMMERCIAL_TEMPLATE), over=COMMERCIAL_TEMPLATE) == COMMERCIAL_TEMPLATE
