"""Endpoints: made, changed, switched on and off, removed; their secrets; the test message and the replay."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.urls import reverse

from marketplace import credentials
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.accounts.services.notifications import notify
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid, TooMany
from marketplace.webhooks import addresses, policies, signatures
from marketplace.webhooks.events import TEST, EventType
from marketplace.webhooks.models import Cause, Endpoint, Message, MessageStatus, Secret
from marketplace.webhooks.services import outbox

MAX_ENDPOINTS = 20  # of one namespace
MAX_SECRETS = 5  # that sign at a time
MAX_TESTS_PER_HOUR = 20  # of one endpoint; a test ends its rest
OVERLAP_HOURS = 24
MAX_OVERLAP_HOURS = 168
_PURPOSE = "webhook"
_WHY = {
    Cause.FAILING: "Nothing could be delivered for days, so nothing more is sent. Mend the receiver, then switch it on.",
    Cause.GONE: "The receiver answered 410 Gone, which asks for nothing more to be sent.",
}


def create(
    *, user: User, namespace: Namespace, url: str, now: datetime, event_types: Sequence[str] = (), description: str = ""
) -> tuple[Endpoint, str]:
    """Returns the endpoint and its secret, which is shown this once. No types are all types. Locks the namespace.

    Raises Denied (`not_an_admin`), Invalid (`webhook_url`, `unknown_event`), Conflict (`webhook_exists`,
    `too_many_webhooks`)."""
    require(policies.may_administer(user, namespace))
    addresses.target(url)
    wanted = _known(event_types)
    with transaction.atomic():
        Namespace.objects.select_for_update(no_key=True).get(pk=namespace.pk)
        if Endpoint.objects.filter(namespace=namespace).count() >= MAX_ENDPOINTS:
            text = f"{namespace} has {MAX_ENDPOINTS} webhooks, which is the limit. Delete one."
            raise Conflict("too_many_webhooks", text)
        if Endpoint.objects.filter(namespace=namespace, url=url).exists():
            raise _exists()
        endpoint = Endpoint.objects.create(
            namespace=namespace,
            url=url,
            description=description,
            event_types=wanted,
            created_by=user,
            created_at=now,
        )
        text = _add_secret(endpoint, now)
        _record("webhook.create", endpoint, actor=user, events=wanted)
    return endpoint, text


def _exists() -> Conflict:
    return Conflict("webhook_exists", "There is a webhook of this address already. Change that one.", field="url")


def _known(event_types: Sequence[str]) -> list[str]:
    if unknown := sorted(set(event_types) - set(EventType.values)):
        text = f"There is no such event: {', '.join(unknown)[:200]}."
        raise Invalid("unknown_event", text, field="events", items=EventType.values)
    return [value for value in EventType.values if value in event_types]


def change(
    *,
    endpoint: Endpoint,
    user: User,
    url: str | None = None,
    event_types: Sequence[str] | None = None,
    description: str | None = None,
) -> None:
    """Changes what is given; what waits goes to the new address. Raises as `create`."""
    require(policies.may_administer(user, endpoint.namespace))
    fields: dict[str, object] = {}
    if url is not None:
        addresses.target(url)
        fields["url"] = url
    if event_types is not None:
        fields["event_types"] = _known(event_types)
    if description is not None:
        fields["description"] = description
    try:
        with transaction.atomic():
            Endpoint.objects.filter(pk=endpoint.pk).update(**fields)
            endpoint.refresh_from_db()
            _record("webhook.change", endpoint, actor=user, events=endpoint.event_types)
    except IntegrityError as error:
        raise _exists() from error


def rotate(*, endpoint: Endpoint, user: User, now: datetime, overlap_hours: int = OVERLAP_HOURS) -> str:
    """Returns a new secret. For so many hours the earlier ones sign beside it; with 0 they end at once. Locks the
    endpoint. Raises Denied (`not_an_admin`), Invalid (`bad_overlap`), Conflict (`too_many_secrets`)."""
    require(policies.may_administer(user, endpoint.namespace))
    if not 0 <= overlap_hours <= MAX_OVERLAP_HOURS:
        text = f"The earlier secret goes on for 0 to {MAX_OVERLAP_HOURS} hours."
        raise Invalid("bad_overlap", text, field="overlap_hours")
    end = now + timedelta(hours=overlap_hours)
    with transaction.atomic():
        Endpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
        Secret.objects.filter(endpoint=endpoint, expires_at__lte=now).delete()
        earlier = Secret.objects.filter(endpoint=endpoint)
        if overlap_hours and earlier.count() >= MAX_SECRETS:
            text = f"{MAX_SECRETS} secrets sign already. Wait for one to end, or replace them all at once."
            raise Conflict("too_many_secrets", text)
        earlier.filter(expires_at__isnull=True).update(expires_at=end)
        earlier.filter(expires_at__gt=end).update(expires_at=end)
        text = _add_secret(endpoint, now)
        _record("webhook.rotate", endpoint, actor=user, overlap_hours=overlap_hours)
    return text


def _add_secret(endpoint: Endpoint, now: datetime) -> str:
    text = signatures.new_secret()
    sealed = credentials.sealed(text, purpose=_PURPOSE)
    Secret.objects.create(endpoint=endpoint, sealed=sealed, hint=credentials.hint(text.rstrip("=")), created_at=now)
    return text


def signing_keys(endpoint: Endpoint, *, now: datetime) -> list[str]:
    """Returns the secrets that sign, the newest first; those that SECRET_KEY does not open any more are left out."""
    sealed = Secret.objects.live(now).filter(endpoint=endpoint).values_list("sealed", flat=True)
    found = (credentials.unsealed(token, purpose=_PURPOSE) for token in sealed)
    return [text for text in found if text is not None]


def enable(*, endpoint: Endpoint, user: User) -> None:
    """Tells it again of what happens from now on; what was given up can be replayed. Raises Denied
    (`not_an_admin`)."""
    require(policies.may_administer(user, endpoint.namespace))
    with transaction.atomic():
        fields = {"disabled_at": None, "disabled_cause": "", "failing_since": None, "rests_until": None}
        if Endpoint.objects.filter(pk=endpoint.pk, disabled_at__isnull=False).update(**fields):
            _record("webhook.enable", endpoint, actor=user)
    endpoint.refresh_from_db()


def disable(*, endpoint: Endpoint, user: User, now: datetime) -> None:
    """Raises Denied (`not_an_admin`)."""
    require(policies.may_administer(user, endpoint.namespace))
    with transaction.atomic():
        switch_off(endpoint=endpoint, cause=Cause.OWNER, actor=user, now=now)
    endpoint.refresh_from_db()


def switch_off(*, endpoint: Endpoint, cause: Cause, actor: User | None, now: datetime) -> None:
    """Ends what is sent, inside the caller's transaction, and tells those who administer it where nobody asked for
    that. What waits is given up."""
    if not Endpoint.objects.live().filter(pk=endpoint.pk).update(disabled_at=now, disabled_cause=cause):
        return
    waiting = Message.objects.filter(endpoint=endpoint, status=MessageStatus.WAITING)
    waiting.update(status=MessageStatus.FAILED, due_at=None)
    _record("webhook.disable", endpoint, actor=actor, cause=cause.value)
    if actor is None:
        notify(
            kind="webhook.disable",
            recipients=[endpoint.namespace],
            title=f"A webhook of {endpoint.namespace} was switched off",
            body=f"{endpoint.url}\n{_WHY[cause]}",
            url=reverse("webhook", args=[endpoint.uid]),
        )


def remove(*, endpoint: Endpoint, user: User) -> None:
    """Removes the endpoint with its log. Raises Denied (`not_an_admin`)."""
    require(policies.may_administer(user, endpoint.namespace))
    with transaction.atomic():
        _record("webhook.delete", endpoint, actor=user)
        Endpoint.objects.filter(pk=endpoint.pk).delete()


def send_test(*, endpoint: Endpoint, user: User, now: datetime) -> Message:
    """Owes the endpoint a test, or returns the one that waits. It is tried once. Locks the endpoint. Raises Denied
    (`not_an_admin`), Conflict (`webhook_disabled`), TooMany (`too_many_tests`)."""
    require(policies.may_administer(user, endpoint.namespace))
    with transaction.atomic():
        row = Endpoint.objects.select_for_update(no_key=True).get(pk=endpoint.pk)
        require(policies.may_send(row))
        waiting = Message.objects.filter(endpoint=row, type=TEST, status=MessageStatus.WAITING).first()
        if waiting is not None:
            return waiting
        hour = Message.objects.filter(endpoint=row, type=TEST, created_at__gt=now - timedelta(hours=1))
        if hour.count() >= MAX_TESTS_PER_HOUR:
            text = f"This webhook was sent {MAX_TESTS_PER_HOUR} tests in the last hour. Go on in an hour."
            raise TooMany("too_many_tests", text)
        data = {"webhook": {"id": str(row.uid), "url": outbox.address("api_webhook", row.uid)}}
        body = outbox.document(TEST, data=data, now=now)
        message = Message.objects.create(endpoint=row, type=TEST, body=body, created_at=now, due_at=now)
        Endpoint.objects.filter(pk=row.pk).update(rests_until=None)
        outbox.ring(message)
    return message


def replay(*, message: Message, user: User, now: datetime) -> None:
    """Sends a message again, at once and as often as at first; its id and its body stay. Raises Denied
    (`not_an_admin`), Conflict (`webhook_disabled`)."""
    require(policies.may_administer(user, message.endpoint.namespace))
    with transaction.atomic():
        row = Endpoint.objects.select_for_update(no_key=True).get(pk=message.endpoint_id)
        require(policies.may_send(row))
        Message.objects.filter(pk=message.pk).update(status=MessageStatus.WAITING, due_at=now, tries=0)
        Endpoint.objects.filter(pk=row.pk).update(rests_until=None)
        outbox.ring(message)
    message.refresh_from_db()


def _record(action: str, endpoint: Endpoint, *, actor: User | None, **details: object) -> None:
    audit.record(action, actor=actor, namespace=endpoint.namespace, subject=endpoint, details=details)
