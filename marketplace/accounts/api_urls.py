"""Mounted at /api/v1/."""

from django.urls import path

from marketplace.accounts import api, organization_api, token_api

urlpatterns = [
    path("audit/", api.Audit.as_view(), name="api_audit"),
    path("audit/audit.<str:kind>", api.AuditExport.as_view(), name="api_audit_export"),
    path("notifications/", api.Notifications.as_view(), name="api_notifications"),
    path("notifications/read/", api.ReadAll.as_view(), name="api_notifications_read"),
    path("organizations/", organization_api.Organizations.as_view(), name="api_organizations"),
    path("organizations/<str:namespace>/", organization_api.OneOrganization.as_view(), name="api_organization"),
    path(
        "organizations/<str:namespace>/members/<str:username>/",
        organization_api.Member.as_view(),
        name="api_organization_member",
    ),
    path("tokens/", token_api.Tokens.as_view(), name="api_tokens"),
    path("tokens/<int:pk>/", token_api.OneToken.as_view(), name="api_token"),
    path("tokens/<int:pk>/rotate/", token_api.TokenRotate.as_view(), name="api_token_rotate"),
    path("credentials/revoke/", token_api.Leaked.as_view(), name="api_credentials_revoke"),
    path("notifications/<int:pk>/read/", api.ReadOne.as_view(), name="api_notification_read"),
]
