"""What every answer to a Hub client has in common: who asks, and how a refusal reaches them.

The clients decide by the header `X-Error-Code` alone, and show `X-Error-Message`; a refusal of a download is shown to
its reader only as `GatedRepo`. HEAD has no body, whatever is answered: bytes after it would be read as the next answer.
"""

from __future__ import annotations

import unicodedata
from enum import StrEnum
from typing import Any

from django.http import Http404, HttpResponse, JsonResponse
from django.urls import reverse
from rest_framework import exceptions
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request

from marketplace.accounts.authentication import TokenAuthentication
from marketplace.accounts.models import ApiToken
from marketplace.api import View
from marketplace.errors import Denied, DomainError, Invalid, Unavailable, of_the_sender
from models_catalog.models import Release


class ErrorCode(StrEnum):
    """What the clients map to their exceptions."""

    REPO = "RepoNotFound"
    REVISION = "RevisionNotFound"
    ENTRY = "EntryNotFound"
    GATED = "GatedRepo"
    NONE = ""


def _named(headers: dict[str, str]) -> dict[str, str]:
    """X_Repo_Commit -> X-Repo-Commit"""
    return {name.replace("_", "-"): value for name, value in headers.items()}


class HubError(Exception):
    """A refusal as the clients understand it; `headers` go beside it."""

    def __init__(self, status: int, code: ErrorCode, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = _named(headers)


def no_repository(request: Request) -> HubError:
    """The same for what is not there and what is hidden; a client without a token is told to bring one."""
    if request.auth:
        return HubError(404, ErrorCode.REPO, "Repository not found")
    return HubError(401, ErrorCode.REPO, "Invalid username or password.")


def gated(request: Request, release: Release, error: DomainError) -> HubError:
    """Why a file is not served, with the page and the call by which that can be mended."""
    listing = release.listing
    names = (listing.namespace.name, listing.name)
    where = f"See {request.build_absolute_uri(reverse('checkout', args=names))}"
    if error.code == "no_license":
        is_asked = release.terms.manual_approval
        call = reverse("api_access_requests") if is_asked else reverse("api_listing_grants", args=names)
        where += f" or {'ask' if is_asked else 'accept its terms'} by POST {request.build_absolute_uri(call)}"
    return HubError(
        403 if request.auth else 401,
        ErrorCode.GATED,
        f"{error.message} {where}",
        # The `hf` command hides the reason of a refusal and shows this; once for each topic.
        X_HF_Warning=f"{listing}; {in_ascii(error.message)} {where}",
    )


def in_ascii(text: str) -> str:
    """Returns the text as a header can hold it: other letters lose their marks, or become question marks."""
    plain = unicodedata.normalize("NFKD", text.replace("“", '"').replace("”", '"').replace("’", "'"))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return " ".join(plain.encode("ascii", "replace").decode().split())


class OneForm(DefaultContentNegotiation):
    """The clients ask for forms of their own, such as `application/vnd.git-lfs+json`, and read JSON."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class HubView(View):
    """Base of the protocol's views: tokens only, so that no page can make a browser call them."""

    authentication_classes = [TokenAuthentication]
    content_negotiation_class = OneForm
    public_read = True
    schema = None  # documented by the clients; docs/api.md says what is served
    scope_code = ErrorCode.GATED  # of a token without the scope: without a code a download would not tell it

    def get_exception_handler(self) -> Any:
        return _answered

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if request.method == "HEAD" and not response.streaming:
            response.content = b""
        return response


def answer(data: Any, **headers: str) -> HttpResponse:
    """Returns 200 with the data as JSON."""
    return JsonResponse(data, safe=False, headers=_named(headers))


def _answered(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Turns every expected failure into the clients' form; the rest is a 500 of the site."""
    request, error = context["request"], of_the_sender(error)
    if isinstance(error, Http404):
        error = no_repository(request)
    if isinstance(error, HubError):
        return _refusal(error.status, error.code, error.message, error.headers)
    if isinstance(error, exceptions.AuthenticationFailed | exceptions.NotAuthenticated):
        bad = isinstance(error, exceptions.AuthenticationFailed)
        text = "Invalid credentials in Authorization header" if bad else "Invalid username or password."
        return _refusal(401, ErrorCode.NONE, text, {"WWW-Authenticate": "Bearer"})
    if isinstance(error, exceptions.Throttled):
        headers = {"Retry-After": str(int(error.wait or 1))}  # type: ignore[attr-defined]  # set by its constructor
        return _refusal(429, ErrorCode.NONE, "Too many requests: wait as Retry-After says.", headers)
    if isinstance(error, exceptions.PermissionDenied):
        return _refusal(403, context["view"].scope_code, str(error.detail), {})
    if isinstance(error, exceptions.APIException):
        return _refusal(error.status_code, ErrorCode.NONE, str(error.detail), {})
    if isinstance(error, DomainError):
        status = {Denied: 403, Invalid: 400}.get(type(error), error.status)
        # In seconds: the clients try again of themselves.
        headers = {"Retry-After": "10"} if status == Unavailable.status else {}
        return _refusal(status, ErrorCode.NONE, error.message, headers)
    return None


def _refusal(status: int, code: ErrorCode, message: str, headers: dict[str, str]) -> HttpResponse:
    named = {"X-Error-Code": code.value} if code else {}
    told = {"X-Error-Message": in_ascii(message)[:1000], **named, **headers}
    return JsonResponse({"error": message}, status=status, headers=told)


def token_of(request: Request) -> ApiToken | None:
    return request.auth if isinstance(request.auth, ApiToken) else None
