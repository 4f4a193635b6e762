"""The items of an inspected upload, found by number, class and split without reading the whole index each time."""

from __future__ import annotations

import json
import threading
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from marketplace import storage

Entry = dict[str, Any]  # one item as docs/engine.md describes it
_KEPT_INDEXES = 8
_parsing = threading.Lock()


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: a class by its position in the report's `labels`, a split, words of the name or text."""

    label: int | None = None
    split: str = ""
    words: str = ""


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where each item's line begins, and what is asked of items most. `rows` maps an item's number to its line."""

    offsets: array[int]
    rows: dict[int, int]
    splits: dict[str, set[int]]
    labels: dict[int, set[int]]


def find(index_sha256: str, query: Query, *, start: int, count: int) -> tuple[list[Entry], int]:
    """Returns `count` of the matching items from the position `start` on, and how many match in all."""
    directory = _directory_of(index_sha256)
    chosen = list(range(len(directory.offsets)))
    if query.label is not None:
        chosen = sorted(directory.labels.get(query.label, ()))
    if query.split:
        inside = directory.splits.get(query.split, set())
        chosen = [row for row in chosen if row in inside]
    if query.words:
        chosen = _containing(index_sha256, directory, chosen, query.words.casefold())
    return _read(index_sha256, directory, chosen[start : start + count]), len(chosen)


def has_classes(index_sha256: str) -> bool:
    """Whether items can be looked for by class; those of masks that were checked long ago do not name theirs."""
    return bool(_directory_of(index_sha256).labels)


def by_number(index_sha256: str, numbers: Iterable[int]) -> dict[int, Entry]:
    """Returns the items with these numbers; numbers of no item are passed over."""
    directory = _directory_of(index_sha256)
    rows = [directory.rows[number] for number in numbers if number in directory.rows]
    return {entry["index"]: entry for entry in _read(index_sha256, directory, rows)}


def _read(index_sha256: str, directory: _Directory, rows: list[int]) -> list[Entry]:
    entries = []
    with storage.open_blob(index_sha256) as file:
        for row in rows:
            file.seek(directory.offsets[row])
            entries.append(json.loads(file.readline()))
    return entries


def _containing(index_sha256: str, directory: _Directory, rows: list[int], words: str) -> list[int]:
    with storage.open_blob(index_sha256) as file:
        found = []
        for row in rows:
            file.seek(directory.offsets[row])
            entry = json.loads(file.readline())
            if words in f"{entry['name']}\n{entry.get('text', '')}".casefold():
                found.append(row)
    return found


def _directory_of(index_sha256: str) -> _Directory:
    with _parsing:  # a blob never changes: it is parsed once, however many ask at the same time
        return _parsed(index_sha256)


@lru_cache(maxsize=_KEPT_INDEXES)
def _parsed(index_sha256: str) -> _Directory:
    offsets: array[int] = array("Q")
    rows: dict[int, int] = {}
    splits: dict[str, set[int]] = {}
    labels: dict[int, set[int]] = {}
    position = 0
    with storage.open_blob(index_sha256) as file:
        for line in file:
            if line.strip():
                entry, row = json.loads(line), len(offsets)
                rows[entry["index"]] = row
                offsets.append(position)
                splits.setdefault(entry["split"], set()).add(row)
                for label in classes_of(entry):
                    labels.setdefault(label, set()).add(row)
            position += len(line)
    return _Directory(offsets, rows, splits, labels)


def classes_of(entry: Entry) -> set[int]:
    """Returns the positions of an item's classes: its own, those that its mask shows, or those of its boxes."""
    own = {entry["label"]} if entry["label"] >= 0 else set(entry.get("labels", ()))
    return own | {int(box[0]) for box in entry.get("boxes", ())}
