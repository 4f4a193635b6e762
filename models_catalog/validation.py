"""Which terms make sense: the one place that refuses values of clauses, whoever states them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

from marketplace.errors import Invalid
from models_catalog import territories
from models_catalog.terms import CURRENCIES, ENUMS, Answer, Billing, Right, Terms
from models_catalog.uses import Use

WHOLE_PERCENT = 10_000  # hundredths of a percent
MAX_PRICE_MINOR = 10**9
# The greatest value of each number; what a 64-bit column holds is far above all of them.
LIMITS: dict[str, int] = {
    "price_minor": MAX_PRICE_MINOR,
    "royalty_floor_minor": MAX_PRICE_MINOR,
    "royalty_bps": WHOLE_PERCENT,
    "royalty_depth": 100,
    "term_days": 36_500,
    "trial_days": 365,
    "seats": 100_000,
    "max_monthly_users": 10**10,
    "max_revenue_minor": 10**15,
}
LENGTHS: dict[str, int] = {
    "name": 120,
    "license_id": 60,
    "spdx_id": 60,
    "edition": 40,
    "name_prefix": 40,
    "text": 200_000,
    "attribution_text": 20_000,
}
_LICENSE_ID = re.compile(r"[a-z0-9][a-z0-9.+\-]*")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]*")


@dataclasses.dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a clause; `field` is the clause's name, `rights.<right>` of a right."""

    field: str
    message: str


def require_sound(terms: Terms) -> Terms:
    """Returns the terms. Raises Invalid (`bad_terms`) with the field of the first clause that makes no sense."""
    for flaw in flaws(terms):
        raise Invalid("bad_terms", flaw.message, field=flaw.field)
    return terms


def read(document: Mapping[str, Any], *, over: Terms) -> Terms:
    """Returns the terms that a client states, clause by clause over those of `over`. Raises Invalid (`bad_terms`)
    with the field: an unknown clause, a value of another type, a fraction where money is whole."""
    hints = get_type_hints(Terms)
    changes: dict[str, Any] = {}
    for name, value in document.items():
        if name not in hints:
            raise Invalid("bad_terms", f"There is no clause {name[:60]}.", field=name[:60])
        changes[name] = _rights(value, over=over) if name == "rights" else _clause(name, value, hints[name])
    return require_sound(dataclasses.replace(over, **changes))


def _rights(value: Any, *, over: Terms) -> dict[Right, Answer]:
    if not isinstance(value, Mapping):
        raise Invalid("bad_terms", "`rights` is an object of rights, each allow, ask or deny.", field="rights")
    stated = {}
    for name, answer in value.items():
        if name not in tuple(Right):
            raise Invalid("bad_terms", f"There is no right {str(name)[:60]}.", field=f"rights.{str(name)[:60]}")
        if answer not in tuple(Answer):
            raise Invalid("bad_terms", "A right is allow, ask or deny.", field=f"rights.{name}")
        stated[Right(name)] = Answer(answer)
    return {right: stated.get(right, over.answer(right)) for right in Right}


def _clause(name: str, value: Any, kind: Any) -> Any:
    if name in ENUMS:
        if value not in tuple(ENUMS[name]):
            raise Invalid("bad_terms", f"Choose one of {', '.join(ENUMS[name])}.", field=name)
        return ENUMS[name](value)
    if kind == tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise Invalid("bad_terms", "Send a list of codes.", field=name)
        return tuple(sorted(set(value)))
    if type(value) is not kind:
        sort = {int: "a whole number", bool: "true or false", str: "text"}[kind]
        raise Invalid("bad_terms", f"{_title(name)} is {sort}.", field=name)
    return value


def flaws(terms: Terms) -> Iterator[Flaw]:
    """Yields what makes no sense, clause by clause in the order in which they are stated."""
    yield from _of_texts(terms)
    yield from _of_numbers(terms)
    yield from _of_codes(terms)
    yield from _of_each_other(terms)


def _of_texts(terms: Terms) -> Iterator[Flaw]:
    if not terms.name.strip():
        yield Flaw("name", "Give the terms a name.")
    for name, most in LENGTHS.items():
        if len(getattr(terms, name)) > most:
            yield Flaw(name, f"{_title(name)} has at most {most:,} characters.")
    if not _LICENSE_ID.fullmatch(terms.license_id):
        yield Flaw("license_id", "A license id is lower case: letters, digits, '.', '+' and '-'; `other` for your own.")
    if terms.name_prefix and not _PREFIX.fullmatch(terms.name_prefix):
        yield Flaw("name_prefix", "A prefix is the beginning of a model's name: letters, digits, '-', '_' and '.'.")


def _of_numbers(terms: Terms) -> Iterator[Flaw]:
    for name, most in LIMITS.items():
        value = getattr(terms, name)
        if type(value) is not int:
            yield Flaw(name, f"{_title(name)} is a whole number.")
        elif value < 0:
            yield Flaw(name, f"{_title(name)} is not below 0.")
        elif value > most:
            yield Flaw(name, _too_much(name, most))


def _too_much(name: str, most: int) -> str:
    return "A royalty is at most 100%." if name == "royalty_bps" else f"{_title(name)} is at most {most:,}."


def _of_codes(terms: Terms) -> Iterator[Flaw]:
    if terms.currency not in CURRENCIES:
        yield Flaw("currency", f"Choose a currency: {', '.join(CURRENCIES)}.")
    for use in terms.prohibited_uses:
        if use not in tuple(Use):
            yield Flaw("prohibited_uses", f"There is no field of use {use[:60]}. Choose of: {', '.join(Use)}.")
    for code in terms.denied_territories:
        if code not in territories.names():
            yield Flaw(
                "denied_territories", f"{code[:60]} is no country: two capital letters of ISO 3166-1, such as DE."
            )


def _of_each_other(terms: Terms) -> Iterator[Flaw]:
    """Clauses that contradict another."""
    if terms.research_only and terms.answer(Right.COMMERCIAL_USE) is Answer.ALLOW:
        yield Flaw("research_only", "Research only and commercial use exclude each other.")
    if terms.price_minor and terms.royalty_floor_minor > terms.price_minor:
        yield Flaw("royalty_floor_minor", "The least royalty is not above the price of the model itself.")
    if terms.billing is Billing.PER_PERIOD and not terms.term_days:
        yield Flaw("term_days", "A license that is bought again to renew needs a term in days.")
    if terms.term_days and terms.trial_days > terms.term_days:
        yield Flaw("trial_days", "A trial is not longer than the license.")


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
