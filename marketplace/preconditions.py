"""ETag and If-Match on edits (RFC 9110, 13.1): a change is made only to the state that its author has seen.

    class OneThing(View):
        tagged = ("PATCH",)

        def patch(self, request):
            with unchanged(request, lock=..., tag=tag_of):
                things.change(...)

Without the header all is as if this were not there. A tag stands for what can be edited, not for counts, for what the reader
may do, or for the time: these change without anybody having edited anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.core.exceptions import ObjectDoesNotExist
from django.db import models, transaction
from django.utils.http import parse_etags
from rest_framework.request import Request
from rest_framework.response import Response

from marketplace.errors import Broken, DomainError
from marketplace.rest import SAFE

HEADERS = ("If-Match", "If-None-Match")
_CHARACTERS = 32  # of the SHA-256
Row = TypeVar("Row")


class Stale(DomainError):
    """It is not what its editor has seen."""

    status = 412


def tag_of(row: models.Model, *more: Any, without: Collection[str] = ()) -> str:
    """Returns the strong ETag of the row's own columns, but those of `without`, and of `more`."""
    fields = [field for field in row._meta.concrete_fields if field.name not in without]  # noqa: SLF001 - Django's public name
    facts = [row._meta.label, [[field.attname, getattr(row, field.attname)] for field in fields], more]  # noqa: SLF001
    text = json.dumps(facts, default=str, sort_keys=True)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:_CHARACTERS]}"'


def tagged(response: Response, tag: str) -> Response:
    response["ETag"] = tag
    return response


@contextmanager
def unchanged(request: Request, *, lock: Callable[[], Row | None], tag: Callable[[Row], str | None]) -> Iterator[None]:
    """Runs its body only while the thing is what the request's If-Match names, or where If-None-Match is `*` only while it
    is not there: `lock` returns the row, locked, in the transaction that the body runs in, so that nobody changes it
    between the look and the change. Raises Stale (`precondition_failed`)."""
    if not is_conditional(request):
        yield
        return
    with transaction.atomic():
        try:
            row = lock()
        except ObjectDoesNotExist:
            row = None
        require(request, tag(row) if row is not None else None)
        yield


def is_conditional(request: Request) -> bool:
    return any(name in request.headers for name in HEADERS)


def require(request: Request, current: str | None) -> None:
    """Raises Stale (`precondition_failed`) unless the request's conditions hold for the present tag; None is of what is
    not there."""
    wanted, unwanted = request.headers.get("If-Match"), request.headers.get("If-None-Match")
    # Compared strongly: `W/"..."` stands in no list of strong tags.
    missed = wanted is not None and (current is None or not {"*", current} & set(parse_etags(wanted)))
    met = unwanted is not None and current is not None and {"*", current} & set(parse_etags(unwanted))
    if missed or met:
        text = (
            "It has changed since you read it, or was not there. Read it again, and make your change to what it is now."
        )
        raise Stale("precondition_failed", text, extra={"etag": current})


def refuse_elsewhere(request: Request, honored: Collection[str]) -> None:
    """Raises Broken (`no_etag_here`) for an If-Match on a call that would not look at it: whoever sends one relies on it."""
    if "If-Match" in request.headers and request.method not in (*SAFE, *honored):
        raise Broken("no_etag_here", "This call knows no ETag: leave If-Match out.")
