"""Records what happened for the endpoints that are to be told; call it inside the transaction of the act.

The rows are what is owed; the queue only rings. What nobody has subscribed to leaves no row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse

from marketplace.accounts.models import Namespace
from marketplace.queue import Job, enqueue
from marketplace.webhooks.events import VERSION, EventType
from marketplace.webhooks.models import Endpoint, Message

BATCH = 500  # a database takes only so many parameters, and a popular model has thousands of licensees


def record(event: EventType, *, recipients: Iterable[Namespace], data: dict[str, Any], now: datetime) -> int:
    """Owes the event to every live endpoint of the namespaces that wants it; returns how many those are. `data` is
    JSON of ids and addresses: who is told reads the rest over the API, as what they may see then. Locks nothing; rings
    once the transaction has committed."""
    keys = sorted({namespace.pk for namespace in recipients})
    endpoints = [endpoint for batch in _batches(keys) for endpoint in _subscribed(batch, event)]
    body = document(event, data=data, now=now)
    rows = [Message(endpoint=endpoint, type=event, body=body, created_at=now, due_at=now) for endpoint in endpoints]
    made = Message.objects.bulk_create(rows, batch_size=BATCH)
    if made:
        ring(made[0])
    return len(made)


def _batches(keys: list[int]) -> Iterator[list[int]]:
    return (keys[start : start + BATCH] for start in range(0, len(keys), BATCH))


def _subscribed(namespaces: list[int], event: EventType) -> list[Endpoint]:
    """An account that was closed is told nothing, as it is shown nothing."""
    live = Endpoint.objects.live().filter(namespace__in=namespaces).exclude(namespace__user__is_active=False)
    return [endpoint for endpoint in live.order_by("pk") if endpoint.wants(event)]


def listening() -> QuerySet[Endpoint, int]:
    """Returns the ids of the namespaces that have a live endpoint, as a subquery."""
    return Endpoint.objects.live().order_by().values_list("namespace", flat=True)


def document(event: str, *, data: dict[str, Any], now: datetime) -> str:
    """Returns the body of a message (docs/api.md, "Webhooks")."""
    timestamp = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    whole = {"type": event, "version": VERSION, "timestamp": timestamp, "data": data}
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False)


def address(name: str, *args: object) -> str:
    """Returns the whole address of something in the API, by its URL's name."""
    return f"{settings.SITE_URL}{reverse(name, args=args)}"


def ring(message: Message) -> None:
    # robust: a broker that is down must not turn the committed act into an error; the reaper rings again.
    transaction.on_commit(partial(enqueue, Job.SEND_WEBHOOKS, message.pk), robust=True)
