"""Shapes of webhooks in the API."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from marketplace.inputs import Input
from marketplace.webhooks.models import MAX_URL, Cause, Endpoint, Message, MessageStatus, Outcome
from marketplace.webhooks.services.endpoints import OVERLAP_HOURS

_EVENTS_HELP = "Types of events; none are all of them"
_MAX_TYPES = 100


class EndpointInput(Input):
    url = serializers.CharField(max_length=MAX_URL)
    namespace = serializers.CharField(max_length=96, required=False, help_text="By default your own")
    events = serializers.ListField(
        child=serializers.CharField(max_length=40), default=list, max_length=_MAX_TYPES, help_text=_EVENTS_HELP
    )
    description = serializers.CharField(max_length=120, default="", allow_blank=True)


class EndpointChange(Input):
    url = serializers.CharField(max_length=MAX_URL, required=False)
    events = serializers.ListField(
        child=serializers.CharField(max_length=40), required=False, max_length=_MAX_TYPES, help_text=_EVENTS_HELP
    )
    description = serializers.CharField(max_length=120, required=False, allow_blank=True)
    enabled = serializers.BooleanField(required=False, help_text="false gives up what waits")


class RotationInput(Input):
    overlap_hours = serializers.IntegerField(
        default=OVERLAP_HOURS, help_text="For how long the earlier secret signs too; 0 ends it at once"
    )


class EventOutput(serializers.Serializer[Any]):
    type = serializers.CharField()
    says = serializers.CharField()


class SecretOutput(serializers.Serializer[Any]):
    hint = serializers.CharField(help_text="Its last characters")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)


class EndpointOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="uid")
    namespace = serializers.CharField(source="namespace.name")
    url = serializers.CharField()
    description = serializers.CharField()
    events = serializers.ListField(child=serializers.CharField(), source="event_types", help_text=_EVENTS_HELP)
    enabled = serializers.SerializerMethodField()
    disabled_cause = serializers.ChoiceField(choices=Cause.choices, allow_blank=True)
    disabled_at = serializers.DateTimeField(allow_null=True)
    failing_since = serializers.DateTimeField(allow_null=True, help_text="Since when every try has failed")
    created_at = serializers.DateTimeField()
    secrets = SecretOutput(many=True, source="live_secrets", help_text="Those that sign")

    def get_enabled(self, row: Endpoint) -> bool:
        return row.disabled_at is None


class EndpointWithSecret(EndpointOutput):
    secret = serializers.CharField(help_text="whsec_ and base64; shown this once")


class AttemptOutput(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    outcome = serializers.ChoiceField(choices=Outcome.choices)
    http_status = serializers.IntegerField(allow_null=True)
    milliseconds = serializers.IntegerField()
    answer = serializers.CharField(help_text="The first bytes of the answer, as text")


class MessageOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="uid")
    webhook_id = serializers.CharField(help_text="The header webhook-id, the same at every try")
    type = serializers.CharField()
    status = serializers.ChoiceField(choices=MessageStatus.choices)
    created_at = serializers.DateTimeField()
    next_try_at = serializers.DateTimeField(source="due_at", allow_null=True)
    last_attempt = serializers.SerializerMethodField()

    @extend_schema_field(AttemptOutput(allow_null=True))
    def get_last_attempt(self, row: Message) -> dict[str, Any] | None:
        last = next(iter(row.attempts.all()), None)
        return AttemptOutput(last).data if last else None


class MessageWithAttempts(MessageOutput):
    body = serializers.CharField(help_text="What was sent, byte for byte")
    attempts = AttemptOutput(many=True)
