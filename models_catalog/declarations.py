"""What a licensee states of themselves where terms ask for it: where they use the model, for how many users, at what
revenue. Pure; what was stated is judged by verdict.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marketplace.errors import Invalid
from models_catalog import territories
from models_catalog.plain_words import money
from models_catalog.terms import Terms
from models_catalog.validation import LIMITS
from models_catalog.verdict import Plan

# The clause that makes each of them asked for.
CLAUSES = {
    "country": "denied_territories",
    "monthly_users": "max_monthly_users",
    "revenue_minor": "max_revenue_minor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """None or an empty country is not stated; the yearly revenue of the licensee's organization is in minor units of
    the terms' currency."""

    country: str = ""
    monthly_users: int | None = None
    revenue_minor: int | None = None

    @property
    def plan(self) -> Plan:
        countries = frozenset({self.country} if self.country else ())
        return Plan(countries=countries, monthly_users=self.monthly_users or 0, revenue_minor=self.revenue_minor or 0)


NOTHING = Declaration()


def asked(terms: Terms) -> list[str]:
    """Returns which facts these terms ask a licensee for: those that a clause of theirs limits."""
    return [name for name, clause in CLAUSES.items() if getattr(terms, clause)]


def require_stated(declaration: Declaration, terms: Terms) -> Declaration:
    """Returns what the terms ask for and nothing more. Raises Invalid (`declaration_missing`, `bad_declaration`) with
    the field."""
    wanted = asked(terms)
    for name in wanted:
        value = getattr(declaration, name)
        if value in ("", None):
            raise Invalid("declaration_missing", _ASKS[name].format(_limit(terms, name)), field=name)
        _require_sound(name, value)
    return Declaration(**{name: getattr(declaration, name) for name in wanted})


_ASKS = {
    "country": "These terms rule out some countries ({}): say in which one you use the model (two letters, such as DE).",
    "monthly_users": "These terms allow {} users a month: say how many you have.",
    "revenue_minor": "These terms are for a yearly revenue of at most {}: say what your organization's is.",
}


def _limit(terms: Terms, name: str) -> str:
    if name == "country":
        return ", ".join(territories.name(code) for code in terms.denied_territories)
    if name == "monthly_users":
        return f"at most {terms.max_monthly_users:,}"
    return money(terms.max_revenue_minor, terms.currency)


def _require_sound(name: str, value: Any) -> None:
    if name == "country":
        if value not in territories.names():
            text = "This is no country: two capital letters of ISO 3166-1, such as DE."
            raise Invalid("bad_declaration", text, field=name)
        return
    most = LIMITS[CLAUSES[name]]
    if type(value) is not int or not 0 <= value <= most:
        raise Invalid("bad_declaration", f"This is a whole number from 0 to {most:,}.", field=name)


def as_json(declaration: Declaration) -> dict[str, Any]:
    """Returns what was stated."""
    return {name: value for name, value in dataclasses.asdict(declaration).items() if value not in ("", None)}


def in_words(document: Mapping[str, Any], terms: Terms) -> list[tuple[str, str]]:
    """Returns what was stated, as titles and words."""
    found = from_json(document)
    rows = []
    if found.country:
        rows.append(("Country of use", territories.name(found.country)))
    if found.monthly_users is not None:
        rows.append(("Users a month", f"{found.monthly_users:,}"))
    if found.revenue_minor is not None:
        rows.append(("Yearly revenue", money(found.revenue_minor, terms.currency)))
    return rows


def from_json(document: Mapping[str, Any]) -> Declaration:
    return Declaration(**{name: document[name] for name in CLAUSES if name in document})
