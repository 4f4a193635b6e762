"""What pages and API show of webhooks."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AnonymousUser
from django.db.models import Min, Prefetch
from django.utils import timezone

from marketplace.accounts.models import User
from marketplace.webhooks.models import Endpoint, EndpointQuerySet, Message, MessageQuerySet, Secret


def endpoints(user: User | AnonymousUser) -> EndpointQuerySet:
    """Those that the user administers, each with the secrets that sign now as `live_secrets`."""
    live = Prefetch("secrets", Secret.objects.live(timezone.now()), to_attr="live_secrets")
    rows = Endpoint.objects.visible_to(user).select_related("namespace__organization")
    return rows.prefetch_related(live)


def messages(endpoint: Endpoint) -> MessageQuerySet:
    """The log of an endpoint, each message with its tries, the newest first."""
    return Message.objects.filter(endpoint=endpoint).select_related("endpoint__namespace").prefetch_related("attempts")


def oldest_due_seconds(*, now: datetime) -> float:
    """Returns how long the message that should have been sent first has been due; 0 where none is."""
    first = Message.objects.due(now).order_by().aggregate(first=Min("due_at"))["first"]
    return (now - first).total_seconds() if first else 0.0
