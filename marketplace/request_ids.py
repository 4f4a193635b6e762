"""A number for each request: in the answer's X-Request-ID and beside every line that it logs."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from structlog.contextvars import bound_contextvars

HEADER = "X-Request-ID"
HUB_HEADER = "X-Amzn-Trace-Id"  # what Hub clients call it; they show the answer's number in their errors
_USABLE = re.compile(r"[A-Za-z0-9._-]{8,64}")  # it goes into logs


class RequestIds:
    """Takes over the number that a proxy or client sent where it is usable, so that their logs and ours meet."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get(HEADER) or request.headers.get(HUB_HEADER, "")
        number = given if _USABLE.fullmatch(given) else uuid.uuid4().hex
        with bound_contextvars(request_id=number):
            response = self.get_response(request)
        response[HEADER] = number
        return response
