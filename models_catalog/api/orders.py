"""Quotes and orders."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.api import View, checked
from marketplace.errors import Invalid
from marketplace.idempotency import idempotent
from models_catalog import quotes
from models_catalog.api import money_shapes as shapes
from models_catalog.api.views import find_listing, namespace_named
from models_catalog.models import Order
from models_catalog.models.orders import OrderQuerySet, OrderStatus
from models_catalog.services import orders, payments, refunds


class QuoteView(View):
    read_scope = "licenses:read"

    @extend_schema(
        summary="What a license would cost and give",
        parameters=[OpenApiParameter("licensee", str, description="A namespace that you write for; default: you")],
        responses=shapes.QuoteOutput,
    )
    def get(self, request: Request, namespace: str, name: str) -> Response:
        listing = find_listing(request, namespace, name)
        if listing.latest_release is None:
            raise Http404
        licensee = request.query_params.get("licensee", "")
        holder = namespace_named(licensee, field="licensee") if licensee else None
        found = quotes.quote(request.user, listing.latest_release, now=timezone.now(), holder=holder)
        ways = [provider.name for provider in payments.offered(found.price_minor)]
        return Response({**shapes.QuoteOutput(_with(found, ways)).data})


def _with(quote: quotes.Quote, ways: list[str]) -> Any:
    fields = {name: getattr(quote, name) for name in (*quote.__dataclass_fields__, "total_minor")}
    return {**fields, "payments": ways}


def _rows(request: Request) -> OrderQuerySet:
    rows = Order.objects.visible_to(request.user)
    return rows.select_related("listing__namespace", "terms", "buyer", "placed_by", "grant", "release")


class Orders(View):
    read_scope = "licenses:read"
    filters = ("status",)

    @extend_schema(
        summary="Your orders, and those of your models",
        parameters=[OpenApiParameter("status", str, enum=OrderStatus.values)],
        responses=shapes.OrderOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        rows, status = _rows(request), request.query_params.get("status", "")
        if status and status not in OrderStatus.values:
            raise Invalid("bad_filter", f"A status is one of {', '.join(OrderStatus.values)}.", field="status")
        return self.paginated(rows.filter(status=status) if status else rows, shapes.OrderOutput, ordering="-placed_at")


class OneOrder(View):
    read_scope = "licenses:read"

    @extend_schema(summary="One order", responses=shapes.OrderOutput)
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        return Response(shapes.OrderOutput(get_object_or_404(_rows(request), pk=pk)).data)


class _OrderAct(View):
    """Base of what is done to an order; answers with the order as it is then."""

    write_scope = "licenses:write"

    def answer(self, request: Request, pk: uuid.UUID) -> Response:
        return Response(shapes.OrderOutput(get_object_or_404(_rows(request), pk=pk)).data)


class Settle(_OrderAct):
    write_scope = "payouts:write"

    @extend_schema(summary="Mark an order as paid", request=shapes.SettleInput, responses=shapes.OrderOutput)
    @idempotent()
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        fields = checked(shapes.SettleInput(data=request.data))
        row = get_object_or_404(_rows(request), pk=pk)
        orders.settle_order(order=row, actor=request.user, now=timezone.now(), **fields)
        return self.answer(request, pk)


class Cancel(_OrderAct):
    @extend_schema(summary="Cancel an unpaid order", request=None, responses=shapes.OrderOutput)
    @idempotent()
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        orders.cancel_order(order=get_object_or_404(_rows(request), pk=pk), actor=request.user, now=timezone.now())
        return self.answer(request, pk)


class Pay(_OrderAct):
    @extend_schema(summary="Ask for the payment page again", request=None, responses=shapes.OrderOutput)
    @idempotent()
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        row = get_object_or_404(_rows(request), pk=pk)
        orders.open_payment(row)
        return self.answer(request, pk)


class Refund(_OrderAct):
    write_scope = "payouts:write"

    @extend_schema(summary="Refund a paid order", request=shapes.RefundInput, responses=shapes.OrderOutput)
    @idempotent()
    def post(self, request: Request, pk: uuid.UUID) -> Response:
        fields = checked(shapes.RefundInput(data=request.data))
        row = get_object_or_404(_rows(request), pk=pk)
        refunds.refund_order(order=row, actor=request.user, now=timezone.now(), **fields)
        return self.answer(request, pk)
