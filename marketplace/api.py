"""The base of every API view."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.http import Http404
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from marketplace import preconditions, sparse
from marketplace.errors import DomainError
from marketplace.rest import CursorPagination
from marketplace.throttling import API


def checked(serializer: BaseSerializer[Any]) -> dict[str, Any]:
    """Returns what the serializer has read. Raises ValidationError, which is answered with every field's problem."""
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


class View(APIView):
    """Base of the API's views."""

    read_scope: str | tuple[str, ...] = "models:read"
    write_scope: str | tuple[str, ...] = "models:write"
    public_read = False
    pagination_class: type[CursorPagination] | None = CursorPagination  # of `paginated`; the schema reads it here
    filters: tuple[str, ...] = ()  # query parameters of the list beside its place
    tagged: tuple[str, ...] = ()  # methods that honor If-Match (preconditions.py); GET and they tell the ETag
    limits_itself: tuple[str, ...] = ()  # methods that look at what a token is limited to (rest.WithinReach)
    rate_bucket = API  # where its calls count (throttling.py)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Counts what DRF refuses before it counts, too: guessing at tokens is limited as everything else is."""
        try:
            super().initial(request, *args, **kwargs)
        finally:
            self.check_throttles(request)
        if hasattr(self, str(request.method).lower()):  # else it is answered that there is no such method
            preconditions.refuse_elsewhere(request, self.tagged)

    def paginated(self, queryset: Any, serializer: Any, *, ordering: str = "-id") -> Response:
        """Returns one page of the queryset, serialised."""
        assert self.pagination_class is not None  # noqa: S101 - a view that says so calls this not
        paginator = self.pagination_class()
        paginator.ordering = ordering
        names = sparse.wanted(self.request)
        if names is not None and (known := sparse.names_of(serializer)) is not None:
            sparse.require_known(names, known)
        rows: Any = paginator.paginate_queryset(queryset, self.request, view=self)
        shown = serializer(rows, many=True, context={"request": self.request})
        if names is not None:
            sparse.narrow(shown, names)
        return paginator.get_paginated_response(shown.data)

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        if request.method == "GET" and isinstance(response, Response) and response.status_code == HTTPStatus.OK:
            response = self._sparse(request, response)
        return super().finalize_response(request, response, *args, **kwargs)

    def _sparse(self, request: Request, response: Response) -> Response:
        names = sparse.wanted(request)
        if names is None:
            return response
        try:
            response.data = sparse.picked(response.data, names)
        except DomainError as error:
            return self.handle_exception(error)
        return response


class RawBody(BaseParser):
    """Takes any body as a stream, so that a file of many gigabytes never lies in memory."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        return stream


class NotThere(View):
    """Every address of the API that is none: a problem like the others, not a page."""

    authentication_classes: list[Any] = []
    permission_classes: list[Any] = []
    schema = None

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.http_method_names = [request.method.lower()]
        setattr(self, request.method.lower(), self._absent)
        return super().dispatch(request, *args, **kwargs)

    def _absent(self, _request: Request, **_kwargs: Any) -> Response:
        raise Http404
