"""Payments that need the staff: what a provider told and no order could follow."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from marketplace.decisions import require
from models_catalog import policies
from models_catalog.models import PaymentEvent
from models_catalog.services import payment_watch as services

PAGE_SIZE = 10


@login_required
def payments(request: HttpRequest) -> HttpResponse:
    """Those that wait, the oldest first; with `?status=attended` those that were dealt with."""
    require(policies.may_attend(request.user))
    attended = request.GET.get("status") == "attended"
    rows = services.attended_events() if attended else services.open_events().order_by("pk")
    rows = rows.select_related("order__listing__namespace", "order__buyer", "attended_by")
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    events = [(event, services.advice(event)) for event in page]
    context = {"page": page, "events": events, "attended": attended, "most": services.MAX_DECISION}
    return render(request, "models_catalog/payments.html", context)


@login_required
@require_POST
def payment_attend(request: HttpRequest, pk: int) -> HttpResponse:
    require(policies.may_attend(request.user))
    event = get_object_or_404(PaymentEvent, pk=pk)
    decision = request.POST.get("decision", "")
    services.attend(event=event, actor=request.user, decision=decision, now=timezone.now())
    messages.success(request, "It is dealt with, and your words are on record.")
    return redirect("payments")
