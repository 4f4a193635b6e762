"""Mounted at /api/v1/."""

from django.urls import path

from marketplace.accounts import api

urlpatterns = [
    path("notifications/", api.Notifications.as_view(), name="api_notifications"),
    path("notifications/read/", api.ReadAll.as_view(), name="api_notifications_read"),
    path("notifications/<int:pk>/read/", api.ReadOne.as_view(), name="api_notification_read"),
]
