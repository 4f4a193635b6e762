"""The engine's outputs while it works: typed events, one JSON object a line. Standard library only.

The writer appends; a reader keeps a byte offset and only ever takes whole lines, so a half-written line
is read later, and nothing is read twice.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from finetuning.engine import plain_files

MAX_LINE_BYTES = 64 * 1024
MAX_READ_BYTES = 4 * 2**20  # of one read, so that a flood of events does not fill the reader's memory
PROGRESS_SECONDS = 0.25  # between two progress events of a stage; a reader shows the newest only
_LATEST = 253_402_300_799.0  # the last second that a datetime can hold


class Kind(StrEnum):
    STARTED = "started"  # {pid, engine}: before any heavy import
    STAGE = "stage"  # {name, title}: what the engine does now
    PROGRESS = "progress"  # {stage, done, total, rate}: items, and items a second
    METRIC = "metric"  # {name, split, step, value}: one point of a curve, a gap where value is null
    CHECKPOINT = "checkpoint"  # {step}: what was learned up to there is on the disk; a killed run goes on from it
    TRIAL = "trial"  # of a search: a row of its result's `trials` as it stands; `ended` is empty while it may go on
    LOG = "log"  # {level, message}
    FINISHED = "finished"  # {seconds}
    FAILED = "failed"  # {code, message, items}: code is `user:...` or `app:...`


@dataclass(frozen=True, slots=True)
class Event:
    """`line` counts from 0 where its reader began; `at` is Unix time in seconds."""

    line: int
    at: float
    kind: Kind
    payload: dict[str, Any]


class EventWriter:
    """Appends events; every write is flushed so that a reader sees it at once."""

    def __init__(self, path: Path) -> None:
        broken_off = _ends_inside_a_line(path)
        self._file = path.open("a", encoding="utf-8")
        if broken_off:  # a killed predecessor's half line must not swallow our first
            self._file.write("\n")
        self._held: dict[str, Any] | None = None  # the newest progress that was not written yet
        self._stage = self._part = ""
        self._next_progress = 0.0

    def __enter__(self) -> Self:
        return self

    @contextmanager
    def part(self, name: str) -> Iterator[Self]:
        """Curves and progress written inside are named after a part of the run, and parts of it: `probe_loss`,
        `trial_1_probe_loss`."""
        before, self._part = self._part, f"{self._part}{name}_"
        try:
            yield self
        finally:
            self._part = before

    def __exit__(self, *_exception: object) -> None:
        self._write_held()
        self._file.close()

    def emit(self, kind: Kind, **payload: Any) -> None:
        self._write_held()
        line = json.dumps(_plain({"at": time.time(), "kind": kind.value, **payload}), allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()

    def stage(self, name: str, title: str) -> None:
        self.emit(Kind.STAGE, name=name, title=title)

    def progress(self, stage: str, done: int, total: int, *, rate: float = 0.0) -> None:
        """Writes a few a second; the last one is written before whatever comes next."""
        stage = self._part + stage
        if stage != self._stage:
            self._write_held()
            self._stage, self._next_progress = stage, 0.0
        self._held = {"stage": stage, "done": done, "total": total, "rate": round(rate, 2)}
        now = time.monotonic()
        if now >= self._next_progress or done >= total:
            self._next_progress = now + PROGRESS_SECONDS
            self._write_held()

    def metric(self, name: str, split: str, step: float, value: float) -> None:
        self.emit(Kind.METRIC, name=self._part + name, split=split, step=step, value=value)

    def log(self, message: str, *, level: str = "info") -> None:
        self.emit(Kind.LOG, level=level, message=message)

    def _write_held(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self.emit(Kind.PROGRESS, **held)


class EventTail:
    """Reads the events that have been added since the last call; with `from_end`, since now. Lines that are
    no event are counted in `garbage` and passed over; a file that shrinks is read from its start."""

    def __init__(self, path: Path, *, from_end: bool = False) -> None:
        self._path = path
        self._offset = path.lstat().st_size if from_end and path.exists() else 0
        self._line = 0
        self.garbage = 0
        self.has_more = False  # the last read took less than there was

    def read(self) -> list[Event]:
        try:
            with plain_files.reading(self._path.parent, self._path.name) as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = self._line = 0
                file.seek(self._offset)
                content = file.read(MAX_READ_BYTES)
        except (FileNotFoundError, plain_files.ForeignFileError):
            return []
        self.has_more = len(content) == MAX_READ_BYTES
        whole, newline, _ = content.rpartition(b"\n")
        if not newline:
            if self.has_more:  # a line that long is garbage, and so is its rest
                self._offset += len(content)
                self.garbage += 1
            return []
        self._offset += len(whole) + 1
        return [event for raw in whole.split(b"\n") if (event := self._parse(raw)) is not None]

    def _parse(self, raw: bytes) -> Event | None:
        line, self._line = self._line, self._line + 1
        try:
            document: Any = _plain(json.loads(raw)) if len(raw) <= MAX_LINE_BYTES else None
            payload = {name: value for name, value in document.items() if name not in {"at", "kind"}}
            at = float(document["at"])
            if not 0 <= at <= _LATEST:
                raise ValueError("no time")
            return Event(line, at, Kind(document["kind"]), payload)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            self.garbage += 1
            return None


def _ends_inside_a_line(path: Path) -> bool:
    if not path.exists() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _plain(value: Any) -> Any:
    """Returns the value as every database keeps it: null for what is not finite, no NUL, no half character.
    PostgreSQL's jsonb refuses all three."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
