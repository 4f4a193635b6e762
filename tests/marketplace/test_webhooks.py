"""What receivers get: signed, once more after failures and crashes under the same id, and no more after days of those."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import doorbell
import pytest
import scenarios
from django.core.cache import cache
from django.db import connections
from django.test import Client
from django.utils import timezone
from receivers import Receiver, receiver, verifies

from finetuning.services import reaping
from marketplace.accounts.models import AuditEvent, Namespace, Role, User
from marketplace.errors import Conflict, TooMany
from marketplace.queue import Job
from marketplace.supervision import drain
from marketplace.webhook_settings import allowed
from marketplace.webhooks import tasks
from marketplace.webhooks.events import EventType
from marketplace.webhooks.models import Attempt, Cause, Endpoint, Message, MessageStatus, Outcome
from marketplace.webhooks.services import delivery, endpoints, outbox
from marketplace.webhooks.transport import Answer

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def hooks(settings: Any) -> Iterator[Receiver]:
    settings.WEBHOOK_ALLOW = allowed(["127.0.0.0/8"])
    cache.clear()
    with receiver() as running:
        yield running


@pytest.fixture
def vera() -> User:
    return scenarios.person("vera")


@pytest.fixture
def now() -> datetime:
    return timezone.now()


def told_of(user: User, url: str, *events: str) -> tuple[Endpoint, str]:
    namespace = Namespace.objects.get(user=user)
    return endpoints.create(user=user, namespace=namespace, url=url, event_types=events, now=timezone.now())


def happens(user: User, *, now: datetime, event: EventType = EventType.RUN_SUCCEEDED, number: int = 1) -> int:
    namespace = Namespace.objects.get(user=user)
    return outbox.record(event, recipients=[namespace], data={"run": {"id": number}}, now=now)


def send_all(now: datetime) -> int:
    sent = 0
    while delivery.send_one(now=now):
        sent += 1
    return sent


def outcomes() -> list[str]:
    return list(Attempt.objects.order_by("pk").values_list("outcome", flat=True))


def test_a_receiver_gets_a_thin_event_that_any_verifier_of_the_standard_accepts(
    hooks: Receiver, vera: User, now: datetime
) -> None:
    _, secret = told_of(vera, hooks.url)
    hooks.answers(200, b"thank you")
    happens(vera, now=now)

    assert send_all(now) == 1

    [call] = hooks.calls
    assert verifies(call, secret)
    assert not verifies(call, "whsec_" + "A" * 43 + "=")
    assert call.path == "/hooks?of=models"
    assert call.headers["content-type"] == "application/json"
    assert int(call.headers["webhook-timestamp"]) == int(now.timestamp())
    assert set(call.document) == {"type", "version", "timestamp", "data"}
    assert (call.document["type"], call.document["version"]) == ("run.succeeded", 1)
    assert call.document["data"] == {"run": {"id": 1}}
    assert datetime.fromisoformat(call.document["timestamp"]).replace(microsecond=0) == now.replace(microsecond=0)
    message, tried = Message.objects.get(), Attempt.objects.get()
    assert (message.status, message.webhook_id) == (MessageStatus.DELIVERED, call.headers["webhook-id"])
    assert (tried.outcome, tried.http_status, tried.answer) == (Outcome.DELIVERED, 200, "thank you")
    assert send_all(now + DAY) == 0


def test_only_those_are_told_who_want_the_event_and_are_switched_on(hooks: Receiver, vera: User, now: datetime) -> None:
    told_of(vera, hooks.url + "&all")
    told_of(vera, hooks.url + "&orders", "order.paid", "order.refunded")
    off, _ = told_of(vera, hooks.url + "&off")
    endpoints.disable(endpoint=off, user=vera, now=now)
    told_of(scenarios.person("bo"), hooks.url + "&bo")
    closed = scenarios.person("closed")
    told_of(closed, hooks.url + "&closed")
    User.objects.filter(pk=closed.pk).update(is_active=False)
    assert happens(closed, now=now) == 0

    assert happens(vera, now=now) == 1
    assert happens(vera, now=now, event=EventType.ORDER_PAID) == 2
    send_all(now)

    told = sorted((call.document["type"], call.path.rpartition("&")[2]) for call in hooks.calls)
    assert told == [("order.paid", "all"), ("order.paid", "orders"), ("run.succeeded", "all")]


def test_what_did_not_happen_is_told_to_nobody_and_what_happened_rings(
    hooks: Receiver, vera: User, now: datetime, django_capture_on_commit_callbacks: Any
) -> None:
    told_of(vera, hooks.url)
    doorbell.silence()

    with django_capture_on_commit_callbacks(execute=True):
        happens(vera, now=now)

    [message] = doorbell.all_taken()
    assert message["func"] == Job.SEND_WEBHOOKS.path
    tasks.send_webhooks(*message["args"])
    assert [call.document["type"] for call in hooks.calls] == ["run.succeeded"]


def test_a_failed_message_is_tried_nine_times_in_a_day_and_a_half_under_one_id(
    hooks: Receiver, vera: User, now: datetime
) -> None:
    _, secret = told_of(vera, hooks.url)
    hooks.answers(503, b"busy")
    happens(vera, now=now)

    tried_at, at = [], now
    for _ in range(2200):  # minutes: more than 36 hours
        if send_all(at):
            tried_at.append(round((at - now) / timedelta(minutes=1)))
        at += timedelta(minutes=1)

    assert tried_at == [0, 1, 6, 21, 81, 201, 501, 1101, 2181]
    assert len({call.headers["webhook-id"] for call in hooks.calls}) == 1
    assert len({call.body for call in hooks.calls}) == 1
    assert len({call.headers["webhook-timestamp"] for call in hooks.calls}) == 9
    assert all(verifies(call, secret) for call in hooks.calls)
    message = Message.objects.get()
    assert (message.status, message.due_at) == (MessageStatus.FAILED, None)
    assert Endpoint.objects.get().disabled_at is None  # a day and a half are not days


def test_a_success_ends_the_back_off(hooks: Receiver, vera: User, now: datetime) -> None:
    endpoint, _ = told_of(vera, hooks.url)
    hooks.answers(500)
    happens(vera, now=now)
    send_all(now)
    endpoint.refresh_from_db()
    assert endpoint.state == "failing"

    hooks.answers(200)
    assert send_all(now + timedelta(seconds=59)) == 0
    assert send_all(now + timedelta(seconds=61)) == 1

    endpoint.refresh_from_db()
    assert (endpoint.state, outcomes()) == ("active", ["refused", "delivered"])


def test_a_sender_that_dies_is_followed_by_another_with_the_same_id_and_bytes(
    hooks: Receiver, vera: User, now: datetime
) -> None:
    told_of(vera, hooks.url)
    happens(vera, now=now)

    claimed = delivery.claim(now=now)
    assert claimed is not None
    delivery.attempt(claimed, now=now)  # the receiver has it; here the process is killed
    assert send_all(now + delivery.LEASE - timedelta(seconds=1)) == 0
    assert send_all(now + delivery.LEASE) == 1

    first, second = hooks.calls
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert Message.objects.get().status == MessageStatus.DELIVERED


def test_operators_see_how_long_a_message_has_been_due(
    hooks: Receiver, vera: User, now: datetime, client: Client
) -> None:
    def late() -> float:
        [line] = re.findall(r"^marketplace_oldest_due_webhook_seconds (.+)$", client.get("/metrics").text, re.MULTILINE)
        return float(line)

    told_of(vera, hooks.url)
    assert late() == 0
    happens(vera, now=now - HOUR)
    assert late() >= HOUR.total_seconds()
    send_all(now)
    assert late() == 0


def test_two_senders_send_a_message_once(hooks: Receiver, vera: User, now: datetime) -> None:
    told_of(vera, hooks.url)
    happens(vera, now=now)

    first, second = delivery.claim(now=now), delivery.claim(now=now)

    assert first is not None
    assert second is None


def test_an_endpoint_that_fails_rests_and_the_others_take_turns(hooks: Receiver, vera: User, now: datetime) -> None:
    told_of(vera, hooks.url + "&vera")
    bo = scenarios.person("bo")
    told_of(bo, hooks.url + "&bo")
    for number in range(3):
        happens(vera, now=now, number=number)
    happens(bo, now=now)

    send_all(now)
    assert [call.path[-2:] for call in hooks.calls][:2] in (["ra", "bo"], ["bo", "ra"])  # not three of vera's first

    hooks.calls.clear()
    hooks.answers(500)
    for number in range(3):
        happens(vera, now=now, number=number)
    assert send_all(now) == 1  # one deadline a minute is what a dead receiver costs
    assert send_all(now + delivery.REST) == 1


def test_who_has_many_endpoints_has_no_more_turns(hooks: Receiver, vera: User, now: datetime) -> None:
    for number in range(3):
        told_of(vera, f"{hooks.url}&{number}vera")
    bo = scenarios.person("bo")
    told_of(bo, hooks.url + "&bo")
    for number in range(2):
        happens(vera, now=now, number=number)
        happens(bo, now=now, number=number)

    for second in range(8):
        assert delivery.send_one(now=now + timedelta(seconds=second))

    assert [call.path[-2:] for call in hooks.calls] == ["ra", "bo", "ra", "bo", "ra", "ra", "ra", "ra"]
    assert len({call.path for call in hooks.calls[0:6:2] + hooks.calls[5:6]}) == 3


@pytest.mark.parametrize(("milliseconds", "rests"), [(delivery.SLOW_MILLISECONDS - 1, False), (9000, True)])
def test_an_endpoint_that_answers_slowly_rests_too(vera: User, now: datetime, milliseconds: int, rests: bool) -> None:
    told_of(vera, "http://127.0.0.1:9/slow")
    for number in range(2):
        happens(vera, now=now, number=number)
    first = delivery.claim(now=now)
    assert first is not None

    delivery.settle(message=first, answer=Answer(Outcome.DELIVERED, milliseconds, http_status=200), now=now)

    rested = now + timedelta(seconds=9 + 5 * 9)
    assert Message.objects.due(rested - timedelta(seconds=1)).exists() != rests
    assert Message.objects.due(rested).exists()


def test_so_many_tests_an_hour_and_no_more(hooks: Receiver, vera: User, now: datetime) -> None:
    endpoint, _ = told_of(vera, hooks.url)
    for _ in range(endpoints.MAX_TESTS_PER_HOUR):
        endpoints.send_test(endpoint=endpoint, user=vera, now=now)
        send_all(now)

    with pytest.raises(TooMany) as caught:
        endpoints.send_test(endpoint=endpoint, user=vera, now=now)

    assert (caught.value.code, caught.value.status) == ("too_many_tests", 429)
    assert len(hooks.calls) == endpoints.MAX_TESTS_PER_HOUR
    assert endpoints.send_test(endpoint=endpoint, user=vera, now=now + HOUR)


def test_during_a_rotation_both_secrets_sign_and_afterwards_the_new_one_alone(
    hooks: Receiver, vera: User, now: datetime
) -> None:
    endpoint, old = told_of(vera, hooks.url)

    new = endpoints.rotate(endpoint=endpoint, user=vera, now=now, overlap_hours=24)
    for at in (now, now + 25 * HOUR):
        happens(vera, now=at)
        send_all(at)

    during, after = hooks.calls
    assert old != new
    assert [verifies(during, old), verifies(during, new)] == [True, True]
    assert [verifies(after, old), verifies(after, new)] == [False, True]
    assert "rotate" in AuditEvent.objects.filter(action__startswith="webhook.").values_list("action", flat=True)[0]


def test_a_secret_that_others_have_seen_ends_at_once(hooks: Receiver, vera: User, now: datetime) -> None:
    endpoint, old = told_of(vera, hooks.url)

    new = endpoints.rotate(endpoint=endpoint, user=vera, now=now, overlap_hours=0)
    happens(vera, now=now)
    send_all(now)

    assert [verifies(hooks.calls[0], old), verifies(hooks.calls[0], new)] == [False, True]


def test_so_many_rotations_at_once_are_refused_but_not_the_one_that_ends_the_rest(vera: User, now: datetime) -> None:
    endpoint, _ = told_of(vera, "https://example.com/hooks")
    for _ in range(endpoints.MAX_SECRETS - 1):
        endpoints.rotate(endpoint=endpoint, user=vera, now=now)

    with pytest.raises(Conflict) as refused:
        endpoints.rotate(endpoint=endpoint, user=vera, now=now)
    endpoints.rotate(endpoint=endpoint, user=vera, now=now, overlap_hours=0)

    assert refused.value.code == "too_many_secrets"
    assert len(endpoints.signing_keys(endpoint, now=now)) == 1


def test_no_table_holds_a_secret(hooks: Receiver, vera: User, now: datetime, settings: Any) -> None:
    endpoint, secret = told_of(vera, hooks.url)

    assert secret.removeprefix("whsec_") not in endpoint.secrets.get().sealed
    settings.SECRET_KEY = "another key, as after a restore without it" * 2
    happens(vera, now=now)
    send_all(now)

    assert not hooks.calls  # unsigned it goes nowhere
    assert outcomes() == ["secret_lost"]


def test_what_was_given_up_is_replayed_under_its_id(hooks: Receiver, vera: User, now: datetime) -> None:
    told_of(vera, hooks.url)
    hooks.answers(400)
    happens(vera, now=now)
    send_all(now)
    hooks.answers(200)
    message = Message.objects.get()

    endpoints.replay(message=message, user=vera, now=now)
    send_all(now)
    endpoints.replay(message=message, user=vera, now=now + DAY)
    send_all(now + DAY)

    assert len({call.headers["webhook-id"] for call in hooks.calls}) == 1
    assert outcomes() == ["refused", "delivered", "delivered"]


def test_a_test_is_sent_once_and_does_not_count_as_a_failure(hooks: Receiver, vera: User, now: datetime) -> None:
    endpoint, secret = told_of(vera, hooks.url, "run.failed")
    hooks.answers(404)

    first = endpoints.send_test(endpoint=endpoint, user=vera, now=now)
    second = endpoints.send_test(endpoint=endpoint, user=vera, now=now)
    send_all(now)
    send_all(now + DAY)

    [call] = hooks.calls
    assert first == second
    assert call.document["type"] == "webhook.test"
    assert call.document["data"]["webhook"]["id"] == str(endpoint.uid)
    assert verifies(call, secret)
    endpoint.refresh_from_db()
    assert (endpoint.state, Message.objects.get().status) == ("active", MessageStatus.FAILED)


def test_days_of_failures_switch_it_off_and_its_administrators_are_told(
    hooks: Receiver, vera: User, now: datetime
) -> None:
    acme = scenarios.organization(vera, "acme")
    admin, writer = (scenarios.member(acme, role.value, role) for role in (Role.ADMIN, Role.WRITER))
    endpoint, _ = endpoints.create(user=admin, namespace=acme, url=hooks.url, now=now)
    hooks.answers(500)

    at = now
    while at < now + 7 * DAY:
        if (at - now) % DAY < timedelta(minutes=15):
            outbox.record(EventType.RUN_FAILED, recipients=[acme], data={}, now=at)
        send_all(at)
        at += timedelta(minutes=15)
        endpoint.refresh_from_db()
        if endpoint.disabled_at:
            break

    assert endpoint.disabled_cause == Cause.FAILING
    assert 5 * DAY <= at - now < 7 * DAY
    assert not Message.objects.filter(status=MessageStatus.WAITING).exists()
    for administrator in (vera, admin):
        assert administrator.notifications.get().url == f"/account/webhooks/{endpoint.uid}/"
    assert not writer.notifications.exists()
    assert outbox.record(EventType.RUN_FAILED, recipients=[acme], data={}, now=at) == 0
    endpoints.enable(endpoint=endpoint, user=vera)
    assert outbox.record(EventType.RUN_FAILED, recipients=[acme], data={}, now=at) == 1


def test_410_switches_it_off_at_once(hooks: Receiver, vera: User, now: datetime) -> None:
    endpoint, _ = told_of(vera, hooks.url)
    hooks.answers(410)
    happens(vera, now=now)
    happens(vera, now=now)

    send_all(now)
    send_all(now + DAY)

    endpoint.refresh_from_db()
    assert (endpoint.disabled_cause, len(hooks.calls)) == (Cause.GONE, 1)
    assert vera.notifications.get().kind == "webhook.disable"
    with pytest.raises(Conflict) as refused:
        endpoints.send_test(endpoint=endpoint, user=vera, now=now)
    assert refused.value.code == "webhook_disabled"


def test_the_reaper_rings_for_retries_and_lost_messages(hooks: Receiver, vera: User, now: datetime) -> None:
    told_of(vera, hooks.url)
    happens(vera, now=now)
    doorbell.silence()

    rung = [reaping.reap(now=now + timedelta(seconds=late)) for late in (1, 11, 12)]

    assert rung == [0, 1, 0]  # once, however long the slot is busy


def test_the_log_is_kept_for_a_month_and_what_waits_for_longer(hooks: Receiver, vera: User, now: datetime) -> None:
    told_of(vera, hooks.url)
    happens(vera, now=now)
    send_all(now)
    happens(vera, now=now)

    assert delivery.forget(now=now + 29 * DAY) == 0
    assert delivery.forget(now=now + 31 * DAY) == 1

    assert Message.objects.get().status == MessageStatus.WAITING


def test_an_endpoint_that_was_deleted_while_its_message_was_sent_leaves_nothing(
    hooks: Receiver, vera: User, now: datetime
) -> None:
    endpoint, _ = told_of(vera, hooks.url)
    happens(vera, now=now)
    claimed = delivery.claim(now=now)
    assert claimed is not None
    answer = delivery.attempt(claimed, now=now)

    endpoints.remove(endpoint=endpoint, user=vera)
    delivery.settle(message=claimed, answer=answer, now=now)

    assert not Attempt.objects.exists()


def test_the_documentation_s_own_lines_verify_a_call(hooks: Receiver, vera: User, now: datetime) -> None:
    section = (ROOT / "docs/api.md").read_text(encoding="utf-8").partition("\n## Webhooks\n")[2]
    names: dict[str, Any] = {}
    exec(section.partition("```python\n")[2].partition("```")[0], names)  # noqa: S102 - what a reader would run
    _, secret = told_of(vera, hooks.url)
    happens(vera, now=now)
    send_all(now)
    [call] = hooks.calls

    def verify(headers: dict[str, str], body: bytes, at: datetime) -> bool:
        return bool(names["verify"](headers, body, secret, now=at.timestamp()))

    assert verify(call.headers, call.body, now)
    assert not verify(call.headers, call.body + b" ", now)
    assert not verify(call.headers, call.body, now + timedelta(minutes=6))
    assert not verify({**call.headers, "webhook-id": "msg_other"}, call.body, now)


def test_every_event_is_documented() -> None:
    section = (ROOT / "docs/api.md").read_text(encoding="utf-8").partition("\n## Webhooks\n")[2].partition("\n## ")[0]

    assert set(re.findall(r"`([a-z]+\.[a-z_]+)`", section)) == set(EventType.values)


def test_one_slot_sends_at_a_time(hooks: Receiver, vera: User, now: datetime) -> None:
    """Slow receivers then keep one worker of the slot from other work, never all of them."""
    told_of(vera, hooks.url)
    happens(vera, now=now, number=1)
    happens(vera, now=now, number=2)
    sent_meanwhile: list[int] = []

    def reply(handler: BaseHTTPRequestHandler) -> None:
        before = len(hooks.calls)
        delivery.work()  # another worker, while this one waits for its answer
        sent_meanwhile.append(len(hooks.calls) - before)
        handler.send_response(204)
        handler.end_headers()

    hooks.reply = reply
    delivery.work()

    assert sent_meanwhile == [0, 0]
    assert outcomes() == ["delivered", "delivered"]


def test_a_slot_that_is_told_to_stop_leaves_the_rest_to_the_next(
    hooks: Receiver, vera: User, now: datetime, django_capture_on_commit_callbacks: Any
) -> None:
    told_of(vera, hooks.url)
    happens(vera, now=now, number=1)
    happens(vera, now=now, number=2)
    doorbell.silence()

    first = iter([True])

    def reply(handler: BaseHTTPRequestHandler) -> None:
        if next(first, False):
            drain.ask()
        handler.send_response(204)
        handler.end_headers()

    hooks.reply = reply
    try:
        with django_capture_on_commit_callbacks(execute=True):
            delivery.work()
    finally:
        drain._is_asked[0] = 0  # nothing but the end of the process takes it back

    assert len(hooks.calls) == 1
    assert [message["func"] for message in doorbell.all_taken()] == [Job.SEND_WEBHOOKS.path]
    delivery.work()
    assert len(hooks.calls) == 2


@pytest.mark.django_db(transaction=True)
def test_senders_at_once_send_each_message_once(hooks: Receiver, vera: User, now: datetime) -> None:
    told_of(vera, hooks.url)
    for number in range(12):
        happens(vera, now=now, number=number)

    def send(_worker: int) -> None:
        try:
            send_all(now)
        finally:
            connections.close_all()  # this thread's own

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(send, range(4)))

    assert sorted(call.document["data"]["run"]["id"] for call in hooks.calls) == list(range(12))
    assert outcomes() == ["delivered"] * 12
