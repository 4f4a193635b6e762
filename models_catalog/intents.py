"""What a visitor wants to do with a model, as the catalog's address says it: `intent=sell_product&intent=users:5000`."""

from __future__ import annotations

from collections.abc import Iterable

from django.http import QueryDict

from marketplace.errors import Invalid
from models_catalog import territories, uses
from models_catalog.terms import Right
from models_catalog.uses import Use
from models_catalog.validation import LIMITS
from models_catalog.verdict import Plan

PRODUCT = frozenset({Right.USE, Right.COMMERCIAL_USE, Right.COMMERCIAL_OUTPUTS})
TUNING = frozenset({Right.USE, Right.FINE_TUNE})
# name -> (title, the rights that it needs)
INTENTS: dict[str, tuple[str, frozenset[Right]]] = {
    "sell_product": ("Sell a product that uses it", PRODUCT),
    "fine_tune": ("Fine-tune it", TUNING),
    "publish_derivative": ("Publish what I fine-tune", TUNING | {Right.SHARE_DERIVATIVES}),
    "sell_derivative": (
        "Sell what I fine-tune",
        TUNING | {Right.SHARE_DERIVATIVES, Right.SELL_DERIVATIVES, Right.COMMERCIAL_USE},
    ),
    "host_service": ("Offer it as a service", frozenset({Right.USE, Right.HOST_AS_SERVICE})),
    "redistribute": ("Pass on the weights", frozenset({Right.REDISTRIBUTE})),
    "train_on_outputs": ("Train on its outputs", frozenset({Right.USE, Right.TRAIN_OTHER_MODELS})),
    "publish_benchmarks": ("Publish benchmarks", frozenset({Right.USE, Right.PUBLISH_BENCHMARKS})),
}
PARAMETERS = ("intent", "users", "country")  # of an address
MAX_INTENTS = 40


def read(stated: Iterable[str]) -> Plan:
    """Returns the plan that all the intents make together. Raises Invalid (`bad_intent`) for what is none."""
    rights: set[Right] = set()
    users, countries, fields = 0, set(), set()
    for text in list(stated)[:MAX_INTENTS]:
        name, _, value = text.partition(":")
        if name in INTENTS and not value:
            rights |= INTENTS[name][1]
        elif (
            name == "users" and value.isascii() and value.isdecimal() and int(value[:20]) <= LIMITS["max_monthly_users"]
        ):
            users = max(users, int(value))
        elif name == "country" and value.upper() in territories.names():
            countries.add(value.upper())
        elif name == "field" and value in tuple(Use):
            fields.add(value)
        else:
            known = ", ".join((*INTENTS, "users:N", "country:XX", "field:CODE"))
            raise Invalid("bad_intent", f"There is no intent {text[:60]}. These are: {known}.", field="intent")
    return Plan(rights=frozenset(rights), monthly_users=users, countries=frozenset(countries), fields=frozenset(fields))


def stated(query: QueryDict) -> list[str]:
    """Returns the intents of an address; `users` and `country` are what a form's own fields say."""
    fields = [f"{name}:{value}" for name in ("users", "country") for value in query.getlist(name) if value]
    return list(dict.fromkeys([*query.getlist("intent"), *fields]))


def title(text: str) -> str:
    """Returns a readable intent in words."""
    name, _, value = text.partition(":")
    if name == "users":
        return f"Serve {int(value):,} users a month"
    if name == "country":
        return f"Use it in {territories.name(value.upper())}"
    return f"Use it for {uses.words(value)}" if name == "field" else INTENTS[name][0]
