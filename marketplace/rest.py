"""DRF's policies for this site: problem+json errors (RFC 9457), cursor pages, scopes.

Apart from api.py because DRF's settings name these classes before its views can be imported."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404
from rest_framework import exceptions, pagination, status
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace import sparse
from marketplace.accounts.models import ApiToken
from marketplace.accounts.models.reach import Reach, reach_of
from marketplace.errors import PROBLEM_JSON, Denied, DomainError, Invalid, of_the_sender, problem_document

SAFE = ("GET", "HEAD", "OPTIONS")
_UNREADABLE_FORM = "The form cannot be read. Send multipart/form-data with its boundary, as HTTP libraries do."


class CursorPagination(pagination.CursorPagination):
    ordering = "-id"
    page_size_query_param = "page_size"
    max_page_size = 100

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        """Returns one page. Raises Invalid (`unknown_parameter`, `bad_page_size`, `bad_cursor`): DRF checks a
        cursor's form, not whether the position in it is one of the column's values."""
        known = {self.cursor_query_param, self.page_size_query_param, sparse.PARAMETER, *getattr(view, "filters", ())}
        if unknown := sorted(set(request.query_params) - known):
            text = f"There is no such parameter here; these are: {', '.join(sorted(known))}."
            raise Invalid("unknown_parameter", text, field=unknown[0][:100])
        size = request.query_params.get(self.page_size_query_param, "1")
        if not size.isdecimal() or not size.strip("0"):
            text = f"page_size is a whole number from 1 to {self.max_page_size}."
            raise Invalid("bad_page_size", text, field=self.page_size_query_param)
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, OverflowError, ValidationError, exceptions.NotFound) as error:
            if self.cursor_query_param not in request.query_params:
                raise
            text = "A cursor is taken from `next` or `previous` of an earlier answer. Start again without one."
            raise Invalid("bad_cursor", text, field=self.cursor_query_param) from error

    def get_paginated_response(self, data: Any) -> Response:
        response = super().get_paginated_response(data)
        links = [
            f'<{url}>; rel="{name}"'
            for name, url in (("next", self.get_next_link()), ("prev", self.get_previous_link()))
            if url
        ]
        if links:
            response["Link"] = ", ".join(links)
        return response

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Returns DRF's own as OpenAPI 3.1 has it, which says by the type what may be null. Both are always there."""
        page: dict[str, Any] = super().get_paginated_response_schema(schema)
        for name in ("next", "previous"):
            page["properties"][name] = {"type": ["string", "null"], "format": "uri"}
        return {**page, "required": ["next", "previous", "results"]}


def is_safe(request: Request, view: Any) -> bool:
    """A POST may be no more than a long question: `changes_nothing` says so of a view."""
    return request.method in SAFE or getattr(view, "changes_nothing", False)


class HasScope(BasePermission):
    """A token does only what its scopes name: `read_scope` and `write_scope` of the view, of several any. Sessions do
    what their user may; anonymous readers only reach views that set `public_read`."""

    message = "This token lacks the scope that the call needs."

    def has_permission(self, request: Request, view: Any) -> bool:
        safe = is_safe(request, view)
        if not request.user or not request.user.is_authenticated:
            return safe and getattr(view, "public_read", False)
        if not isinstance(request.auth, ApiToken):
            return True
        wanted = view.read_scope if safe else view.write_scope
        scopes = (wanted,) if isinstance(wanted, str) else wanted
        if not any(request.auth.grants(scope) for scope in scopes):
            self.message = f"This token lacks the scope {' or '.join(scopes)}. Issue one that has it."
            return False
        return True


class WithinReach(BasePermission):
    """A token that is limited to some things acts on those alone: what the address names, or what a view limits by itself
    (`limits_itself`: the methods whose queries and `require_within` do). For what anybody may read it is nobody; the rest
    does not exist for it, or is refused where the call reaches further than any one thing."""

    def has_permission(self, request: Request, view: Any) -> bool:
        token = request.auth if isinstance(request.auth, ApiToken) else None
        if token is None or token.reach is None or request.method in getattr(view, "limits_itself", ()):
            return True
        namespace, name = view.kwargs.get("namespace"), view.kwargs.get("name")
        if namespace and is_within(token.reach, namespace, name or ""):
            return True
        if getattr(view, "public_read", False) and is_safe(request, view):
            request.user = AnonymousUser()
            return True
        if namespace:
            raise Http404
        text = (
            f"This token is limited to {', '.join(token.resources[:5])}, and this call is not about one of these alone."
        )
        raise Denied("token_restricted", text)


def is_within(reach: Reach, namespace: str, name: str) -> bool:
    return reach.has_listing(namespace, name) if name else reach.has_namespace(namespace)


def require_within(request: Request, namespace: str, name: str = "") -> None:
    """Raises Http404 where the request's token is limited to other things than this namespace, or this model of it."""
    reach = reach_of(request.user)
    if reach is not None and not is_within(reach, namespace, name):
        raise Http404


def problem(
    *, status_code: int, code: str, detail: str, errors: list[dict[str, str]] | None = None, **extra: Any
) -> Response:
    """Answers with a problem document."""
    body = problem_document(status=status_code, code=code, detail=detail, errors=errors, **extra)
    return Response(body, status=status_code, content_type=PROBLEM_JSON)


def exception_handler(error: Exception, _context: dict[str, Any]) -> Response | None:
    """Turns every expected failure into a problem; the rest is a 500 of the site."""
    error = of_the_sender(error)
    if isinstance(error, DomainError):
        fields = [{"field": error.field, "code": error.code, "detail": error.message}] if error.field else []
        return problem(
            status_code=error.status,
            code=error.code,
            detail=error.message,
            errors=fields,
            items=error.items,
            **error.extra,
        )
    if isinstance(error, Http404):
        return problem(status_code=404, code="not_found", detail="There is no such thing, or it is not yours to see.")
    if isinstance(error, PermissionDenied):
        return problem(status_code=403, code="forbidden", detail="You may not do this.")
    return _drf_problem(error) if isinstance(error, exceptions.APIException) else None


def _drf_problem(error: exceptions.APIException) -> Response:
    if isinstance(error, exceptions.ValidationError):
        response = problem(
            status_code=400,
            code="invalid",
            detail="Some fields need another value.",
            errors=list(_field_errors(error.get_full_details())),
        )
    else:
        codes = error.get_codes()
        code = codes if isinstance(codes, str) else "error"
        detail = _UNREADABLE_FORM if str(error.detail).startswith("Multipart form parse error") else str(error.detail)
        response = problem(status_code=error.status_code, code=code, detail=detail)
    if header := getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = header
    if error.status_code == status.HTTP_429_TOO_MANY_REQUESTS and getattr(error, "wait", None):
        response["Retry-After"] = str(int(error.wait))
    return response


def _field_errors(details: Any, path: str = "") -> Any:
    if isinstance(details, dict) and set(details) == {"message", "code"}:
        yield {"field": path, "code": str(details["code"]), "detail": str(details["message"])}
    elif isinstance(details, dict):
        for name, value in details.items():
            yield from _field_errors(value, f"{path}.{name}" if path else str(name))
    elif isinstance(details, list):
        for value in details:
            yield from _field_errors(value, path)
