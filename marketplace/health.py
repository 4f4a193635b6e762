"""Whether the site lives, whether it is ready, and what it answers while its database is away."""

from __future__ import annotations

import shutil
import sys

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone

from finetuning.runner import unconfined
from finetuning.selectors import oldest_queued_seconds
from marketplace import storage
from marketplace.errors import PROBLEM_JSON, problem_document
from marketplace.supervision import canary

RETRY_SECONDS = 10
_WORDS = "The database does not answer just now. Nothing was changed; try again in a moment."


def health(_request: HttpRequest) -> HttpResponse:
    """Answers 200 while the database does, else 503; with the age of the oldest queued run, the free disk and for
    how long each kind of slot has not heard its canary (null: never yet), and what this machine lacks to confine the
    engine."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    waiting = oldest_queued_seconds(now=timezone.now())
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


def ready(_request: HttpRequest) -> HttpResponse:
    """Answers 200 where this version may be sent people: its migrations are applied and its store can be written."""
    faults = [fault for fault in ("migrations_missing" if migrations_wait() else "", storage.fault()) if fault]
    return JsonResponse({"status": "not_ready" if faults else "ok", "faults": faults}, status=503 if faults else 200)


def migrations_wait() -> bool:
    """Whether this version has migrations that the database does not know."""
    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def server_error(request: HttpRequest) -> HttpResponse:
    """Answers what nobody caught. A database that is away is nobody's mistake, and over soon: 503.

    Here, because sessions and accounts ask the database in middleware, where no other handler hears of it."""
    if not isinstance(sys.exc_info()[1], OperationalError | InterfaceError):
        return render(None, "500.html", status=500)
    headers = {"Retry-After": str(RETRY_SECONDS)}
    if request.path.startswith("/api/") or request.path in {"/healthz", "/readyz", "/metrics"}:
        document = problem_document(status=503, code="database_unavailable", detail=_WORDS)
        return JsonResponse(document, status=503, content_type=PROBLEM_JSON, headers=headers)
    response = render(None, "503.html", {"words": _WORDS}, status=503)
    response["Retry-After"] = headers["Retry-After"]
    return response
