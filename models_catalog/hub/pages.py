"""The addresses that clients print after a push, opened in a browser."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_safe

from models_catalog import policies, selectors


@require_safe
def landing(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Leads to the model's page, or for who writes for it to where it is worked on."""
    listing = get_object_or_404(selectors.listing_of(request.user, namespace, name))
    page = "vendor_listing" if policies.may_manage(request.user, listing) else "listing"
    return redirect(page, listing.namespace.name, listing.name)
