"""Mounted at /account/, before allauth's own."""

from django.urls import path

from marketplace.accounts import device_pages, token_pages, web

urlpatterns = [
    path("settings/", web.settings_page, name="account_settings"),
    path("tokens/", token_pages.tokens, name="tokens"),
    path("tokens/<int:pk>/", token_pages.token, name="token"),
    path("tokens/<int:pk>/rotate/", token_pages.rotate, name="token_rotate"),
    path("tokens/<int:pk>/revoke/", token_pages.revoke, name="token_revoke"),
    path("device/", device_pages.device_login, name="device_login"),
    path("organizations/", web.organizations, name="organizations"),
    path("organizations/<str:name>/", web.organization, name="organization"),
]
