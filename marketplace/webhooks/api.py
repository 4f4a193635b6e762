"""Webhooks over the API: endpoints, their secrets, what was sent to them."""

from __future__ import annotations

import uuid
from typing import Any

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import Namespace
from marketplace.accounts.services import people
from marketplace.api import View, checked
from marketplace.errors import Invalid
from marketplace.preconditions import tag_of, tagged, unchanged
from marketplace.webhooks import api_shapes as shapes
from marketplace.webhooks import selectors
from marketplace.webhooks.events import TEST, EventType
from marketplace.webhooks.models import Endpoint, Message, MessageStatus
from marketplace.webhooks.services import endpoints

_NO_STORE = {"Cache-Control": "no-store"}


class WebhookView(View):
    read_scope = "webhooks:read"
    write_scope = "webhooks:write"

    def endpoint(self, uid: uuid.UUID) -> Endpoint:
        return get_object_or_404(selectors.endpoints(self.request.user), uid=uid)

    def message(self, uid: uuid.UUID, message: uuid.UUID) -> Message:
        return get_object_or_404(selectors.messages(self.endpoint(uid)), uid=message)

    def answer(self, endpoint: Endpoint, *, status: int = 200, **more: Any) -> Response:
        row = self.endpoint(endpoint.uid)
        return Response({**shapes.EndpointOutput(row).data, **more}, status=status, headers=_NO_STORE)


class Webhooks(WebhookView):
    filters = ("namespace",)

    @extend_schema(
        summary="Webhooks of the namespaces that you administer",
        parameters=[OpenApiParameter("namespace", str)],
        responses=shapes.EndpointOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = selectors.endpoints(request.user)
        if name := request.query_params.get("namespace"):
            rows = rows.filter(namespace__name__iexact=name[:100])
        return self.paginated(rows, shapes.EndpointOutput)

    @extend_schema(
        summary="Make a webhook; the answer alone shows its secret",
        request=shapes.EndpointInput,
        responses={201: shapes.EndpointWithSecret},
    )
    def post(self, request: Request) -> Response:
        fields = checked(shapes.EndpointInput(data=request.data))
        endpoint, secret = endpoints.create(
            user=request.user,
            namespace=_namespace(request, fields.get("namespace")),
            url=fields["url"],
            event_types=fields["events"],
            description=fields["description"],
            now=timezone.now(),
        )
        return self.answer(endpoint, status=201, secret=secret)


def _namespace(request: Request, name: str | None) -> Namespace:
    """Raises Invalid (`namespace_unknown`) where it is none of the user's."""
    if name is None:
        return people.namespace_of(request.user)
    namespace = Namespace.objects.of(request.user).filter(name__iexact=name).first()
    if namespace is None:
        raise Invalid("namespace_unknown", f"You belong to no namespace {name}.", field="namespace")
    return namespace


class Events(WebhookView):
    pagination_class = None

    @extend_schema(summary="What webhooks tell of", responses=shapes.EventOutput(many=True))
    def get(self, _request: Request) -> Response:
        return Response([{"type": value, "says": title} for value, title in EventType.choices])


def _tag(endpoint: Endpoint) -> str:
    """What its owner edits; how its deliveries go changes by itself."""
    return tag_of(endpoint, without=("failing_since", "tried_at", "rests_until"))


def _locked(endpoint: Endpoint) -> Endpoint | None:
    return Endpoint.objects.select_for_update(no_key=True).filter(pk=endpoint.pk).first()


class OneWebhook(WebhookView):
    tagged = ("PATCH", "DELETE")

    @extend_schema(summary="One webhook", responses=shapes.EndpointOutput)
    def get(self, _request: Request, uid: uuid.UUID) -> Response:
        return self._told(self.endpoint(uid))

    @extend_schema(
        summary="Change a webhook, or switch it on or off",
        request=shapes.EndpointChange,
        responses=shapes.EndpointOutput,
    )
    def patch(self, request: Request, uid: uuid.UUID) -> Response:
        endpoint, fields = self.endpoint(uid), checked(shapes.EndpointChange(data=request.data))
        with unchanged(request, lock=lambda: _locked(endpoint), tag=_tag):
            self._change(endpoint, fields)
        return self._told(endpoint)

    def _change(self, endpoint: Endpoint, fields: dict[str, Any]) -> None:
        user, is_enabled = self.request.user, fields.pop("enabled", None)
        if fields:
            event_types = fields.pop("events", None)
            endpoints.change(endpoint=endpoint, user=user, event_types=event_types, **fields)
        if is_enabled:
            endpoints.enable(endpoint=endpoint, user=user)
        elif is_enabled is not None:
            endpoints.disable(endpoint=endpoint, user=user, now=timezone.now())

    @extend_schema(summary="Delete a webhook and its log", responses={204: None})
    def delete(self, request: Request, uid: uuid.UUID) -> Response:
        endpoint = self.endpoint(uid)
        with unchanged(request, lock=lambda: _locked(endpoint), tag=_tag):
            endpoints.remove(endpoint=endpoint, user=request.user)
        return Response(status=204)

    def _told(self, endpoint: Endpoint) -> Response:
        return tagged(self.answer(endpoint), _tag(self.endpoint(endpoint.uid)))


class Rotation(WebhookView):
    @extend_schema(
        summary="Replace the secret; for some hours the earlier one signs too",
        request=shapes.RotationInput,
        responses={201: shapes.EndpointWithSecret},
    )
    def post(self, request: Request, uid: uuid.UUID) -> Response:
        endpoint, fields = self.endpoint(uid), checked(shapes.RotationInput(data=request.data))
        secret = endpoints.rotate(endpoint=endpoint, user=request.user, now=timezone.now(), **fields)
        return self.answer(endpoint, status=201, secret=secret)


class Test(WebhookView):
    @extend_schema(summary="Send a test", request=None, responses={202: shapes.MessageOutput})
    def post(self, request: Request, uid: uuid.UUID) -> Response:
        sent = endpoints.send_test(endpoint=self.endpoint(uid), user=request.user, now=timezone.now())
        return Response(shapes.MessageOutput(self.message(uid, sent.uid)).data, status=202)


class Deliveries(WebhookView):
    filters = ("status", "type")

    @extend_schema(
        summary="What was sent to a webhook, newest first; kept for 30 days",
        parameters=[
            OpenApiParameter("status", str, enum=MessageStatus.values),
            OpenApiParameter("type", str, enum=[*EventType.values, TEST]),
        ],
        responses=shapes.MessageOutput(many=True),
    )
    def get(self, request: Request, uid: uuid.UUID) -> Response:
        rows = selectors.messages(self.endpoint(uid))
        for name, known in (("status", MessageStatus.values), ("type", [*EventType.values, TEST])):
            if value := request.query_params.get(name):
                if value not in known:
                    raise Invalid("bad_filter", f"`{name}` is one of {', '.join(known)}.", field=name)
                rows = rows.filter(**{name: value})
        return self.paginated(rows, shapes.MessageOutput)


class OneDelivery(WebhookView):
    @extend_schema(summary="One message, with each try", responses=shapes.MessageWithAttempts)
    def get(self, _request: Request, uid: uuid.UUID, message: uuid.UUID) -> Response:
        return Response(shapes.MessageWithAttempts(self.message(uid, message)).data)


class Replay(WebhookView):
    @extend_schema(summary="Send a message again, under its id", request=None, responses={202: shapes.MessageOutput})
    def post(self, request: Request, uid: uuid.UUID, message: uuid.UUID) -> Response:
        row = self.message(uid, message)
        endpoints.replay(message=row, user=request.user, now=timezone.now())
        return Response(shapes.MessageOutput(row).data, status=202)
