"""Reading the audit log: what may be asked of it, and how it leaves as a file. Page and API share it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import django_filters
from django.db.models import QuerySet
from django.forms import DateInput
from django.http import StreamingHttpResponse

from marketplace.accounts.models import AuditEvent
from marketplace.exports import csv_lines, json_lines

COLUMNS = ("id", "at", "actor", "namespace", "action", "subject", "details")
FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
_BATCH = 1000
_DAY = DateInput(attrs={"type": "date"})


class AuditFilter(django_filters.FilterSet):
    namespace = django_filters.CharFilter(field_name="namespace__name", lookup_expr="iexact", max_length=96)
    action = django_filters.CharFilter(
        lookup_expr="startswith", max_length=60, help_text="release.yank, or release for all of its kind"
    )
    actor = django_filters.CharFilter(field_name="actor__username", lookup_expr="iexact", max_length=150)
    subject = django_filters.CharFilter(lookup_expr="icontains", max_length=200, label="About")
    since = django_filters.DateFilter(field_name="at", lookup_expr="date__gte", label="From", widget=_DAY)
    until = django_filters.DateFilter(field_name="at", lookup_expr="date__lte", label="To", widget=_DAY)

    class Meta:
        model = AuditEvent
        fields: list[str] = []


def as_row(event: AuditEvent) -> dict[str, Any]:
    return {
        "id": event.pk,
        "at": event.at.isoformat(),
        "actor": event.actor.username if event.actor else None,
        "namespace": event.namespace.name if event.namespace else None,
        "action": event.action,
        "subject": event.subject,
        "details": event.details,
    }


def export(events: QuerySet[AuditEvent], *, kind: str) -> StreamingHttpResponse:
    """Returns every event as a file (`csv` or `jsonl`), streamed: in batches by key, so that no query stays open
    while a slow reader reads."""
    rows = (as_row(event) for event in _batched(events))
    lines = csv_lines(COLUMNS, ([_cell(row[name]) for name in COLUMNS] for row in rows)) if kind == "csv" else None
    response = StreamingHttpResponse(lines or json_lines(rows), content_type=FORMATS[kind])
    response["Content-Disposition"] = f'attachment; filename="audit.{kind}"'
    response["Cache-Control"] = "private, no-store"
    return response


def _cell(value: object) -> object:
    return next(json_lines([value])).strip() if isinstance(value, dict) else value


def _batched(events: QuerySet[AuditEvent]) -> Iterator[AuditEvent]:
    rest = events.order_by("-pk")
    batch = list(rest[:_BATCH])
    while batch:
        yield from batch
        is_last = len(batch) < _BATCH
        batch = [] if is_last else list(rest.filter(pk__lt=batch[-1].pk)[:_BATCH])
