"""The buyer's desk: what one's namespaces ordered. Licenses and access requests have pages of their own."""

from __future__ import annotations

from django.db.models import QuerySet

from marketplace.accounts.models import Namespace, User
from models_catalog.models import Order


def orders(user: User) -> QuerySet[Order]:
    """Orders for the user's namespaces, newest first, with the license that followed."""
    rows = Order.objects.filter(buyer__in=Namespace.objects.of(user))
    return rows.select_related("listing__namespace", "buyer", "terms", "grant").order_by("-placed_at", "-pk")
