"""Figures for Prometheus at /metrics: requests as they were answered, and the site's state as it is when asked."""

from __future__ import annotations

import ipaddress
import secrets
import shutil
import time
from collections.abc import Callable, Iterator

from django.conf import settings
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from finetuning.models import Dataset, Run
from finetuning.models.datasets import DatasetStatus
from finetuning.models.runs import RunStatus
from finetuning.selectors import oldest_queued_seconds
from marketplace.errors import Denied
from marketplace.supervision import canary
from marketplace.webhooks import selectors as webhooks

# Seconds. Pages take hundredths, uploads minutes.
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)
_REQUESTS = Histogram(
    "http_request_seconds", "Until the head of the answer.", ["method", "view", "status"], buckets=_BUCKETS
)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class TimedRequests:
    """Counts and times each request under its view's name: addresses are too many, and say who asked for what."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.monotonic()
        response = self.get_response(request)
        match = request.resolver_match
        view = (match.view_name if match else "") or "none"
        method = request.method if request.method in _METHODS else "other"
        _REQUESTS.labels(method, view, response.status_code).observe(time.monotonic() - started)
        return response


class _State:
    """What the database and the disk hold now."""

    def collect(self) -> Iterator[Metric]:
        now = timezone.now()
        counted = dict(Run.objects.order_by().values_list("status").annotate(Count("pk")))
        runs = GaugeMetricFamily("marketplace_runs", "Runs in each state.", labels=["status"])
        for status in RunStatus.values:
            runs.add_metric([status], counted.get(status, 0))
        yield runs
        waiting = oldest_queued_seconds(now=now)
        yield GaugeMetricFamily("marketplace_oldest_queued_run_seconds", "How long it has waited.", waiting)
        checking = Dataset.objects.filter(status=DatasetStatus.CHECKING, deleted_at__isnull=True).count()
        yield GaugeMetricFamily("marketplace_datasets_checking", "Uploads that wait for their inspection.", checking)
        late = webhooks.oldest_due_seconds(now=now)
        yield GaugeMetricFamily("marketplace_oldest_due_webhook_seconds", "How long it has been due.", late)
        silent = GaugeMetricFamily("marketplace_slot_silent_seconds", "Since a slot heard its canary.", labels=["slot"])
        for slot, at in canary.heard_at().items():
            if at is not None:
                silent.add_metric([slot], (now - at).total_seconds())
        yield silent
        rates = GaugeMetricFamily("marketplace_run_items_per_second", "Of each run that trains.", labels=["run"])
        for run in Run.objects.filter(status=RunStatus.RUNNING):
            rates.add_metric([str(run.uid)], float(run.progress.get("rate") or 0))
        yield rates
        disk = shutil.disk_usage(settings.DATA_DIR)
        yield GaugeMetricFamily("marketplace_disk_free_bytes", "Of DATA_DIR's file system.", disk.free)
        yield GaugeMetricFamily("marketplace_disk_total_bytes", "Of DATA_DIR's file system.", disk.total)


def metrics(request: HttpRequest) -> HttpResponse:
    """Answers those who may ask in Prometheus's text format. Raises Denied (`metrics_token`)."""
    if not _may_ask(request):
        raise Denied("metrics_token", "Send METRICS_TOKEN as the bearer token.")
    state = CollectorRegistry()
    state.register(_State())
    return HttpResponse(generate_latest(REGISTRY) + generate_latest(state), content_type=CONTENT_TYPE_LATEST)


def _may_ask(request: HttpRequest) -> bool:
    """A site in production asks for its token: behind a proxy everybody may look like this machine."""
    if settings.METRICS_TOKEN:
        given = request.headers.get("Authorization", "")
        return secrets.compare_digest(given.encode(), f"Bearer {settings.METRICS_TOKEN}".encode())
    return not settings.PRODUCTION and ipaddress.ip_address(request.META["REMOTE_ADDR"]).is_loopback
