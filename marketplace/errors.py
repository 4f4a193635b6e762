"""The failures that a person caused and can mend. One handler each turns them into pages and problem+json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import DataError

PROBLEM_JSON = "application/problem+json"


def problem_document(
    *, status: int, code: str, detail: str, errors: list[dict[str, str]] | None = None, **extra: Any
) -> dict[str, Any]:
    """Returns what a client is told of a failure (RFC 9457); `code` is the stable part."""
    return {
        "type": f"/docs/errors#{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
        "errors": errors or [],
        **extra,
    }


class DomainError(Exception):
    """`code` is stable and listed in docs/api.md; `message` is one sentence saying what to do next."""

    status = 400

    def __init__(
        self,
        code: str,
        message: str,
        *,
        field: str = "",
        items: Sequence[str] = (),
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.items = list(items)
        self.extra = extra or {}


class Invalid(DomainError):
    """The input cannot be used as it is."""

    status = 422


class Conflict(DomainError):
    """The input is fine; the present state forbids it."""

    status = 409


class Gone(DomainError):
    """It was there, and is no more."""

    status = 410


class Denied(DomainError):
    """A policy said no."""

    status = 403


class TooLarge(DomainError):
    status = 413


class TooMany(DomainError):
    """The same person did this too often of late."""

    status = 429


class Broken(DomainError):
    """What was sent did not arrive whole."""

    status = 400


class Unavailable(DomainError):
    """Something that this server needs is not there now."""

    status = 503


class StorageFull(Unavailable):
    status = 507


def of_the_sender(error: Exception) -> Exception:
    """Returns the error, or what it means where people sent text with a NUL, which PostgreSQL has no place for: no name
    and no text here has one, so that it is looked for in vain."""
    if isinstance(error, DataError) and "NUL (0x00)" in str(error):
        return Broken("null_character", "Text here has no NUL (0x00) characters. Leave them out.")
    return error
