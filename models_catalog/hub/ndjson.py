"""The body of a commit: one JSON object a line, read as a stream and bounded in every way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from marketplace import storage
from marketplace.errors import Broken
from models_catalog.hub.base import ErrorCode, HubError
from models_catalog.services import verdicts
from models_catalog.services.commits import Change, Message
from models_catalog.services.publishing import MAX_FILES, MAX_PATH_CHARACTERS

MAX_LINE_BYTES = 8 * 2**20
MAX_BODY_BYTES = 64 * 2**20
MAX_LINES = 4 * MAX_FILES
_REVISION = re.compile(r"[0-9a-f]{7,64}")
Keep = Callable[[str, str], storage.Blob]
Known = Callable[[str, int | None], storage.Blob]


class Lines(Protocol):
    def readline(self, size: int = ..., /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Sent:
    change: Change
    parent: str
    said: Message


def read(body: Lines, *, keep: Keep, known: Known) -> Sent:
    """Returns what the commit is to do. `keep` stores a file's base64, `known` gives the blob of a large file that was
    sent before. Raises HubError (400, 413), and what these two raise; nothing refers to what was stored then."""
    entries = _entries(body)
    kind, header = next(entries, ("", {}))
    if kind != "header":
        raise bad("The first line of a commit is its header.")
    parent = header.get("parentCommit") or ""
    if parent and not (isinstance(parent, str) and _REVISION.fullmatch(parent)):
        raise bad("parentCommit is a revision.")
    files: dict[str, storage.Blob] = {}
    removed: set[str] = set()
    folders: set[str] = set()
    for kind, value in entries:
        path = _path(value)
        if kind == "file":
            files[path] = keep(path, _content(value))
        elif kind == "lfsFile":
            files[path] = known(*_pointer(value))
        elif kind == "deletedFile":
            removed.add(path)
        elif kind == "deletedFolder":
            folders.add(path)
        else:
            raise bad(f"A commit has no entries of the kind {kind[:40]!r}.")
    if len(files) > MAX_FILES:
        raise bad(f"A release holds at most {MAX_FILES} files.")
    summary, description = (verdicts.storable(str(header.get(part) or "")) for part in ("summary", "description"))
    said = Message(summary, description)
    return Sent(Change(files, frozenset(removed), frozenset(folders)), parent, said)


def bad(message: str) -> HubError:
    return HubError(400, ErrorCode.NONE, message)


def _entries(body: Lines) -> Iterator[tuple[str, dict[str, Any]]]:
    for line in _lines(body):
        try:
            entry = json.loads(line)
            kind, value = entry["key"], entry["value"]
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise bad("A commit is lines of JSON objects with `key` and `value`.") from error
        if not isinstance(kind, str) or not isinstance(value, dict):
            raise bad("The `value` of each line is an object.")
        yield kind, value


def _lines(body: Lines) -> Iterator[bytes]:
    total = count = 0
    while line := _readline(body):
        total += len(line)
        count += 1
        if len(line) > MAX_LINE_BYTES or total > MAX_BODY_BYTES or count > MAX_LINES:
            text = "This is too much for one commit. Send large files by LFS or Xet, or fewer at once."
            raise HubError(413, ErrorCode.NONE, text)
        if line.strip():
            yield line


def _readline(body: Lines) -> bytes:
    try:
        return body.readline(MAX_LINE_BYTES + 1)
    except OSError as error:  # Django's UnreadablePostError among them
        raise Broken("upload_broken", "The upload broke off. Send the commit again.") from error


def _path(value: dict[str, Any]) -> str:
    path = value.get("path")
    if not isinstance(path, str):
        raise bad("Each change has a `path`.")
    return require_sound(path.rstrip("/"))


def require_sound(path: str) -> str:
    """Returns a path that stays inside a folder, wherever it is written. Raises HubError (400)."""
    parts = path.split("/")
    is_sound = len(path) <= MAX_PATH_CHARACTERS and path.isprintable() and "\\" not in path
    if not is_sound or not {"", ".", "..", ".git"}.isdisjoint(parts):
        raise bad("A file's path is relative, without '..', '.git', backslashes or empty parts.")
    return path


def _content(value: dict[str, Any]) -> str:
    content = value.get("content")
    if not isinstance(content, str) or value.get("encoding", "base64") != "base64":
        raise bad("The content of a file is base64.")
    return content


def _pointer(value: dict[str, Any]) -> tuple[str, int | None]:
    oid, size = value.get("oid"), value.get("size")
    if value.get("algo", "sha256") != "sha256" or not isinstance(oid, str) or not storage.is_digest(oid):
        raise bad("A large file is named by its SHA-256.")
    if size is not None and not isinstance(size, int):
        raise bad("The size of a large file is a number of bytes.")
    return oid, size
