"""The catalog's filters, for its page, the API and Hub clients alike. Each facet is one condition, so that a page counts
all that it could filter by in one query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import django_filters
from django.db.models import Q, QuerySet
from django.forms import CheckboxSelectMultiple

from models_catalog.models import Listing
from models_catalog.models.listings import FRAMEWORKS, TASKS
from models_catalog.selectors import MAX_NAME
from models_catalog.terms import Answer

RIGHTS = [
    ("commercial_use", "Commercial use"),
    ("fine_tune", "Fine-tuning"),
    ("share_derivatives", "Sharing derivatives"),
    ("sell_derivatives", "Selling derivatives"),
    ("host_as_service", "Hosting as a service"),
]
PRICES = [("free", "Free"), ("paid", "Paid")]
SIZES = [("tiny", "Up to 5 M"), ("small", "5 to 25 M"), ("medium", "25 to 100 M"), ("large", "Over 100 M")]
_SIZE_BOUNDS = {"tiny": (0, 5e6), "small": (5e6, 25e6), "medium": (25e6, 100e6), "large": (100e6, 1e15)}
MAX_QUERY = 200  # characters; a database refuses patterns of many thousands
_MAX_WORDS = 8


def condition(facet: str, values: Sequence[str]) -> Q:
    """Returns what a listing must be for these options of a facet; without any, nothing."""
    if not values:
        return Q()
    if facet == "right":  # every right that is ticked
        return Q(**{f"latest_release__terms__{right}": Answer.ALLOW.value for right in values})
    if facet == "price":
        return _price(set(values))
    if facet == "size":
        return _size(values)
    if facet == "here":
        return Q(latest_release__remote_url="") if "true" in values else ~Q(latest_release__remote_url="")
    return Q(**{f"{facet}__in": values})


def _price(values: set[str]) -> Q:
    if values == {"free"}:
        return Q(latest_release__terms__price_minor=0)
    return Q(latest_release__terms__price_minor__gt=0) if values == {"paid"} else Q()


def _size(values: Sequence[str]) -> Q:
    either = Q()
    for low, high in (_SIZE_BOUNDS[size] for size in values):
        either |= Q(latest_release__parameters__gte=low, latest_release__parameters__lt=high)
    return either


def matching(words: str) -> Q:
    """Returns what a listing must be for a search: every word somewhere in what a card says of it."""
    every = Q()
    for word in words.split()[:_MAX_WORDS]:
        every &= (
            Q(name__icontains=word)
            | Q(title__icontains=word)
            | Q(summary__icontains=word)
            | Q(architecture__icontains=word)
            | Q(namespace__name__icontains=word)
        )
    return every


def of_vendor(name: str) -> Q:
    return Q(namespace__name__iexact=name) if name else Q()


class ListingFilter(django_filters.FilterSet):
    """The filters of an address. What is no option of a facet makes it invalid."""

    q = django_filters.CharFilter(method="searched", label="Search", max_length=MAX_QUERY)
    search = django_filters.CharFilter(method="searched", label="Search", max_length=MAX_QUERY)
    task = django_filters.MultipleChoiceFilter(choices=TASKS, method="ticked", widget=CheckboxSelectMultiple)
    framework = django_filters.MultipleChoiceFilter(choices=FRAMEWORKS, method="ticked", widget=CheckboxSelectMultiple)
    right = django_filters.MultipleChoiceFilter(
        choices=RIGHTS, method="ticked", label="License allows", widget=CheckboxSelectMultiple
    )
    price = django_filters.MultipleChoiceFilter(
        choices=PRICES, method="ticked", label="Price", widget=CheckboxSelectMultiple
    )
    size = django_filters.MultipleChoiceFilter(
        choices=SIZES, method="ticked", label="Parameters", widget=CheckboxSelectMultiple
    )
    vendor = django_filters.CharFilter(method="vended", max_length=MAX_NAME)
    here = django_filters.BooleanFilter(method="on_server", label="On this server")

    class Meta:
        model = Listing
        fields: list[str] = []

    def searched(self, queryset: QuerySet[Listing], _name: str, value: str) -> QuerySet[Listing]:
        return queryset.filter(matching(value))

    def ticked(self, queryset: QuerySet[Listing], name: str, value: list[str]) -> QuerySet[Listing]:
        return queryset.filter(condition(name, value))

    def vended(self, queryset: QuerySet[Listing], _name: str, value: str) -> QuerySet[Listing]:
        return queryset.filter(of_vendor(value))

    def on_server(self, queryset: QuerySet[Listing], _name: str, value: bool) -> QuerySet[Listing]:  # noqa: FBT001 - django-filter's signature
        return queryset.filter(condition("here", [str(value).lower()]))

    def typed(self) -> Q:
        """Returns the condition of what is typed: words and a vendor's name."""
        given = self._understood()
        words = matching(given.get("q") or "") & matching(given.get("search") or "")
        return words & of_vendor(given.get("vendor") or "")

    def options(self) -> dict[str, list[str]]:
        """Returns the options that are ticked, by facet."""
        given = self._understood()
        ticked = {name: list(given.get(name) or []) for name in ("task", "right", "price", "size", "framework")}
        is_here = given.get("here")
        return {**ticked, "here": [] if is_here is None else [str(is_here).lower()]}

    def _understood(self) -> dict[str, Any]:
        """What is wrong with one filter leaves the others."""
        self.is_valid()
        given: dict[str, Any] = self.form.cleaned_data
        return given
