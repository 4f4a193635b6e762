"""Mounted at /account/, before allauth's own."""

from django.urls import path

from marketplace.accounts import web

urlpatterns = [
    path("settings/", web.settings_page, name="account_settings"),
    path("tokens/", web.tokens, name="tokens"),
    path("tokens/<int:pk>/revoke/", web.token_revoke, name="token_revoke"),
    path("organizations/", web.organizations, name="organizations"),
    path("organizations/<str:name>/", web.organization, name="organization"),
]
