"""The catalog's filters as its page shows them: options with counts, and chips that take a filter off."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, reduce
from operator import and_

from django.db.models import Count, Q, QuerySet
from django.http import QueryDict
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from models_catalog import filters, intents, territories
from models_catalog.filters import ListingFilter, condition
from models_catalog.intent_search import Judged, judge
from models_catalog.models import Listing
from models_catalog.models.listings import FRAMEWORKS, TASKS

FACETS = {
    "task": ("Task", TASKS),
    "right": ("License allows", filters.RIGHTS),
    "price": ("Price", filters.PRICES),
    "size": ("Parameters", filters.SIZES),
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


def facets(rows: QuerySet[Listing], found: ListingFilter) -> list[Facet]:
    """Returns every facet of the rows that the intents leave; a count says how many models there would be with that
    option ticked. One query counts them all: with one for each, counting was two thirds of the page's time."""
    on = found.options()
    wanted = {
        (name, value): {**on, name: _with(on.get(name, []), name, value)}
        for name, (_, choices) in FACETS.items()
        for value, _ in choices
    }
    counts = _counts(rows.filter(found.typed()), list(wanted.values()))
    number = dict(zip(wanted, counts, strict=True))
    ticked = found.data.getlist
    return [
        Facet(
            name, title, [Option(value, label, number[name, value], value in ticked(name)) for value, label in choices]
        )
        for name, (title, choices) in FACETS.items()
    ]


def _with(ticked: list[str], name: str, value: str) -> list[str]:
    return list(dict.fromkeys([*ticked, value])) if name in _ALL_OF else [value]


def _counts(rows: QuerySet[Listing], choices: list[dict[str, list[str]]]) -> list[int]:
    """Returns how many of the rows each of the choices of options leaves, by one query."""
    counted = rows.aggregate(
        **{f"choice_{number}": Count("pk", filter=_all_of(options)) for number, options in enumerate(choices)}
    )
    return [counted[f"choice_{number}"] for number in range(len(choices))]


def _all_of(options: dict[str, list[str]]) -> Q:
    return reduce(and_, (condition(name, values) for name, values in options.items()), Q())


def chips(rows: QuerySet[Listing], found: ListingFilter, judged: Judged) -> list[Chip]:
    """Returns one chip for each filter that is on, the search words included."""
    query = found.data
    ticked = [
        (name, value, f"{title}: {titles[value]}")
        for name, (title, choices) in FACETS.items()
        for value in query.getlist(name)
        if value in (titles := dict(choices))
    ]
    on = found.options()
    left = [{**on, name: [other for other in on.get(name, []) if other != value]} for name, value, _ in ticked]
    allowed = judged.allowing(rows)
    counts = _counts(allowed.filter(found.typed()), left) if ticked else []
    return [
        *(_intent_chip(rows, query, text) for text in intents.stated(query) if judged.plan),
        *_typed_chips(allowed, found),
        *(
            Chip(name, title, _without(query, name, value).urlencode(), number)
            for (name, value, title), number in zip(ticked, counts, strict=True)
        ),
    ]


def _typed_chips(rows: QuerySet[Listing], found: ListingFilter) -> list[Chip]:
    query = found.data
    on = [("q", words, f"“{words}”") for words in query.getlist("q") if words.strip()]
    on += [("vendor", vendor, f"Vendor: {vendor}") for vendor in query.getlist("vendor") if vendor]
    return [_chip(rows, query, name, value, title) for name, value, title in on]


def _intent_chip(rows: QuerySet[Listing], query: QueryDict, text: str) -> Chip:
    name, _, value = text.partition(":")
    parameter, value = (name, value) if value in query.getlist(name) else ("intent", text)
    left = judge(intents.read(intents.stated(_without(query, parameter, value)))).allowing(rows)
    return _chip(left, query, parameter, value, intents.title(text))


def _chip(rows: QuerySet[Listing], query: QueryDict, name: str, value: str, title: str) -> Chip:
    without = _without(query, name, value)
    return Chip(name, title, without.urlencode(), ListingFilter(without, queryset=rows).qs.count())


def _without(query: QueryDict, name: str, value: str) -> QueryDict:
    less = query.copy()
    less.setlist(name, [other for other in query.getlist(name) if other != value])
    less.pop("page", None)
    return less


def intent_options(query: QueryDict) -> list[Option]:
    ticked = query.getlist("intent")
    return [Option(name, title, 0, name in ticked) for name, (title, _) in intents.INTENTS.items()]


def country_options(chosen: str) -> SafeString:
    """Returns the options of a select; they never change, and to loop over 250 of them took a fifth of a page."""
    return _country_options(chosen if chosen in territories.names() else "")


@cache
def _country_options(chosen: str) -> SafeString:
    rows = ((code, " selected" if code == chosen else "", name) for code, name in territories.names().items())
    return format_html_join("", '<option value="{}"{}>{}</option>', rows)
