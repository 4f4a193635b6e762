"""The catalog's filters as its page shows them: options with counts, and chips that take a filter off."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet
from django.http import QueryDict

from marketplace.accounts.models import User
from models_catalog import intents, selectors
from models_catalog.intent_search import Judged, judge
from models_catalog.models import Listing
from models_catalog.models.listings import FRAMEWORKS, TASKS

FACETS = {
    "task": ("Task", TASKS),
    "right": ("License allows", selectors.RIGHTS),
    "price": ("Price", selectors.PRICES),
    "size": ("Parameters", selectors.SIZES),
    "framework": ("Framework", FRAMEWORKS),
    "here": ("Weights", [("true", "On this server")]),
}
# Ticking two rights asks for both of them; two options of any other facet mean either.
_ALL_OF = frozenset({"right"})


@dataclass(frozen=True, slots=True)
class Option:
    value: str
    title: str
    count: int
    is_ticked: bool


@dataclass(frozen=True, slots=True)
class Facet:
    name: str
    title: str
    options: list[Option]


@dataclass(frozen=True, slots=True)
class Chip:
    name: str
    title: str
    query_without: str
    count_without: int


def _count(query: QueryDict, rows: QuerySet[Listing]) -> int:
    return int(selectors.ListingFilter(query, queryset=rows).qs.count())


def facets(user: User | AnonymousUser, query: QueryDict, judged: Judged) -> list[Facet]:
    """Returns every facet; a count says how many models there would be with that option ticked."""
    rows = judged.allowing(Listing.objects.visible_to(user).live())
    return [
        Facet(name, title, [_option(rows, query, name, value, label) for value, label in choices])
        for name, (title, choices) in FACETS.items()
    ]


def _option(rows: QuerySet[Listing], query: QueryDict, name: str, value: str, label: str) -> Option:
    ticked = query.getlist(name)
    wanted = query.copy()
    wanted.setlist(name, list(dict.fromkeys([*ticked, value])) if name in _ALL_OF else [value])
    return Option(value, label, _count(wanted, rows), value in ticked)


def chips(user: User | AnonymousUser, query: QueryDict, judged: Judged) -> list[Chip]:
    """Returns one chip for each filter that is on, the search words included."""
    every = Listing.objects.visible_to(user).live()
    rows = judged.allowing(every)
    on = [("q", words, f"“{words}”") for words in query.getlist("q") if words.strip()]
    on += [("vendor", vendor, f"Vendor: {vendor}") for vendor in query.getlist("vendor") if vendor]
    for name, (title, choices) in FACETS.items():
        titles = dict(choices)
        on += [(name, value, f"{title}: {titles[value]}") for value in query.getlist(name) if value in titles]
    others = [_chip(rows, query, name, value, title) for name, value, title in on]
    return [*(_intent_chip(every, query, text) for text in intents.stated(query) if judged.plan), *others]


def _intent_chip(rows: QuerySet[Listing], query: QueryDict, text: str) -> Chip:
    name, _, value = text.partition(":")
    parameter, value = (name, value) if value in query.getlist(name) else ("intent", text)
    without = query.copy()
    without.setlist(parameter, [other for other in query.getlist(parameter) if other != value])
    left = judge(intents.read(intents.stated(without))).allowing(rows)
    return _chip(left, query, parameter, value, intents.title(text))


def intent_options(query: QueryDict) -> list[Option]:
    ticked = query.getlist("intent")
    return [Option(name, title, 0, name in ticked) for name, (title, _) in intents.INTENTS.items()]


def _chip(rows: QuerySet[Listing], query: QueryDict, name: str, value: str, title: str) -> Chip:
    without = query.copy()
    without.setlist(name, [other for other in query.getlist(name) if other != value])
    without.pop("page", None)
    return Chip(name, title, without.urlencode(), _count(without, rows))
