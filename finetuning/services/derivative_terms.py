"""Which terms the result of a run may be published under: what its lineage leads to, or a license that it allows."""

from __future__ import annotations

import dataclasses

from finetuning import policies
from finetuning.models import Run
from marketplace.accounts.models import User
from marketplace.errors import Invalid
from models_catalog import policies as license_policies
from models_catalog.plain_words import as_text
from models_catalog.presets import OFFERS, TEMPLATES, offer
from models_catalog.services import offers
from models_catalog.terms import Terms
from models_catalog.verdict import Effective, credited, derive

_DUTIES = ("include_text", "state_changes", "pass_to_users", "network_source")


def widest(run: Run) -> Terms:
    """Returns the widest terms that the result may carry, by those of the model and of the data that it was
    trained under. What an owner makes of their own model stays under its terms unless they choose others."""
    data = run.dataset_version.terms
    if run.release.listing.namespace_id == run.owner_id:
        return derive(run.terms.value, *([data.value] if data else []))
    return policies.bounds_of(run).limit


def choices(run: Run, *, user: User) -> list[tuple[str, str]]:
    """Returns (key, name) of what the result can be licensed under: first, as "", the widest terms, then each
    license and template that every ancestor allows."""
    bound, first = policies.bounds_of(run, user=user), widest(run)
    allowed = [
        (key, terms.name)
        for key, terms in OFFERS.items()
        if terms.name != first.name and license_policies.may_offer(_free(key, first.currency, bound), bound).allowed
    ]
    return [("", f"{first.name} (what the parents lead to)"), *allowed]


def offered(run: Run, *, bound: Effective, key: str, price_minor: int, currency: str) -> Terms:
    """Returns the terms of that choice at that price, without a currency in the parents'. Raises Invalid
    (`unknown_license`)."""
    if key and key not in OFFERS:
        raise Invalid("unknown_license", f"Choose one of {', '.join(sorted(OFFERS))}.", field="license")
    first = widest(run)
    value = _free(key, first.currency, bound) if key else first
    value = dataclasses.replace(value, price_minor=price_minor, currency=currency or value.currency)
    if key in TEMPLATES:
        return dataclasses.replace(value, text=as_text(value))
    return offers.worded(value, ancestors=[run.terms.value, *(ancestor.node.terms for ancestor in bound.ancestors)])


def _free(key: str, currency: str, bound: Effective) -> Terms:
    """A well-known license stays what it is; a template of this site takes over the duties that ancestors pass on."""
    value = offer(key, price_minor=0, currency=currency)
    if key in TEMPLATES:
        duties = {name: getattr(value, name) or getattr(bound.limit, name) for name in _DUTIES}
        credit = max(value.attribution, bound.limit.attribution, key=lambda it: it.rank)
        value = dataclasses.replace(value, **duties, attribution=credit)
    return credited(value, bound)
