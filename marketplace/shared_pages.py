"""Public pages are made once for all who are not signed in, and kept until the catalog changes (ADR 42)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from django.conf import settings
from django.contrib.messages.storage.cookie import CookieStorage
from django.core.cache import caches
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve
from django.utils.cache import get_conditional_response, patch_cache_control, set_response_etag

from models_catalog.models import changes

MAX_ADDRESS = 400  # characters
MAX_PAGE_BYTES = 200_000
_SHARED_VARY = frozenset({"cookie"})


@dataclass(frozen=True, slots=True)
class _Kept:
    state: tuple[int | None, int | None, int]
    content: bytes
    headers: dict[str, str]


class SharedPages:
    """Answers for the views that html.public_page marks. It stands outside of sessions and CSRF: whoever has a session
    or a message waiting is passed on, and only what was made for a request without any cookie is kept."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if not (settings.PAGE_CACHE_SECONDS and _is_nobodys(request) and _is_public(request)):
            return self.get_response(request)
        state = changes.state()  # before the page is made, so that no older page is kept for a newer state
        key = f"{request.scheme}://{request.get_host()}{request.get_full_path()}"
        kept: _Kept | None = caches["pages"].get(key)
        if kept is not None and kept.state == state:
            response = HttpResponse(kept.content, headers=kept.headers)
        else:
            response = self.get_response(request)
            if not _may_be_shared(request, response):
                return response
            _finish(response)
            caches["pages"].set(
                key, _Kept(state, response.content, dict(response.items())), settings.PAGE_CACHE_SECONDS
            )
        return get_conditional_response(request, etag=response["ETag"], response=response) or response


def _is_nobodys(request: HttpRequest) -> bool:
    personal = {settings.SESSION_COOKIE_NAME, CookieStorage.cookie_name}
    return (
        request.method == "GET"
        and not personal.intersection(request.COOKIES)
        and "Authorization" not in request.headers
        and len(request.get_full_path()) <= MAX_ADDRESS
    )


def _is_public(request: HttpRequest) -> bool:
    """Tells of the view, which /metrics counts also where it is not called."""
    try:
        request.resolver_match = resolve(request.path_info)
    except Resolver404:
        return False
    return getattr(request.resolver_match.func, "is_public_page", False)


def _may_be_shared(request: HttpRequest, response: HttpResponse) -> bool:
    """A page with a CSRF token sets its cookie; one that differs by anything but the cookie names that in `Vary`."""
    vary = {name.strip().lower() for name in response.get("Vary", "").split(",") if name.strip()}
    return (
        response.status_code == HTTPStatus.OK
        and not response.streaming
        and not request.COOKIES
        and not response.cookies
        and vary <= _SHARED_VARY
        and not response.has_header("Cache-Control")
        and len(response.content) <= MAX_PAGE_BYTES
    )


def _finish(response: HttpResponse) -> None:
    """Browsers ask each time whether it is still so: the same address is another page once they sign in."""
    patch_cache_control(response, no_cache=True)
    set_response_etag(response)
