"""What the reader was told: the page, and the count in every page's header."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.functional import SimpleLazyObject
from django.views.decorators.http import require_POST

from marketplace.accounts.models import Notification
from marketplace.accounts.services import notifications
from marketplace.html import redirect_back

PAGE_SIZE = 25
MOST_COUNTED = 99


def unread(request: HttpRequest) -> dict[str, Any]:
    """Context of every page: how many notifications are unread, up to MOST_COUNTED and one; asked for once a
    request, and only where a page shows it."""
    return {"unread": SimpleLazyObject(lambda: _count(request))}


def _count(request: HttpRequest) -> int:
    rows = Notification.objects.visible_to(request.user).unread()
    return rows.order_by()[: MOST_COUNTED + 1].count() if request.user.is_authenticated else 0


@login_required
def inbox(request: HttpRequest) -> HttpResponse:
    rows = Notification.objects.visible_to(request.user)
    only_unread = "unread" in request.GET
    page = Paginator(rows.unread() if only_unread else rows, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "accounts/notifications.html", {"page": page, "only_unread": only_unread})


@login_required
def open_one(request: HttpRequest, pk: int) -> HttpResponse:
    """Leads to what the notification is about, and counts it as read."""
    row = get_object_or_404(Notification.objects.visible_to(request.user), pk=pk)
    notifications.mark_read(user=request.user, pk=row.pk, now=timezone.now())
    return redirect(row.url or "notifications")


@login_required
@require_POST
def mark(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    if pk is not None:
        get_object_or_404(Notification.objects.visible_to(request.user), pk=pk)
    notifications.mark_read(user=request.user, pk=pk, now=timezone.now())
    return redirect_back(request, "notifications")


@login_required
@require_POST
def email(request: HttpRequest) -> HttpResponse:
    wanted = request.POST.get("email") == "on"
    notifications.set_email(user=request.user, wanted=wanted)
    messages.success(request, "You get copies by email from now on." if wanted else "No more copies by email.")
    return redirect("account_settings")
