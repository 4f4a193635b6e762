"""Requests for access, as those who ask and those who decide see them."""

from __future__ import annotations

import uuid
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from marketplace.errors import Invalid
from marketplace.html import redirect_back
from models_catalog import policies, selectors
from models_catalog.models import AccessRequest
from models_catalog.models.licensing import RequestStatus
from models_catalog.services import access

PAGE_SIZE = 25


@login_required
def requests(request: HttpRequest) -> HttpResponse:
    """The person's own. Those that they decide are a section of the vendor's desk."""
    if request.GET.get("side") == "vendor":
        status = urlencode({"status": request.GET.get("status", "")})
        return redirect(f"{reverse('vendor_requests')}?{status}")
    rows = selectors.access_requests_of(request.user, {**request.GET.dict(), "side": "requester"})
    context = {
        "page": Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page")),
        "decides": AccessRequest.objects.put_to(request.user).exists(),
        "states": RequestStatus.choices,
        "state": request.GET.get("status", ""),
    }
    return render(request, "models_catalog/access_requests.html", context)


@login_required
def access_request(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    row = get_object_or_404(selectors.access_requests_shown(request.user), pk=pk)
    context = {
        "item": row,
        "decides": policies.may_manage(request.user, row.listing).allowed,
        "asks": policies.may_accept_for(request.user, row.requester).allowed,
        "again": policies.may_ask(row, now=timezone.now()),
        "ask_again_days": access.ASK_AGAIN_DAYS,
    }
    return render(request, "models_catalog/access_request.html", context)


@login_required
@require_POST
def cancel(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    row = get_object_or_404(selectors.access_requests_shown(request.user), pk=pk)
    access.cancel_request(request=row, actor=request.user, now=timezone.now())
    messages.success(request, "The request is withdrawn.")
    return redirect("access_request", pk)


@login_required
@require_POST
def decide(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    row = get_object_or_404(selectors.access_requests_shown(request.user).put_to(request.user), pk=pk)
    days = request.POST.get("ask_again_days") or str(access.ASK_AGAIN_DAYS)
    if not days.isdecimal() or not days.isascii():
        raise Invalid("bad_days", f"Let them ask again after 0 to {access.MAX_ASK_AGAIN_DAYS} days.")
    access.decide_request(
        request_id=row.pk,
        actor=request.user,
        approve=request.POST.get("decision") == "approve",
        answer=request.POST.get("answer", ""),
        ask_again_days=int(days[:4]),
        now=timezone.now(),
    )
    messages.success(request, f"{row.requester} can read your answer.")
    return redirect_back(request, "vendor_desk")
