"""The engine's outputs while it works: typed events, one JSON object a line. Standard library only.

The writer appends; a reader keeps a byte offset and only ever takes whole lines, so a half-written line
is read later, and nothing is read twice.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

MAX_LINE_BYTES = 64 * 1024


class Kind(StrEnum):
    STARTED = "started"  # {pid, engine}: before any heavy import
    STAGE = "stage"  # {name, title}: what the engine does now
    PROGRESS = "progress"  # {stage, done, total, rate}: rate in items a second
    METRIC = "metric"  # {name, split, step, value}: one point of a curve
    LOG = "log"  # {level, message}
    FINISHED = "finished"  # {seconds}
    FAILED = "failed"  # {code, message, items}: code is `user:...` or `app:...`


@dataclass(frozen=True, slots=True)
class Event:
    """`line` counts from 0 in its file; `at` is Unix time in seconds."""

    line: int
    at: float
    kind: Kind
    payload: dict[str, Any]


class EventWriter:
    """Appends events; every write is flushed so that a reader sees it at once."""

    def __init__(self, path: Path, *, part: str = "") -> None:
        self._path, self._part = path, part
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def part(self, name: str) -> EventWriter:
        """Returns a writer to the same file whose curves and progress are named after a part of the run:
        `probe_loss`."""
        return EventWriter(self._path, part=f"{name}_")

    def __exit__(self, *_exception: object) -> None:
        self._file.close()

    def emit(self, kind: Kind, **payload: Any) -> None:
        self._file.write(json.dumps({"at": time.time(), "kind": kind.value, **payload}) + "\n")
        self._file.flush()

    def stage(self, name: str, title: str) -> None:
        self.emit(Kind.STAGE, name=name, title=title)

    def progress(self, stage: str, done: int, total: int, *, rate: float = 0.0) -> None:
        self.emit(Kind.PROGRESS, stage=self._part + stage, done=done, total=total, rate=round(rate, 2))

    def metric(self, name: str, split: str, step: float, value: float) -> None:
        self.emit(Kind.METRIC, name=self._part + name, split=split, step=step, value=value)

    def log(self, message: str, *, level: str = "info") -> None:
        self.emit(Kind.LOG, level=level, message=message)


class EventTail:
    """Reads the events that have been added since the last call. Lines that are no event are counted in
    `garbage` and passed over; a file that shrinks is read from its start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._line = 0
        self.garbage = 0

    def read(self) -> list[Event]:
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = self._line = 0
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        whole, newline, _ = content.rpartition(b"\n")
        if not newline:
            return []
        self._offset += len(whole) + 1
        return [event for raw in whole.split(b"\n") if (event := self._parse(raw)) is not None]

    def _parse(self, raw: bytes) -> Event | None:
        line, self._line = self._line, self._line + 1
        try:
            document: Any = json.loads(raw) if len(raw) <= MAX_LINE_BYTES else None
            payload = {name: value for name, value in document.items() if name not in {"at", "kind"}}
            return Event(line, float(document["at"]), Kind(document["kind"]), payload)
        except (AttributeError, KeyError, TypeError, ValueError):
            self.garbage += 1
            return None
