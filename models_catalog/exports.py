"""Statements and payout batches as CSV files."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from babel.numbers import get_currency_precision
from django.contrib.auth.models import AnonymousUser
from django.http import StreamingHttpResponse

from marketplace.accounts.models import Namespace, User
from marketplace.exports import csv_lines
from models_catalog import statements
from models_catalog.models import Payout, PayoutBatch

STATEMENT_COLUMNS = ["date", "event", "purpose", "order", "model", "in", "out", "currency"]
PAYOUT_COLUMNS = ["batch", "payee", "amount", "currency", "status", "reference"]


def statement(namespace: Namespace, month: statements.Month) -> StreamingHttpResponse:
    """Returns the month's lines; `in` and `out` are whole amounts such as 49.00, neither ever negative."""
    rows = (
        (
            f"{line.at:%Y-%m-%d %H:%M:%S}",
            line.event,
            line.purpose,
            line.order,
            line.model,
            _amount(line.in_minor, line.currency),
            _amount(line.out_minor, line.currency),
            line.currency,
        )
        for line in statements.lines_of(namespace, month)
    )
    return _file(f"statement-{namespace.name}-{month}.csv", csv_lines(STATEMENT_COLUMNS, rows))


def payout_batch(batch: PayoutBatch, user: User | AnonymousUser) -> StreamingHttpResponse:
    """Returns the payouts of the batch that the user may see."""
    payouts = Payout.objects.shown_to(user).filter(batch=batch).select_related("namespace")
    rows = (
        (
            batch.pk,
            payout.namespace.name,
            _amount(payout.amount_minor, batch.currency),
            batch.currency,
            batch.status,
            batch.reference,
        )
        for payout in payouts
    )
    return _file(f"payout-{str(batch.pk)[:8]}.csv", csv_lines(PAYOUT_COLUMNS, rows))


def _file(name: str, lines: Iterator[str]) -> StreamingHttpResponse:
    response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "private, no-store"
    return response


def _amount(minor: int, currency: str) -> str:
    return str(Decimal(minor).scaleb(-get_currency_precision(currency)))
