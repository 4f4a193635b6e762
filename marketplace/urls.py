"""The only place that mounts the apps' addresses."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from marketplace import pages
from marketplace.accounts.device_api import Device, Token
from marketplace.accounts.token_api import Leaked
from marketplace.api import NotThere

# Signing in to the admin is signing in to the site: its second factor and its limits of attempts.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]  # as allauth documents it
api = [
    path("", include("marketplace.accounts.api_urls")),
    path("", include("marketplace.uploads.api_urls")),
    path("", include("marketplace.webhooks.api_urls")),
    path("", include("models_catalog.api.urls")),
    path("", include("finetuning.api.urls")),
]

handler500 = "marketplace.health.server_error"
urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("marketplace.page_urls")),
    path("", include("models_catalog.urls")),
    path("", include("finetuning.urls")),
    path("account/", include("marketplace.accounts.urls")),
    path("account/webhooks/", include("marketplace.webhooks.urls")),
    path("audit/", include("marketplace.accounts.audit_urls")),
    path("notifications/", include("marketplace.accounts.inbox_urls")),
    path("account/", include("allauth.urls")),
    path("admin/", admin.site.urls),
    # Where secret scanners know such an address from the public hub.
    path("api/credentials/revoke", Leaked.as_view(schema=None)),
    path("oauth/device", Device.as_view(), name="oauth_device"),
    path("oauth/token", Token.as_view(), name="oauth_token"),
    path("api/v1/", include(api)),
    re_path(r"^api/v1/[\s\S]*$", NotThere.as_view()),
    path("", include("finetuning.hub.urls")),
    path("", include("models_catalog.hub.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="api_schema"),
    path("api/docs/", pages.swagger(SpectacularSwaggerSplitView.as_view(url_name="api_schema")), name="api_docs"),
]
