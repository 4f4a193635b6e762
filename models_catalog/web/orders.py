"""An order's page, and what either side does to it."""

from __future__ import annotations

import uuid

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from marketplace.accounts.models import Namespace
from models_catalog import policies
from models_catalog.forms import ReasonForm
from models_catalog.models import Order
from models_catalog.models.orders import OrderStatus, Receiver
from models_catalog.services import orders, payments, refunds


def _order(request: HttpRequest, pk: uuid.UUID) -> Order:
    rows = Order.objects.visible_to(request.user).select_related(
        "listing__namespace", "terms", "buyer", "grant", "release__terms", "release__listing__namespace"
    )
    return get_object_or_404(rows, pk=pk)


@login_required
def order(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    row = _order(request, pk)
    bill = policies.may_bill(request.user, row.listing)
    context = {
        "order": row,
        "settle": bill,
        "is_stranded": request.user.is_staff and orders.is_stranded(row),
        "is_left_to_staff": refunds.is_left_to_staff(row, request.user),
        "is_vendor": policies.receiver_for(request.user, row.listing) == Receiver.VENDOR,
        "buys": Namespace.objects.writable_by(request.user).filter(pk=row.buyer_id).exists(),
        "payment": payments.provider_named(row.provider).title,
        "split": policies.split_of(row.release) if bill.allowed and row.release and _is_open(row) else None,
    }
    return render(request, "models_catalog/order.html", context)


def _is_open(row: Order) -> bool:
    """Of what is paid the statement says where it went."""
    return row.status == OrderStatus.PENDING and row.amount_minor > 0


@login_required
@require_POST
def settle(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Marks the order as paid; `received_by` says to whom."""
    receiver = request.POST.get("received_by", "")
    known = receiver if receiver in Receiver.values else ""
    orders.settle_order(order=_order(request, pk), actor=request.user, now=timezone.now(), received_by=known)
    return redirect("order", pk)


@login_required
@require_POST
def cancel(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    orders.cancel_order(order=_order(request, pk), actor=request.user, now=timezone.now())
    return redirect("order", pk)


@login_required
@require_POST
def refund(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    form = ReasonForm(request.POST)
    reason = form.cleaned_data["reason"] if form.is_valid() else ""
    refunds.refund_order(order=_order(request, pk), actor=request.user, reason=reason, now=timezone.now())
    return redirect("order", pk)


@login_required
@require_POST
def pay(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Asks the provider once more for its payment page, where it did not answer before."""
    row = _order(request, pk)
    orders.open_payment(row)
    if not row.checkout_url:
        messages.error(request, "The payment page is not there yet. Try again in a moment.")
    return redirect("order", pk)
