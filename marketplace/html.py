"""What pages share: a DomainError becomes a form error, a message or an error page; JSON where asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib import messages
from django.forms import Form
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from marketplace.errors import DomainError, of_the_sender

PageView = TypeVar("PageView", bound=Callable[..., Any])


def wants_json(request: HttpRequest) -> bool:
    """True for the page's own scripts (static/js/upload.js), which ask for JSON."""
    return request.headers.get("Accept", "").startswith("application/json")


def add_error(form: Form, error: DomainError) -> None:
    """Puts a DomainError beside the field it names, else on top of the form."""
    text = error.message + (f" ({'; '.join(error.items[:20])})" if error.items else "")
    form.add_error(error.field if error.field in form.fields else None, text)


def form_errors(form: Form) -> JsonResponse:
    return JsonResponse({"errors": form.errors}, status=422)


def redirect_back(request: HttpRequest, fallback: str) -> HttpResponse:
    """Redirects to the page that a form names in `next` or the Referer, if it is on this site."""
    for url in (request.POST.get("next", ""), request.headers.get("Referer", "")):
        if url and url_has_allowed_host_and_scheme(url, {request.get_host()}, request.is_secure()):
            return redirect(url)
    return redirect(fallback)


def public_page(view: PageView) -> PageView:
    """Marks a page that says the same to everybody who is not signed in, so that shared_pages.py may keep it. All
    that it shows lies in its address and in the tables of models_catalog/models/change_watch.py."""
    view.is_public_page = True  # type: ignore[attr-defined]  # functions have attributes
    return view


class DomainErrorMiddleware:
    """The one place where a DomainError that no form caught becomes an answer of the site's pages."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        error = of_the_sender(error)
        if not isinstance(error, DomainError):
            return None
        if wants_json(request):
            return JsonResponse({"code": error.code, "errors": {"__all__": [error.message]}}, status=error.status)
        if request.method == "POST" and request.headers.get("Referer"):
            messages.error(request, error.message)
            return redirect_back(request, "home")
        return render(request, "domain_error.html", {"error": error}, status=error.status)
