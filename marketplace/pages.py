"""Pages that belong to no app: home, health, the API's documentation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from csp.decorators import csp_update
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone

from finetuning import selectors as finetuning
from finetuning.models import Run
from finetuning.models.runs import OPEN, RunStatus
from finetuning.runner import unconfined
from marketplace.supervision import canary
from models_catalog import selectors as catalog

FEATURED = 6


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


def health(_request: HttpRequest) -> HttpResponse:
    """Answers 200 while the database does; with the age of the oldest queued run, the free disk and for how long
    each kind of slot has not heard its canary (null: never yet), and what this machine lacks to confine the engine."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    oldest = Run.objects.filter(status=RunStatus.QUEUED).order_by("created_at").first()
    waiting = (timezone.now() - oldest.created_at).total_seconds() if oldest else 0
    free = shutil.disk_usage(settings.DATA_DIR).free
    heard = {slot: at and round((timezone.now() - at).total_seconds()) for slot, at in canary.heard_at().items()}
    return JsonResponse(
        {
            "status": "ok",
            "oldest_queued_run_seconds": round(waiting),
            "disk_free_bytes": free,
            "canary_seconds": heard,
            "sandbox": {"mode": settings.SANDBOX, "missing": list(unconfined())},
        }
    )


def swagger(view: Callable[..., Any]) -> Callable[..., Any]:
    """Loosens the CSP for the one page whose library writes style attributes."""
    return csp_update({"style-src": "'unsafe-inline'"})(view)
