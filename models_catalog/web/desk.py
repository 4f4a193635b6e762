"""The sections of the vendor's desk that show what others do with their models, and the buyer's orders."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from models_catalog.desks import buyer, statistics, vendor
from models_catalog.models import Listing
from models_catalog.models.listings import ListingQuerySet
from models_catalog.selectors import MAX_NAME

PAGE_SIZE = 25


@login_required
def section(request: HttpRequest, name: str) -> HttpResponse:
    """One list of the desk, narrowed by `?q=`, `?status=` and `?listing=`."""
    shown = vendor.SECTIONS[name]
    rows = vendor.narrowed(shown, shown.rows(request.user), request.GET)
    context = {
        "section": shown,
        "rows_template": f"models_catalog/_desk_{name}.html",
        "page": Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page")),
        "q": request.GET.get("q", ""),
        "status": request.GET.get("status", ""),
        "listing": request.GET.get("listing", ""),
    }
    return render(request, "models_catalog/vendor_section.html", context)


@login_required
def orders(request: HttpRequest) -> HttpResponse:
    """What the user's namespaces ordered, narrowed by `?status=`."""
    statuses = vendor.SECTIONS["sales"].statuses
    status = request.GET.get("status", "")
    rows = buyer.orders(request.user)
    rows = rows.filter(status=status) if status in dict(statuses) else rows
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"page": page, "status": status, "statuses": statuses}
    return render(request, "models_catalog/orders.html", context)


@login_required
def downloads(request: HttpRequest) -> HttpResponse:
    """Downloads of one listing (`?listing=namespace/name`) or of all, in a window of days (`?days=`)."""
    managed = Listing.objects.managed_by(request.user).select_related("namespace").order_by("namespace__name", "name")
    chosen = request.GET.get("listing", "")
    window = statistics.window(request.GET.get("days", "")) or statistics.DEFAULT_WINDOW
    found = statistics.statistics(_chosen(managed, chosen), until=timezone.localdate(), days=window)
    context = {
        "statistics": found,
        "page": Paginator(found.releases, PAGE_SIZE).get_page(request.GET.get("page")),
        "listings": [str(listing) for listing in managed],
        "chosen": chosen,
        "window": window,
        "windows": statistics.WINDOWS,
    }
    return render(request, "models_catalog/vendor_downloads.html", context)


def _chosen(managed: ListingQuerySet, identifier: str) -> ListingQuerySet:
    """Returns the listing that a filter names, all of them without one, or raises Http404."""
    if not identifier:
        return managed
    namespace, _, name = identifier.partition("/")
    found = managed.filter(namespace__name__iexact=namespace[:MAX_NAME], name__iexact=name[:MAX_NAME])
    if not found.exists():
        raise Http404
    return found
