"""Mounted at /api/v1/."""

from django.urls import path

from marketplace.accounts import api

urlpatterns = [
    path("audit/", api.Audit.as_view(), name="api_audit"),
    path("audit/audit.<str:kind>", api.AuditExport.as_view(), name="api_audit_export"),
    path("notifications/", api.Notifications.as_view(), name="api_notifications"),
    path("notifications/read/", api.ReadAll.as_view(), name="api_notifications_read"),
    path("notifications/<int:pk>/read/", api.ReadOne.as_view(), name="api_notification_read"),
]
