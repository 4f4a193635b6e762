"""Incidents: what happened upstream, whom it affects; quarantine, for the site's staff."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST

from models_catalog import selectors
from models_catalog.forms import ReasonForm
from models_catalog.services import quarantine
from models_catalog.web.catalog import find

PAGE_SIZE = 25


def incident(request: HttpRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(selectors.incident_of(request.user, pk))
    page = Paginator(selectors.affected_by(row, request.user), PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "models_catalog/incident.html", {"incident": row, "page": page})


@login_required
@require_POST
def begin(request: HttpRequest, namespace: str, name: str, version: str) -> HttpResponse:
    release = find(request, namespace, name, version)
    form = ReasonForm(request.POST)
    reason = form.cleaned_data["reason"] if form.is_valid() else ""
    quarantine.quarantine(user=request.user, release=release, reason=reason, now=timezone.now())
    messages.success(request, f"{release} is quarantined: it is served to nobody.")
    return redirect("release", namespace, name, version)


@login_required
@require_POST
def lift(request: HttpRequest, namespace: str, name: str, version: str) -> HttpResponse:
    release = find(request, namespace, name, version)
    quarantine.lift(user=request.user, release=release, now=timezone.now())
    messages.success(request, f"{release} is served again as before.")
    return redirect("release", namespace, name, version)
