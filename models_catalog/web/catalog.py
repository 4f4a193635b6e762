"""Browsing: the catalog, a model's page, comparison, downloads."""

from __future__ import annotations

from typing import Any

from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.safestring import SafeString, mark_safe

from finetuning.engine import titles
from finetuning.engine.headlines import headline
from finetuning.engine.metric_names import written
from finetuning.engine.spec import CARD_FILE, Task
from marketplace import storage
from marketplace.errors import Invalid
from marketplace.html import public_page
from marketplace.templatetags.market import count, price
from models_catalog import cards, filters, intents, policies, selectors
from models_catalog.deliveries import deliver
from models_catalog.intent_search import Judged, judge
from models_catalog.models import Listing, Release
from models_catalog.models.licensing import Credential
from models_catalog.terms import Answer
from models_catalog.verdict import Plan
from models_catalog.web.facets import chips, country_options, facets, intent_options

PAGE_SIZE = 24
EXCLUDED_SIZE = 10
MAX_COMPARED = 4
CARD_SECONDS = 30 * 24 * 3600
_ANSWERS = {Answer.ALLOW: "Yes", Answer.ASK: "Ask the vendor", Answer.DENY: "No"}


def find(request: HttpRequest, namespace: str, name: str, version: str = "") -> Release:
    """Returns the release that the address names, or raises Http404."""
    listing = get_object_or_404(selectors.listing_of(request.user, namespace, name))
    release = selectors.release_with_files(request.user, listing, version)
    if release is None:
        raise Http404
    return release


@public_page
def catalog(request: HttpRequest) -> HttpResponse:
    """Filters, and intents: what somebody wants to do. Models that do not allow it are listed apart, with why."""
    every = selectors.catalog(request.user)
    found = filters.ListingFilter(request.GET, queryset=every)
    rows = found.qs if found.is_valid() else every
    judged, problem = _judged(request)
    sort = request.GET.get("sort", "here")
    chosen = selectors.order_catalog(judged.allowing(rows), sort)
    left_out = selectors.order_catalog(judged.excluded(rows), sort)
    excluded = selectors.catalog_page(left_out, size=EXCLUDED_SIZE, number=request.GET.get("excluded"))
    context = {
        "facets": facets(judged.allowing(every), found),
        "chips": chips(every, found, judged),
        "intents": intent_options(request.GET),
        "intent_problem": problem,
        "countries": country_options(request.GET.get("country", "")),
        "page": selectors.catalog_page(chosen, size=PAGE_SIZE, number=request.GET.get("page")),
        "excluded": excluded,
        "explained": [judged.explain(listing) for listing in excluded],
        "sort": sort,
        "sorts": selectors.SORTS,
    }
    return render(request, "models_catalog/catalog.html", context)


def _judged(request: HttpRequest) -> tuple[Judged, str]:
    """Returns what the intents of the address come to, or what is wrong with one of them."""
    try:
        return judge(intents.read(intents.stated(request.GET))), ""
    except Invalid as error:
        return judge(Plan()), error.message


@public_page
def compare(request: HttpRequest) -> HttpResponse:
    releases = []
    for identifier in dict.fromkeys(request.GET.getlist("model")[:MAX_COMPARED]):
        namespace, _, name = identifier.partition("/")
        releases.append(find(request, namespace, name))
    return render(request, "models_catalog/compare.html", {"releases": releases, "rows": _rows(releases)})


def _task_of(release: Release) -> str:
    task: str = release.listing.get_task_display()
    return f"{task}, any number of labels" if release.names_label_sets else task


def _rows(releases: list[Release]) -> list[tuple[str, list[Any], bool]]:
    def row(title: str, values: list[Any]) -> tuple[str, list[Any], bool]:
        return title, values, len(set(map(str, values))) > 1

    listings = [release.listing for release in releases]
    return [
        row("Task", [_task_of(release) for release in releases]),
        row("Framework", [listing.get_framework_display() for listing in listings]),
        row("Architecture", [listing.architecture for listing in listings]),
        row("Parameters", [count(release.parameters) for release in releases]),
        row("GFLOPs", [release.gflops or "–" for release in releases]),
        row("Input size", [f"{release.input_size} px" if release.input_size else "–" for release in releases]),
        row(
            "Published figure",
            [
                f"{100 * listing.accuracy:.1f}% ({written(listing.accuracy_metric)})" if listing.accuracy else "–"
                for listing in listings
            ],
        ),
        row("License", [release.terms.name for release in releases]),
        *(
            row(title, [_ANSWERS[getattr(release.terms, right)] for release in releases])
            for right, title in filters.RIGHTS
        ),
        row("Price", [price(release.terms) for release in releases]),
    ]


@public_page
def listing(request: HttpRequest, namespace: str, name: str, version: str = "") -> HttpResponse:
    release = find(request, namespace, name, version)
    versions = Release.objects.visible_to(request.user).filter(listing=release.listing)
    task = Task(release.listing.task)
    context = {
        "release": release,
        "listing": release.listing,
        "card": card_html(release),
        "plain": release.terms.plain,
        "actions": policies.actions(request.user, release, now=timezone.now()),
        "versions": versions,
        "lineage": selectors.lineage(release, request.user),
        "headline": headline(task, release.metrics.get("metrics", {})),
        "baseline": headline(task, release.metrics.get("baseline", {})),
        "items": f"{titles.ITEMS[task]}s",
        "origin": request.build_absolute_uri("/").rstrip("/"),
    }
    return render(request, "models_catalog/listing.html", context)


def card_html(release: Release) -> SafeString:
    """Returns the rendered card; `cards.render` has sanitised it. A blob never changes, so it is rendered once."""
    file = next((item for item in release.artifacts.all() if item.path == CARD_FILE), None)
    if file is None or not storage.exists(file.sha256):
        return SafeString("")
    key = f"card:{cards.RENDERING}:{file.sha256}"
    html = str(cache.get_or_set(key, lambda: _rendered(file.sha256), CARD_SECONDS))
    return mark_safe(html)  # noqa: S308 - sanitised by nh3


def _rendered(sha256: str) -> str:
    with storage.open_blob(sha256) as content:
        text = content.read(cards.MAX_CARD_BYTES).decode("utf-8", errors="replace")
    return cards.render(text)


def download(request: HttpRequest, namespace: str, name: str, version: str, path: str) -> HttpResponseBase:
    release = find(request, namespace, name, version)
    artifact = get_object_or_404(release.artifacts, path=path)
    return deliver(
        request,
        user=request.user,
        release=release,
        artifact=artifact,
        credential=Credential.SESSION,
        now=timezone.now(),
    )


def manageable(request: HttpRequest, namespace: str, name: str) -> Listing:
    """Returns a listing of the user's own namespaces, or raises Http404."""
    rows = Listing.objects.managed_by(request.user).select_related("namespace", "latest_release__terms")
    return get_object_or_404(rows, namespace__name__iexact=namespace, name__iexact=name)
