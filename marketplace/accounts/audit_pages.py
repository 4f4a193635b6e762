"""The audit log of what one administers."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

from marketplace.accounts import audit_log
from marketplace.accounts.models import AuditEvent, Namespace
from marketplace.accounts.models.people import ADMINISTERS

PAGE_SIZE = 50


def _filtered(request: HttpRequest) -> audit_log.AuditFilter:
    return audit_log.AuditFilter(request.GET, queryset=AuditEvent.objects.visible_to(request.user).with_names())


@login_required
def log(request: HttpRequest) -> HttpResponse:
    found = _filtered(request)
    rows = found.qs if found.is_valid() else found.queryset.none()
    context = {
        "form": found.form,
        "page": Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page")),
        "namespaces": Namespace.objects.of(request.user, roles=ADMINISTERS).order_by("name"),
        "formats": list(audit_log.FORMATS),
    }
    return render(request, "accounts/audit.html", context)


@login_required
def export(request: HttpRequest, kind: str) -> HttpResponseBase:
    found = _filtered(request)
    if kind not in audit_log.FORMATS or not found.is_valid():
        raise Http404
    return audit_log.export(found.qs, kind=kind)
