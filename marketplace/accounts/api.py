"""The account's part of /api/v1/."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts import audit_log
from marketplace.accounts.models import AuditEvent, Notification
from marketplace.accounts.services import notifications
from marketplace.api import View
from marketplace.errors import Invalid

_TRUTH = {"true": True, "false": False}


class NotificationOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField(help_text="`resource.verb`, such as access.approve")
    title = serializers.CharField()
    body = serializers.CharField()
    url = serializers.CharField(help_text="A path of this site, or empty")
    created_at = serializers.DateTimeField()
    read_at = serializers.DateTimeField(allow_null=True)


class ReadOutput(serializers.Serializer[Any]):
    marked = serializers.IntegerField(help_text="How many were unread")


class AuditOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    at = serializers.DateTimeField()
    actor = serializers.CharField(source="actor.username", default=None, allow_null=True)
    namespace = serializers.CharField(source="namespace.name", default=None, allow_null=True)
    action = serializers.CharField(help_text="`resource.verb`, such as release.yank")
    subject = serializers.CharField()
    details = serializers.DictField()


_AUDIT_PARAMETERS = [
    OpenApiParameter("namespace", str),
    OpenApiParameter("action", str, description="release.yank, or release for all of its kind"),
    OpenApiParameter("actor", str),
    OpenApiParameter("subject", str, description="A part of it"),
    OpenApiParameter("since", OpenApiTypes.DATE),
    OpenApiParameter("until", OpenApiTypes.DATE),
]


class _AuditView(View):
    read_scope = "audit:read"
    filters = tuple(audit_log.AuditFilter.base_filters)

    def events(self, request: Request) -> QuerySet[AuditEvent]:
        """Raises Invalid (`bad_filter`)."""
        rows = AuditEvent.objects.visible_to(request.user).with_names()
        found = audit_log.AuditFilter(request.query_params, queryset=rows)
        if not found.is_valid():
            name, messages = next(iter(found.form.errors.items()))
            raise Invalid("bad_filter", str(messages[0]), field=name)
        events: QuerySet[AuditEvent] = found.qs
        return events


class Audit(_AuditView):
    @extend_schema(
        summary="The audit log of what you administer, newest first",
        parameters=_AUDIT_PARAMETERS,
        responses=AuditOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        return self.paginated(self.events(request), AuditOutput)


class AuditExport(_AuditView):
    @extend_schema(
        summary="The same as a file, csv or jsonl",
        parameters=_AUDIT_PARAMETERS,
        responses={(200, "text/csv"): OpenApiTypes.STR, (200, "application/x-ndjson"): OpenApiTypes.STR},
    )
    def get(self, request: Request, kind: str) -> HttpResponseBase:
        if kind not in audit_log.FORMATS:
            raise Http404
        return audit_log.export(self.events(request), kind=kind)


class _Scoped(View):
    read_scope = "notifications:read"
    write_scope = "notifications:write"


class Notifications(_Scoped):
    filters = ("unread",)

    @extend_schema(
        summary="Your notifications, newest first",
        parameters=[OpenApiParameter("unread", bool, description="Only those that are unread")],
        responses=NotificationOutput(many=True),
    )
    def get(self, request: Request) -> Response:
        rows = Notification.objects.visible_to(request.user)
        wanted = _TRUTH.get(request.query_params.get("unread", "false"))
        if wanted is None:
            raise Invalid("bad_filter", "`unread` is true or false.", field="unread")
        return self.paginated(rows.unread() if wanted else rows, NotificationOutput)


class ReadOne(_Scoped):
    @extend_schema(summary="Mark a notification as read", request=None, responses=NotificationOutput)
    def post(self, request: Request, pk: int) -> Response:
        row = get_object_or_404(Notification.objects.visible_to(request.user), pk=pk)
        notifications.mark_read(user=request.user, pk=row.pk, now=timezone.now())
        row.refresh_from_db()
        return Response(NotificationOutput(row).data)


class ReadAll(_Scoped):
    @extend_schema(
        operation_id="notifications_read_all",
        summary="Mark all your notifications as read",
        request=None,
        responses=ReadOutput,
    )
    def post(self, request: Request) -> Response:
        return Response({"marked": notifications.mark_read(user=request.user, pk=None, now=timezone.now())})
