"""The base of every API view."""

from __future__ import annotations

from typing import Any

from rest_framework.parsers import BaseParser
from rest_framework.response import Response
from rest_framework.views import APIView

from marketplace.rest import CursorPagination


class View(APIView):
    """Base of the API's views."""

    read_scope = "models:read"
    write_scope = "models:write"
    public_read = False

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
