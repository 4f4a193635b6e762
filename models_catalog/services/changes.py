"""Forgetting old changes of the catalog."""

from __future__ import annotations

from django.db.models import Max

from models_catalog.models import CatalogChange

KEPT = 100


def forget() -> int:
    """Removes all but the newest changes, so that they are counted quickly."""
    newest = CatalogChange.objects.aggregate(newest=Max("pk"))["newest"] or 0
    return CatalogChange.objects.filter(pk__lte=newest - KEPT).delete()[0]
