"""A vendor's statements, and payouts."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import Prefetch
from django.http import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import Namespace
from marketplace.api import View, checked
from marketplace.decisions import require
from marketplace.errors import Invalid
from marketplace.idempotency import idempotent, require_key
from models_catalog import exports, policies, statements
from models_catalog.api import money_shapes as shapes
from models_catalog.api.views import namespace_named
from models_catalog.models import Payout, PayoutBatch
from models_catalog.models.ledger import PayoutBatchQuerySet
from models_catalog.selectors import MAX_NAME
from models_catalog.services import debts, payouts

_MONTH = OpenApiParameter("month", str, description="Such as 2026-11; default: this one")


class _Books(View):
    read_scope = "payouts:read"
    filters = ("month",)

    def of(self, request: Request, namespace: str) -> tuple[Namespace, statements.Month]:
        """Returns whose books, and of which month, are asked for. What one is no member of does not exist."""
        shown = Namespace.objects.all() if request.user.is_staff else Namespace.objects.of(request.user)
        row = get_object_or_404(shown, name__iexact=namespace[:MAX_NAME])
        require(policies.may_see_books(request.user, row))
        text = request.query_params.get("month", "")
        month = statements.Month.parse(text) if text else statements.Month.of(timezone.now())
        if month is None:
            raise Invalid("bad_month", "A month is written as 2026-11.", field="month")
        return row, month


class Statements(_Books):
    @extend_schema(summary="A month's statement in each currency", parameters=[_MONTH], responses=shapes.MonthOutput)
    def get(self, request: Request, namespace: str) -> Response:
        row, month = self.of(request, namespace)
        found = {
            "namespace": row.name,
            "month": str(month),
            "months": [str(one) for one in statements.months(row)],
            "statements": statements.statements(row, month),
        }
        return Response(shapes.MonthOutput(found).data)


class StatementLines(_Books):
    @extend_schema(
        summary="The lines that a statement sums", parameters=[_MONTH], responses=shapes.LineOutput(many=True)
    )
    def get(self, request: Request, namespace: str) -> Response:
        row, month = self.of(request, namespace)

        def lines(entries: Any, **given: Any) -> Any:
            return shapes.LineOutput([statements.line_of(entry, row) for entry in entries], **given)

        return self.paginated(statements.entries_of(row, month), lines)


class StatementFile(_Books):
    @extend_schema(summary="The lines as CSV", parameters=[_MONTH], responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request, namespace: str) -> HttpResponseBase:
        row, month = self.of(request, namespace)
        return exports.statement(row, month)


class Debt(View):
    write_scope = "payouts:write"
    pagination_class = None

    @extend_schema(
        summary="Record that a vendor paid what they owe this site",
        request=shapes.DebtInput,
        responses=shapes.StatementOutput(many=True),
    )
    @idempotent()
    def post(self, request: Request, namespace: str) -> Response:
        require(policies.may_collect(request.user))
        require_key(request)
        fields = checked(shapes.DebtInput(data=request.data))
        row, now = get_object_or_404(Namespace, name__iexact=namespace[:MAX_NAME]), timezone.now()
        debts.collect(namespace=row, actor=request.user, now=now, **fields)
        found = statements.statements(row, statements.Month.of(now))
        return Response(shapes.StatementOutput(found, many=True).data)


def _rows(request: Request) -> PayoutBatchQuerySet:
    mine = Payout.objects.shown_to(request.user).select_related("namespace")
    shown = Prefetch("payouts", mine, to_attr="shown_payouts")
    return PayoutBatch.objects.visible_to(request.user).prefetch_related(shown)


class Payouts(View):
    read_scope = "payouts:read"
    write_scope = "payouts:write"

    @extend_schema(summary="Payout batches", responses=shapes.PayoutBatchOutput(many=True))
    def get(self, request: Request) -> Response:
        return self.paginated(_rows(request), shapes.PayoutBatchOutput, ordering="-created_at")

    @extend_schema(
        summary="Collect balances into a batch",
        request=shapes.PayoutInput,
        responses={201: shapes.PayoutBatchOutput},
    )
    @idempotent()
    def post(self, request: Request) -> Response:
        require_key(request)
        fields = checked(shapes.PayoutInput(data=request.data))
        namespace = namespace_named(fields.pop("namespace")) if "namespace" in fields else None
        batch = payouts.create(actor=request.user, namespace=namespace, now=timezone.now(), **fields)
        return Response(shapes.PayoutBatchOutput(_rows(request).get(pk=batch.pk)).data, status=201)


class OnePayout(View):
    read_scope = "payouts:read"

    @extend_schema(summary="One payout batch", responses=shapes.PayoutBatchOutput)
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        return Response(shapes.PayoutBatchOutput(get_object_or_404(_rows(request), pk=pk)).data)


class PayoutFile(View):
    read_scope = "payouts:read"

    @extend_schema(summary="A batch as CSV", responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request, pk: uuid.UUID) -> HttpResponseBase:
        batch = get_object_or_404(PayoutBatch.objects.visible_to(request.user), pk=pk)
        return exports.payout_batch(batch, request.user)


class PayoutSent(View):
    write_scope = "payouts:write"

    @extend_schema(summary="Mark a batch as sent", request=shapes.PayoutSentInput, responses=shapes.PayoutBatchOutput)
    @idempotent()
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        fields = checked(shapes.PayoutSentInput(data=request.data))
        batch = get_object_or_404(PayoutBatch.objects.visible_to(request.user), pk=pk)
        payouts.mark_sent(batch=batch, actor=request.user, now=timezone.now(), **fields)
        return Response(shapes.PayoutBatchOutput(_rows(request).get(pk=pk)).data)


class PayoutCanceled(View):
    write_scope = "payouts:write"

    @extend_schema(summary="Cancel an open batch", request=None, responses=shapes.PayoutBatchOutput)
    @idempotent()
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        batch = get_object_or_404(PayoutBatch.objects.visible_to(request.user), pk=pk)
        payouts.cancel(batch=batch, actor=request.user, now=timezone.now())
        return Response(shapes.PayoutBatchOutput(_rows(request).get(pk=pk)).data)
