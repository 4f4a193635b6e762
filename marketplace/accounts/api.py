"""The account's part of /api/v1/."""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.accounts.models import Notification
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
    @extend_schema(summary="Mark all your notifications as read", request=None, responses=ReadOutput)
    def post(self, request: Request) -> Response:
        return Response({"marked": notifications.mark_read(user=request.user, pk=None, now=timezone.now())})
