"""Endpoints that are told, what they are told (the outbox), and how each try went (the log)."""

from __future__ import annotations

import uuid
from datetime import datetime

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import F, Max, OuterRef, Q, Subquery

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import ADMINISTERS
from marketplace.webhooks.events import TEST, EventType

MAX_URL = 500
EXCERPT_CHARACTERS = 1024
_TYPES = [*EventType.choices, (TEST, "A test")]


class Cause(models.TextChoices):
    """Why an endpoint is told nothing."""

    OWNER = "owner", "Switched off"
    FAILING = "failing", "Switched off: it failed for days"
    GONE = "gone", "Switched off: it answered 410 Gone"


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    def visible_to(self, user: User | AnonymousUser) -> EndpointQuerySet:
        """Of the user's own namespace and of the organisations that they administer: what it is told concerns money
        and licenses."""
        return self.filter(namespace__in=Namespace.objects.of(user, roles=ADMINISTERS))

    def live(self) -> EndpointQuerySet:
        return self.filter(disabled_at__isnull=True)


class Endpoint(models.Model):
    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    namespace = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="webhooks")
    url = models.CharField(max_length=MAX_URL)
    description = models.CharField(max_length=120, blank=True)
    event_types = models.JSONField(default=list)  # [] is all of them
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    # Since when every try has failed; None once one has succeeded.
    failing_since = models.DateTimeField(null=True, blank=True)
    tried_at = models.DateTimeField(null=True, blank=True)  # who waited longest is next
    rests_until = models.DateTimeField(null=True, blank=True)  # after a failure, or a slow answer
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_cause = models.CharField(max_length=10, choices=Cause.choices, blank=True)

    objects = EndpointQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["namespace", "url"], name="webhooks_endpoint_once"),
            models.CheckConstraint(
                condition=Q(disabled_at__isnull=True, disabled_cause="")
                | (Q(disabled_at__isnull=False) & ~Q(disabled_cause="")),
                name="webhooks_endpoint_disabled_for_a_cause",
            ),
        ]

    def __str__(self) -> str:
        return self.url

    @property
    def state(self) -> str:
        """`active`, `failing` or `disabled`."""
        if self.disabled_at:
            return "disabled"
        return "failing" if self.failing_since else "active"

    @property
    def state_title(self) -> str:
        return self.get_disabled_cause_display() or {"active": "Active", "failing": "Failing"}[self.state]

    def wants(self, event_type: str) -> bool:
        return not self.event_types or event_type in self.event_types


class SecretQuerySet(models.QuerySet["Secret"]):
    def live(self, now: datetime) -> SecretQuerySet:
        """Those that sign: the newest, and for a while the ones that it replaced."""
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now))


class Secret(models.Model):
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="secrets")
    sealed = models.TextField()  # credentials.sealed: the database alone does not tell it
    hint = models.CharField(max_length=12)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)  # set once another one has replaced it

    objects = SecretQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint"], condition=Q(expires_at__isnull=True), name="webhooks_secret_one_newest"
            ),
        ]

    def __str__(self) -> str:
        return f"…{self.hint}"


class MessageStatus(models.TextChoices):
    WAITING = "waiting", "Waiting"
    DELIVERED = "delivered", "Delivered"
    FAILED = "failed", "Given up"


class MessageQuerySet(models.QuerySet["Message"]):
    def visible_to(self, user: User | AnonymousUser) -> MessageQuerySet:
        return self.filter(endpoint__in=Endpoint.objects.visible_to(user))

    def due(self, now: datetime) -> MessageQuerySet:
        """What is to be sent, but to endpoints that rest; first to the namespace to which nothing was sent for longest,
        and there to the endpoint: who has many endpoints has no more turns than who has one."""
        resting = Q(endpoint__rests_until__gt=now)
        theirs = Endpoint.objects.filter(namespace=OuterRef("endpoint__namespace")).order_by().values("namespace")
        served = Subquery(theirs.annotate(last=Max("tried_at")).values("last"))
        # An event of a transaction that was longer than its endpoint's life waits for ever.
        live = self.filter(due_at__lte=now, endpoint__disabled_at__isnull=True)
        longest = [F(name).asc(nulls_first=True) for name in ("namespace_served_at", "endpoint__tried_at")]
        waits = live.exclude(resting).annotate(namespace_served_at=served)
        return waits.order_by(*longest, "due_at", "pk")


class Message(models.Model):
    """One event for one endpoint: the outbox. `body` is what is sent, the same bytes at every try."""

    uid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, related_name="messages")
    type = models.CharField(max_length=40, choices=_TYPES)
    body = models.TextField()
    created_at = models.DateTimeField()
    status = models.CharField(max_length=10, choices=MessageStatus.choices, default=MessageStatus.WAITING)
    # When it is to be tried next; while it is tried, when its sender is taken for dead. None where nothing is owed.
    due_at = models.DateTimeField(null=True, blank=True)
    tries = models.PositiveSmallIntegerField(default=0)  # of this round: a replay begins another

    objects = MessageQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(status__in=MessageStatus.values), name="webhooks_message_status"),
            models.CheckConstraint(
                condition=Q(status="waiting", due_at__isnull=False) | (~Q(status="waiting") & Q(due_at__isnull=True)),
                name="webhooks_message_due_while_waiting",
            ),
        ]
        indexes = [
            models.Index(fields=["endpoint", "-id"], name="webhooks_message_endpoint"),
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="webhooks_message_due"),
            models.Index(fields=["created_at"], name="webhooks_message_created"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.webhook_id}"

    @property
    def webhook_id(self) -> str:
        """What the receiver knows it by, however often it is sent."""
        return f"msg_{self.uid.hex}"


class Outcome(models.TextChoices):
    DELIVERED = "delivered", "Delivered"
    GONE = "gone", "It answered 410 Gone"
    REDIRECTED = "redirected", "It answered with a redirect, which is never followed"
    REFUSED = "refused", "It answered with an error"
    TIMED_OUT = "timed_out", "It took longer than the deadline"
    UNRESOLVED = "unresolved", "Its name has no address"
    ADDRESS_REFUSED = "address_refused", "Its name leads to an address that is not public"
    URL_REFUSED = "url_refused", "Its address is not allowed any more"
    UNREACHABLE = "unreachable", "The connection failed"
    TLS_FAILED = "tls_failed", "Its certificate was not accepted"
    BAD_ANSWER = "bad_answer", "Its answer is no HTTP"
    SECRET_LOST = "secret_lost", "The secret cannot be read any more: replace it"


class Attempt(models.Model):
    """One try to deliver a message, as it ended."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="attempts")
    at = models.DateTimeField()
    outcome = models.CharField(max_length=20, choices=Outcome.choices)
    http_status = models.PositiveSmallIntegerField(null=True, blank=True)
    milliseconds = models.PositiveIntegerField()
    answer = models.TextField(max_length=EXCERPT_CHARACTERS, blank=True)  # its first bytes, as text

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(outcome__in=Outcome.values), name="webhooks_attempt_outcome"),
        ]

    def __str__(self) -> str:
        return f"{self.outcome} {self.http_status or ''}".strip()
