"""Pages that belong to no app: home, the API's documentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from csp.decorators import csp_update
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from finetuning import selectors as finetuning
from finetuning.models.runs import OPEN
from marketplace.html import public_page
from models_catalog import selectors as catalog

FEATURED = 6


@public_page
def home(request: HttpRequest) -> HttpResponse:
    """The door: search and the three steps, or a person's own runs; and models that are on this server."""
    listings = catalog.order_catalog(catalog.catalog(request.user).filter(latest_release__remote_url=""), "newest")
    mine = finetuning.runs_of(request.user)
    context = {
        "listings": listings[:FEATURED],
        "runs": mine.filter(status__in=OPEN)[:5],
        "latest": mine.exclude(status__in=OPEN)[:3],
    }
    return render(request, "home.html", context)


def swagger(view: Callable[..., Any]) -> Callable[..., Any]:
    """Loosens the CSP for the one page whose library writes style attributes."""
    return csp_update({"style-src": "'unsafe-inline'"})(view)
