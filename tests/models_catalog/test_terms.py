from __future__ import annotations

from hypothesis import given
from terms_strategy import everything

from models_catalog.terms import Right, Terms, as_json, from_json


@given(everything)
def test_terms_survive_storage_with_the_same_hash(value: Terms) -> None:
    assert from_json(as_json(value)) == value
    assert from_json(as_json(value)).terms_hash == value.terms_hash


def test_every_right_is_denied_until_a_vendor_attests_it() -> None:
    assert not any(Terms(name="t", license_id="other").permits(right) for right in Right)


def test_clauses_that_came_later_leave_the_hash_of_older_terms_as_it_was() -> None:
    older = Terms(name="t", license_id="other", text="x", price_minor=5)

    assert older.terms_hash == "4805abadb2cbaa30b883060fb6f46091d71cc0e3f3c0b9b0cb315cc2f07be0d6"
