"""What drf-spectacular cannot read off the views."""

from __future__ import annotations

from typing import Any

from drf_spectacular.openapi import AutoSchema
from rest_framework.serializers import ListSerializer, Serializer

from marketplace import sparse
from marketplace.errors import PROBLEM_JSON

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `code` is stable and listed in docs/api.md; `detail` says what to do.",
    "required": ["type", "title", "status", "code", "detail", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "code", "detail"],
                "properties": {
                    "field": {"type": "string"},
                    "code": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}
_REFUSAL = {
    "description": "A refusal",
    "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


_COUNTED = {
    "RateLimit": {"$ref": "#/components/headers/RateLimit"},
    "RateLimit-Policy": {"$ref": "#/components/headers/RateLimit-Policy"},
}
_TAG = {"ETag": {"$ref": "#/components/headers/ETag"}}
_IF_MATCH = {
    "in": "header",
    "name": "If-Match",
    "schema": {"type": "string"},
    "description": "The ETag of what you have read: where it is another one by now, 412 and nothing is changed",
}
_HEADERS = {
    "ETag": {
        "description": "What stands here now, for If-Match",
        "schema": {"type": "string", "examples": ['"6e340b9cffb37a989ca544e6bb780a2c"']},
    },
    "RateLimit": {
        "description": "Calls that are left (r), and seconds until the window ends (t)",
        "schema": {"type": "string", "examples": ['"api";r=1199;t=60']},
    },
    "RateLimit-Policy": {
        "description": "Calls of a window (q), and how many seconds it has (w)",
        "schema": {"type": "string", "examples": ['"fixed window";"api";q=1200;w=60']},
    },
}


class Schema(AutoSchema):
    """Every call can be refused, with a problem document (rest.exception_handler); what all may read needs no token."""

    def get_auth(self) -> list[dict[str, Any]]:
        known = super().get_auth()
        return [*known, {}] if self.method == "GET" and getattr(self.view, "public_read", False) else known

    def get_description(self) -> str:  # type: ignore[override]  # the stubs have DRF's older signature
        """Returns what the view's own docstring says: an inherited one is about its base class."""
        return super().get_description() if type(self.view).__doc__ else ""

    def _get_parameters(self) -> list[dict[str, Any]]:
        known: list[dict[str, Any]] = super()._get_parameters()
        if self.method in getattr(self.view, "tagged", ()):
            known = [*known, _IF_MATCH]
        names = self._names()
        return [*known, _fields(names)] if names else known

    def _names(self) -> list[str]:
        """Returns the fields that `fields` of a GET may name."""
        found = self.get_response_serializers() if self.method == "GET" else None
        if isinstance(found, type) and issubclass(found, Serializer):
            found = found()
        if isinstance(found, ListSerializer):
            found = found.child
        return list(found.fields) if isinstance(found, Serializer) else []

    def _tells_a_tag(self, status: str) -> bool:
        honored = getattr(self.view, "tagged", ())
        return status in ("200", "201") and bool(honored) and self.method in ("GET", "PUT", "PATCH")

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies = {**super()._get_response_bodies(direction), "default": _REFUSAL}
        return {
            status: {
                **body,
                "headers": {**body.get("headers", {}), **_COUNTED, **(_TAG if self._tells_a_tag(status) else {})},
            }
            for status, body in bodies.items()
        }


def _fields(names: list[str]) -> dict[str, Any]:
    return {
        "in": "query",
        "name": sparse.PARAMETER,
        "style": "form",
        "explode": False,
        "schema": {"type": "array", "items": {"type": "string", "enum": names}},
        "description": "Only these fields, of each row of a list",
    }


def with_sparse_answers(result: dict[str, Any], **_given: Any) -> dict[str, Any]:
    """Says of each answer that `fields` may shorten that it is whole, or has some of the fields."""
    shapes = result["components"]["schemas"]
    for path in result["paths"].values():
        call = path.get("get", {})
        if not any(one.get("name") == sparse.PARAMETER for one in call.get("parameters", ())):
            continue
        for answer in call["responses"].values():
            content = answer.get("content", {}).get("application/json")
            if content is not None:
                content["schema"] = {"anyOf": [content["schema"], _part(content["schema"], shapes)]}
    return result


def _part(schema: dict[str, Any], shapes: dict[str, Any]) -> dict[str, Any]:
    """Returns the same with no field of a row required; of a page and a list the rows'."""
    if schema.get("type") == "array":
        return {**schema, "items": _part(schema["items"], shapes)}
    name = schema["$ref"].rpartition("/")[2]
    whole = shapes[name]
    rows = whole["properties"].get("results")
    if name.startswith("Paginated") and rows:
        part = {**whole, "properties": {**whole["properties"], "results": _part(rows, shapes)}}
    else:
        part = {key: value for key, value in whole.items() if key != "required"}
    shapes[f"{name}Part"] = part
    return {"$ref": f"#/components/schemas/{name}Part"}


def with_problem(result: dict[str, Any], **_given: Any) -> dict[str, Any]:
    """Adds the components that every answer refers to."""
    result["components"]["schemas"]["Problem"] = _PROBLEM
    result["components"]["headers"] = _HEADERS
    return result
