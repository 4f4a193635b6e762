"""The catalog as `list_models` asks for it: filters, sorts and pages."""

from __future__ import annotations

import re
from typing import Any

from django.db.models import F, OuterRef, Q, QuerySet
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

from finetuning.engine.spec import Framework
from models_catalog import filters, selectors
from models_catalog.hub.trees import TRUE
from models_catalog.kinds import HUB_TASKS
from models_catalog.models import Download, Listing

_TASKS = {hub: own for own, hub in HUB_TASKS.items()}
_FRAMEWORKS = frozenset(framework.value for framework in Framework)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_BOUND = re.compile(r"(min|max):([0-9]+(?:\.[0-9]+)?)([KMBT]?)", re.IGNORECASE)
_SORTS = {
    "createdAt": "-created_at",
    "downloads": "-downloads",
    "likes": "-review_count",
    "lastModified": "-published",
    "trendingScore": "-published",
}


class HubPages(CursorPagination):
    """Bare arrays; the address of the next page stands in `Link`, absolute, as the clients need it."""

    page_size = 100
    max_page_size = 1000
    page_size_query_param = "limit"


def chosen(request: Request) -> QuerySet[Listing]:
    """Returns what the query asks for; what is unknown in it is left aside, as the Hub does."""
    asked = request.query_params
    rows = selectors.catalog(request.user)
    if text := asked.get("search", "")[: filters.MAX_QUERY]:
        rows = filters.ListingFilter({"q": text}, queryset=rows).qs
    if author := asked.get("author", "")[: selectors.MAX_NAME]:
        rows = rows.filter(namespace__name__iexact=author)
    if task := asked.get("pipeline_tag", ""):
        rows = rows.filter(task=_TASKS.get(task, task)[:30])
    if gated := asked.get("gated", ""):
        rows = rows if gated in TRUE else rows.none()  # every model here asks for its license
    for tag in asked.getlist("filter"):
        for one in tag.split(","):
            rows = _tagged(rows, one.strip()[: filters.MAX_QUERY])
    return _sized(rows, asked.get("num_parameters", "")[:80])


def _tagged(rows: QuerySet[Listing], tag: str) -> QuerySet[Listing]:
    kind, _, value = tag.partition(":")
    if kind == "license" and value:
        return rows.filter(latest_release__terms__license_id__iexact=value)
    if kind == "base_model" and value:
        namespace, _, name = value.rpartition(":")[2].partition("/")
        parent = "latest_release__parent_edges__parent"
        named = {f"{parent}__listing__namespace__name__iexact": namespace, f"{parent}__listing__name__iexact": name}
        # A parent that is not published is nobody's business.
        return rows.filter(Q(**named) & Q(**{f"{parent}__status": "published"})).distinct()
    if tag in _FRAMEWORKS:
        return rows.filter(framework=tag)
    if tag in {"safetensors", "pytorch", ""}:
        return rows
    return rows.filter(task=_TASKS.get(tag, tag)[:30])


def _sized(rows: QuerySet[Listing], text: str) -> QuerySet[Listing]:
    for bound, number, unit in _BOUND.findall(text):
        least = float(number) * _UNITS[unit.upper()]
        rows = rows.filter(**{f"latest_release__parameters__{'gte' if bound == 'min' else 'lte'}": least})
    return rows


def page(request: Request, view: Any) -> tuple[list[Listing], str]:
    """Returns a page of listings and the address of the next one, or ""."""
    pages = HubPages()
    order = _SORTS.get(request.query_params.get("sort", ""), "-published")
    rows = chosen(request).annotate(published=F("latest_release__published_at"))
    if order == "-downloads":
        taken = Download.objects.filter(artifact__release__listing=OuterRef("pk"), day__isnull=False)
        rows = rows.annotate(downloads=selectors.number_of(taken, of="artifact__release__listing"))
    pages.ordering = (order, "-id")
    found = pages.paginate_queryset(rows, request, view=view)
    return list(found or []), pages.get_next_link() or ""
