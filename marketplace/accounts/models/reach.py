"""What an API token is limited to, beside its scopes."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from marketplace.accounts.models.people import validate_name

DATASETS = "datasets/"  # before the id of a dataset; no namespace has this name


@dataclass(frozen=True, slots=True)
class Reach:
    """Names are in small letters: no two namespaces or listings differ in case only."""

    namespaces: frozenset[str] = frozenset()
    listings: frozenset[str] = frozenset()
    datasets: frozenset[uuid.UUID] = frozenset()

    def has_namespace(self, name: str) -> bool:
        return name.lower() in self.namespaces

    def has_listing(self, namespace: str, name: str) -> bool:
        return self.has_namespace(namespace) or f"{namespace}/{name}".lower() in self.listings

    def datasets_within(self, *, uid: str, owner: str) -> Q:
        """Returns the condition on a query whose fields have these names, as `owner` leads to the name of a namespace."""
        named = Q(**{f"{uid}__in": self.datasets})
        # One lookup for each name: there are few, and their case is not the owner's concern.
        for name in self.namespaces:
            named |= Q(**{f"{owner}__iexact": name})
        return named


def read(entries: Iterable[str]) -> Reach:
    """Reads `acme` (all that is a namespace's), `acme/net` (a model) and `datasets/ID`. Raises ValueError, and
    ValidationError for a name that nothing can have."""
    namespaces, listings, datasets = set(), set(), set()
    for entry in entries:
        if entry.lower().startswith(DATASETS):
            datasets.add(uuid.UUID(entry[len(DATASETS) :]))
            continue
        namespace, slash, name = entry.partition("/")
        validate_name(namespace)
        if not slash:
            namespaces.add(namespace.lower())
            continue
        validate_name(name)
        listings.add(entry.lower())
    return Reach(frozenset(namespaces), frozenset(listings), frozenset(datasets))


def reach_of(user: Any) -> Reach | None:
    """Returns what the token that the request came with is limited to; None where that is everything of its owner's."""
    token = getattr(user, "api_token", None)
    return token.reach if token is not None else None
