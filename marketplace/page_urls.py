"""Addresses of the pages that belong to no app."""

from django.templatetags.static import static
from django.urls import path
from django.views.generic import RedirectView

from marketplace import health, metrics, pages


class Favicon(RedirectView):
    """Browsers ask for it without being told to."""

    def get_redirect_url(self, *_args: object, **_kwargs: object) -> str:
        return static("img/mark.svg")


urlpatterns = [
    path("", pages.home, name="home"),
    path("healthz", health.health, name="healthz"),
    path("readyz", health.ready, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
    path("favicon.ico", Favicon.as_view()),
]
