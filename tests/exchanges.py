"""Records examples for the API's schema out of the calls that the tests make: RECORD_EXAMPLES=1 (CONTRIBUTING.md).

An example that still fits its call stays; others are replaced by the fullest exchange of reasonable size. To record
all of them anew, empty marketplace/api_examples.json to `{}` first.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import api_calls
import pytest
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from drf_spectacular.generators import EndpointEnumerator

from marketplace import api_examples

PREFIX = "/api/v1/"
MAX_BODY_BYTES = 20_000
MAX_EXAMPLE_CHARACTERS = 3_000  # of both bodies; longer ones are taken where there are no others
MAX_ROWS = 2
MAX_PROSE_CHARACTERS = 200
KEPT = 6  # exchanges of a call that are remembered
WHEN = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)  # the time of every recording
FAKE = "EXAMPLE"
_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
_DATE = re.compile(r"\d{4}-(?:0[1-9]|1[012])-(?:0[1-9]|1\d|2[0-8])")
_CREDENTIAL = re.compile(r"\b([a-z]{2,6}_)[0-9A-Za-z+/=]{24,}")
_SECRET_FIELDS = {"secret", "token", "key", "password"}
_HINT_FIELDS = {"hint", "key_hint"}
_HINT = re.compile(r"\(…\w+\)")  # of a token, in the audit log
_MONTH = re.compile(r"\d{4}-(?:0[1-9]|1[012])")
_RECEIVER = re.compile(r"http://127\.0\.0\.1:\d+")

Exchange = dict[str, Any]  # as api_examples.examples() has them, with one response
_seen: dict[str, list[Exchange]] = {}  # by "METHOD /path"


def middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """The innermost one of settings.MIDDLEWARE while examples are recorded."""

    def recorded(request: HttpRequest) -> HttpResponse:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
        readable = "json" in (request.content_type or "") and length <= MAX_BODY_BYTES
        body = request.body if readable and request.path.startswith(PREFIX) else b""
        response = get_response(request)
        if request.path.startswith(PREFIX) and "fields" not in request.GET:
            _remember(request, body, response)
        return response

    return recorded


def _remember(request: HttpRequest, body: bytes, response: HttpResponse) -> None:
    match = request.resolver_match
    if match is None or not 200 <= response.status_code < 300:
        return
    # DRF's schemas call a `pk` so (SCHEMA_COERCE_PATH_PK).
    exchange: Exchange = {"path": {"id" if name == "pk" else name: str(value) for name, value in match.kwargs.items()}}
    if body:
        exchange["request"] = json.loads(body)
    exchange["responses"] = {}
    if response.headers.get("Content-Type", "").partition(";")[0] == "application/json":
        content = response.getvalue()
        if response.streaming:  # and is read by that
            response.streaming_content = [content]
        answer = json.loads(content)
        if api_calls.is_empty(answer):
            return
        exchange["responses"] = {str(response.status_code): answer}
    _keep(f"{request.method} {_path(match.route)}", [_Anonymous().of(exchange)])


@cache
def _path(route: str) -> str:
    """Returns the address as the schema writes it."""
    return EndpointEnumerator().get_path_from_regex(route).replace("{pk}", "{id}")


def _keep(call: str, exchanges: list[Exchange]) -> None:
    """Remembers the best of each kind: by their status, and whether they have a request in JSON."""
    known: dict[tuple[str, bool], list[Exchange]] = {}
    for one in sorted([*_seen.get(call, []), *exchanges], key=_rank):
        alike = known.setdefault(_kind(one), [])
        if len(alike) < KEPT and one not in alike:
            alike.append(one)
    _seen[call] = [one for alike in known.values() for one in alike]


def _kind(exchange: Exchange) -> tuple[str, bool]:
    return "".join(exchange["responses"]), "request" not in exchange


def _rank(exchange: Exchange) -> tuple[bool, int, int, str]:
    """Orders the fullest of reasonable size first, and equal ones always alike."""
    text = json.dumps(exchange, sort_keys=True)
    return len(text) > MAX_EXAMPLE_CHARACTERS, -len(_filled(exchange)), len(text), text


def _filled(value: Any, place: str = "") -> set[str]:
    """Returns the fields that say something; rows of a list count once."""
    if isinstance(value, dict):
        return {found for key, one in value.items() for found in _filled(one, f"{place}.{key}")}
    if isinstance(value, list):
        return {found for one in value for found in _filled(one, f"{place}[]")}
    return set() if value in (None, "") else {place}


class _Anonymous:
    """Rewrites an exchange so that it holds no secret, and would be the same on another day."""

    def __init__(self) -> None:
        self.uuids: dict[str, str] = {}
        self.shift = WHEN - timezone.now()

    def of(self, value: Any, field: str = "", *, is_answer: bool = False) -> Any:
        if isinstance(value, dict):
            return {key: self.of(one, key, is_answer=is_answer or key == "responses") for key, one in value.items()}
        if isinstance(value, list):
            return [self.of(one, field, is_answer=is_answer) for one in (value[:MAX_ROWS] if is_answer else value)]
        if not isinstance(value, str):
            return value
        if field in _HINT_FIELDS and value:
            return FAKE[-len(value) :]
        text = self._text(value)
        if text == value and field in _SECRET_FIELDS:
            return FAKE
        if is_answer and len(text) > MAX_PROSE_CHARACTERS and " " in text:
            return text[:MAX_PROSE_CHARACTERS].rsplit(" ", 1)[0] + " …"
        return text

    def _text(self, text: str) -> str:
        if _DATE.fullmatch(text):
            return (date.fromisoformat(text) + self.shift).isoformat()
        if _MONTH.fullmatch(text):
            return (date.fromisoformat(f"{text}-15") + self.shift).strftime("%Y-%m")
        text = _HINT.sub(f"(…{FAKE[-4:]})", text)
        text = _RECEIVER.sub("https://receiver.example.com", text)
        text = _CREDENTIAL.sub(lambda found: found[1] + FAKE, text)
        text = _TIME.sub(self._time, text)
        text = _UUID.sub(self._uuid, text)
        return text.replace("http://testserver", "https://models.example.com")

    def _time(self, found: re.Match[str]) -> str:
        shifted = datetime.fromisoformat(found[0]) + self.shift + timedelta(seconds=30)  # to the nearest minute
        return shifted.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:00Z")

    def _uuid(self, found: re.Match[str]) -> str:
        return self.uuids.setdefault(found[0], str(uuid.uuid5(uuid.NAMESPACE_URL, str(len(self.uuids)))))


class Recorder:
    """Brings together what pytest's workers have seen, and writes it at the end."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        for call, exchanges in json.loads(getattr(node, "workeroutput", {}).get("exchanges", "{}")).items():
            _keep(call, exchanges)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["exchanges"] = json.dumps(_seen)
            return
        known = api_examples.examples()
        chosen = {name: _chosen(call, known.get(name, {})) for name, call in api_calls.declared().items()}
        text = json.dumps(
            {name: one for name, one in chosen.items() if one}, indent=1, sort_keys=True, ensure_ascii=False
        )
        api_examples.RECORDED.write_text(text + "\n", encoding="utf-8")


def _chosen(call: api_calls.Call, known: Exchange) -> Exchange:
    """Returns the known example where it is without fault, else one that is put together anew as far as it goes."""
    if known and not any(call.faults(known)):
        return known
    found: Exchange = {}
    # The request is that of the best exchange of the lowest status.
    for one in sorted(_seen.get(" ".join(call.address), []), key=lambda one: (_kind(one), _rank(one))):
        new = {"path": one["path"], **found, "responses": {**one["responses"], **found.get("responses", {})}}
        if call.request is not None and "request" in one:
            new.setdefault("request", one["request"])
        missing = list(call.faults(new))
        if len(missing) < len(list(call.faults(found))) and all(fault.endswith(": no example") for fault in missing):
            found = new
    return {part: value for part, value in found.items() if value or part == "request"}
