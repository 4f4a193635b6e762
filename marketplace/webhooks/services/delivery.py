"""Sends what the outbox owes: claimed, tried, written down; tried again with back-off; given up.

A message is sent at least once. A sender that dies is followed by another one, which sends the same id and bytes.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from django.core.cache import cache
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from finetuning.engine.crash_points import Point, reach
from marketplace.errors import Invalid
from marketplace.queue import Job, enqueue
from marketplace.supervision import drain
from marketplace.webhooks import addresses, signatures, transport
from marketplace.webhooks.events import TEST
from marketplace.webhooks.models import Attempt, Cause, Endpoint, Message, MessageStatus, Outcome
from marketplace.webhooks.services import endpoints
from marketplace.webhooks.transport import Answer

# After each failed try; nine tries in 36 hours.
BACKOFF = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 120, 300, 600, 1080))
LEASE = timedelta(minutes=2)  # well over transport.DEADLINE_SECONDS
REST = timedelta(minutes=1)  # of an endpoint that failed: a dead one costs the others one deadline a minute
SLOW_MILLISECONDS = 1000  # of an answer, after which the endpoint rests although it was told
SLOW_REST = 5  # times what the answer took: a receiver that is never quick has a sixth of the sender's time
DISABLE_AFTER = timedelta(days=5)
LATE = timedelta(seconds=10)
KEPT = timedelta(days=30)
TURN_SECONDS = 30.0
_TURN = "webhooks:turn"
_CANDIDATES = 10
_FORGET_BATCH = 1000


def work() -> None:
    """One slot's turn: sends what is due for half a minute. One slot at a time, so that slow receivers never keep
    all of them from other work; what is left then waits in the queue behind that."""
    if not cache.add(_TURN, "taken", timeout=TURN_SECONDS + transport.DEADLINE_SECONDS):
        return
    try:
        until = time.monotonic() + TURN_SECONDS
        while time.monotonic() < until and not drain.is_asked():
            if not send_one(now=timezone.now()):
                return
    finally:
        cache.delete(_TURN)
    if (late := Message.objects.due(timezone.now()).first()) is not None:
        enqueue(Job.SEND_WEBHOOKS, late.pk)


def send_one(*, now: datetime) -> bool:
    """Sends one message that is due; False where there is none."""
    message = claim(now=now)
    if message is None:
        return False
    reach(Point.WEBHOOK_CLAIMED)
    answer = attempt(message, now=now)
    reach(Point.WEBHOOK_ANSWERED)
    settle(message=message, answer=answer, now=now)
    return True


def claim(*, now: datetime) -> Message | None:
    """Takes the next message by compare-and-swap, so that two senders send it once; None where nothing is due."""
    for row in Message.objects.due(now).select_related("endpoint__namespace")[:_CANDIDATES]:
        mine = Message.objects.filter(pk=row.pk, due_at=row.due_at)
        if mine.update(due_at=now + LEASE, tries=F("tries") + 1):
            Endpoint.objects.filter(pk=row.endpoint_id).update(tried_at=now)
            row.due_at, row.tries = now + LEASE, row.tries + 1
            return row
    return None


def attempt(message: Message, *, now: datetime) -> Answer:
    """Sends a claimed message, outside of any transaction."""
    keys = endpoints.signing_keys(message.endpoint, now=now)
    if not keys:
        return Answer(Outcome.SECRET_LOST, 0)
    try:
        to = addresses.target(message.endpoint.url)  # WEBHOOK_ALLOW may say less than when it was made
    except Invalid:
        return Answer(Outcome.URL_REFUSED, 0)
    body = message.body.encode()
    headers = signatures.headers(webhook_id=message.webhook_id, body=body, keys=keys, at=now)
    return transport.post(to, body=body, headers=headers)


def settle(*, message: Message, answer: Answer, now: datetime) -> None:
    """Writes down how a try ended, and what follows. Locks the message; nothing where it was removed meanwhile."""
    with transaction.atomic():
        rows = Message.objects.filter(pk=message.pk)
        if rows.select_for_update().first() is None:
            return
        Attempt.objects.create(
            message=message,
            at=now,
            outcome=answer.outcome,
            http_status=answer.http_status,
            milliseconds=answer.milliseconds,
            answer=answer.text,
        )
        if answer.outcome == Outcome.DELIVERED:
            rows.update(status=MessageStatus.DELIVERED, due_at=None)
            rests_until = _rest_of(answer, now=now)
            Endpoint.objects.filter(pk=message.endpoint_id).update(failing_since=None, rests_until=rests_until)
        else:
            _put_off(message, now=now)
        if answer.outcome == Outcome.GONE:
            endpoints.switch_off(endpoint=message.endpoint, cause=Cause.GONE, actor=None, now=now)
        reach(Point.WEBHOOK_COMMITTING)


def _rest_of(answer: Answer, *, now: datetime) -> datetime | None:
    """Returns until when an endpoint rests that was told; `now` is when the try began."""
    if answer.milliseconds < SLOW_MILLISECONDS:
        return None
    return now + timedelta(milliseconds=answer.milliseconds) * (1 + SLOW_REST)


def _put_off(message: Message, *, now: datetime) -> None:
    """A failed try: another one later, or none, and an endpoint that rests, or is switched off."""
    mine = Message.objects.filter(pk=message.pk, due_at=message.due_at)  # else it was replayed, or given up, meanwhile
    is_test = message.type == TEST
    gives_up = is_test or message.tries > len(BACKOFF)
    if gives_up:
        mine.update(status=MessageStatus.FAILED, due_at=None)
    else:
        mine.update(due_at=now + BACKOFF[message.tries - 1])
    if is_test:
        return
    row = Endpoint.objects.filter(pk=message.endpoint_id)
    row.update(rests_until=now + REST)
    row.filter(failing_since__isnull=True).update(failing_since=now)
    if gives_up and row.filter(failing_since__lte=now - DISABLE_AFTER).exists():
        endpoints.switch_off(endpoint=message.endpoint, cause=Cause.FAILING, actor=None, now=now)


def late(*, now: datetime) -> int | None:
    """Returns a message that should have been sent: what rings for it may be lost, and nothing rings for a retry."""
    return Message.objects.due(now).filter(due_at__lte=now - LATE).values_list("pk", flat=True).first()


def forget(*, now: datetime) -> int:
    """Removes messages of the log that are over and older than KEPT; returns how many."""
    old = Message.objects.filter(created_at__lt=now - KEPT).exclude(status=MessageStatus.WAITING)
    keys = list(old.order_by("created_at").values_list("pk", flat=True)[:_FORGET_BATCH])
    Message.objects.filter(pk__in=keys).delete()
    return len(keys)
