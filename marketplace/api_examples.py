"""Puts what api_examples.json recorded of real calls into the schema. How it is recorded: tests/exchanges.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_suffix(".json")
_NAME = "recorded"


def with_examples(result: dict[str, Any], **_given: Any) -> dict[str, Any]:
    """Gives each call its example: the parts of its address, its JSON body, and its JSON answer of each status."""
    recorded = examples()
    for path in result["paths"].values():
        for call in path.values():
            example = recorded.get(call["operationId"], {})
            for parameter in call.get("parameters", ()):
                if parameter["in"] == "path" and parameter["name"] in example.get("path", {}):
                    parameter["example"] = example["path"][parameter["name"]]
            if "request" in example:
                _show(call.get("requestBody", {}), example["request"])
            for status, value in example.get("responses", {}).items():
                _show(call["responses"].get(status, {}), value)
    return result


@cache
def examples() -> dict[str, dict[str, Any]]:
    """Returns by operationId: `path`, the address' parts by name; `request`, a body; `responses`, answers by status.
    A call has those of the three that it takes and gives."""
    return dict(json.loads(RECORDED.read_text(encoding="utf-8")))


def json_media(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the media types of a request or an answer whose schema is of JSON."""
    for name, media in body.get("content", {}).items():
        if name.endswith(("/json", "+json")):
            yield media


def _show(body: dict[str, Any], value: Any) -> None:
    for media in json_media(body):
        media["examples"] = {_NAME: {"value": value}}
