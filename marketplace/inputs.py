"""What clients send: the base of every input, and a JSON reader that explains what it refuses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError
from rest_framework.parsers import BaseParser

from marketplace.errors import TooLarge

MAX_JSON_BYTES = 2**20
MAX_JSON_DEPTH = 20
# Marks that turn the reading direction round: a name that holds one shows as another name.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Input(serializers.Serializer[Any]):
    """Refuses what it does not know: a misspelled or read-only field that is ignored is a wrong answer."""

    default_error_messages = {
        "invalid": "Send a JSON object with these fields.",
        "null": "Send a JSON object with these fields.",
    }

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping) and (unknown := [name for name in data if name not in self.fields]):
            known = ", ".join(name for name, field in self.fields.items() if not field.read_only)
            text = f"There is no such field to set; the fields are {known}."
            raise ValidationError({str(name)[:100]: [ErrorDetail(text, "unknown_field")] for name in unknown[:20]})
        values = super().to_internal_value(data)
        turning = [name for name, value in values.items() if isinstance(value, str) and not _TURNING.isdisjoint(value)]
        if turning:
            text = "Remove the marks that change the reading direction: they make a text look like another."
            raise ValidationError({name: [ErrorDetail(text, "bad_text")] for name in turning})
        return values


class JsonBody(BaseParser):
    """JSON (RFC 8259) of a bounded size and depth, as UTF-8. Numbers that JSON does not have are refused."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        content = stream.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise TooLarge("too_large", f"A JSON body has at most {MAX_JSON_BYTES >> 20} MiB.")
        try:
            document = json.loads(content.decode("utf-8"), parse_constant=_no_number)
        except UnicodeDecodeError as error:
            raise ParseError("The body is not UTF-8. Encode the JSON as UTF-8.") from error
        except RecursionError as error:
            raise ParseError(_too_deep()) from error
        except ValueError as error:
            place = f" at line {error.lineno}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise ParseError(f"The body is not JSON{place}. Send one JSON object.") from error
        if document is None:
            raise ParseError("The body is null. Send one JSON object.")
        if _depth(document) > MAX_JSON_DEPTH:
            raise ParseError(_too_deep())
        return document


def _no_number(name: str) -> NoReturn:
    raise ParseError(f"{name} is no JSON number. Send a finite number.")


def _too_deep() -> str:
    return f"The JSON is nested more than {MAX_JSON_DEPTH} deep. Send a flatter object."


def _depth(document: Any) -> int:
    """Counts levels without recursion, and no further than is needed."""
    level, depth = [document], 0
    while level and depth <= MAX_JSON_DEPTH:
        depth += 1
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return depth
