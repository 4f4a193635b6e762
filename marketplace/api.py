"""The base of every API view."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from marketplace.rest import CursorPagination


def checked(serializer: BaseSerializer[Any]) -> dict[str, Any]:
    """Returns what the serializer has read. Raises ValidationError, which is answered with every field's problem."""
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


class View(APIView):
    """Base of the API's views."""

    read_scope = "models:read"
    write_scope = "models:write"
    public_read = False
    filters: tuple[str, ...] = ()  # query parameters of the list beside its place

    def paginated(self, queryset: Any, serializer: Any, *, ordering: str = "-id") -> Response:
        """Returns one page of the queryset, serialised."""
        paginator = CursorPagination()
        paginator.ordering = ordering
        rows: Any = paginator.paginate_queryset(queryset, self.request, view=self)
        return paginator.get_paginated_response(serializer(rows, many=True, context={"request": self.request}).data)


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
