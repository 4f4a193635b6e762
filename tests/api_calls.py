"""The calls that the schema declares, and what is wrong with an example of one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator

from marketplace.api_examples import json_media


@dataclass(frozen=True, slots=True)
class Call:
    operation: str  # its operationId
    address: tuple[str, str]  # method and path as the schema writes them
    parts: frozenset[str]  # of the path
    request: Draft202012Validator | None  # where it takes JSON
    answers: dict[str, Draft202012Validator]  # by status, where it is JSON

    def faults(self, example: dict[str, Any]) -> Iterator[str]:
        """Yields what is missing, not declared, or not of its schema. A field that the schema does not know is a fault
        too: it was renamed or taken away after the recording."""
        if set(example.get("path", {})) != self.parts:
            yield f"path: has {sorted(example.get('path', {}))}, not {sorted(self.parts)}"
        yield from _faults("request", self.request, example.get("request"))
        recorded = example.get("responses", {})
        for status in sorted(self.answers.keys() | recorded.keys()):
            yield from _faults(status, self.answers.get(status), recorded.get(status))


def _faults(place: str, schema: Draft202012Validator | None, value: Any) -> Iterator[str]:
    if schema is None:
        if value is not None:
            yield f"{place}: the schema has no JSON here"
    elif value is None or is_empty(value):
        yield f"{place}: no example"
    else:
        for error in schema.iter_errors(value):
            yield f"{place}: {error.json_path} {error.message[:300]}"


def is_empty(value: Any) -> bool:
    """An empty list shows no more than no example would."""
    return bool(value == [] or (isinstance(value, dict) and value.get("results") == []))


def declared() -> dict[str, Call]:
    """Returns the calls of the whole schema by operationId."""
    schema = SchemaGenerator().get_schema(request=None, public=True)
    components = {"schemas": {name: _closed(shape) for name, shape in schema["components"]["schemas"].items()}}
    found = [
        Call(
            operation=call["operationId"],
            address=(method.upper(), path),
            parts=frozenset(one["name"] for one in call.get("parameters", ()) if one["in"] == "path"),
            request=_validator(call.get("requestBody", {}), components),
            answers={
                status: validator
                for status, answer in call["responses"].items()
                if status.startswith("2") and (validator := _validator(answer, components))
            },
        )
        for path, methods in schema["paths"].items()
        for method, call in methods.items()
    ]
    return {call.operation: call for call in found}


def _validator(body: dict[str, Any], components: dict[str, Any]) -> Draft202012Validator | None:
    media = next(json_media(body), None)
    if media is None:
        return None
    # An example is the whole of an answer, the first of what schema.with_sparse_answers allows.
    whole = media["schema"].get("anyOf", [media["schema"]])[0]
    return Draft202012Validator({**_closed(whole), "components": components})


def _closed(shape: Any) -> Any:
    """Returns the schema without room for fields that it does not name."""
    if isinstance(shape, list):
        return [_closed(one) for one in shape]
    if not isinstance(shape, dict):
        return copy.copy(shape)
    closed = {key: _closed(value) for key, value in shape.items()}
    if isinstance(shape.get("properties"), dict) and shape.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed
