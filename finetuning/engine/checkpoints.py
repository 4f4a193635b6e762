"""Everything that a run needs to go on exactly where it was: written whole, or not at all.

With the randomness a function of (seed, epoch, step, item), no generator's state needs saving.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from finetuning.engine.crash_points import Point, reach
from finetuning.engine.events import EventWriter
from finetuning.engine.results import write_durably
from finetuning.engine.spec import (
    CHECKPOINT_DIGEST_BYTES,
    CHECKPOINT_VARIABLE,
    CHECKPOINTS_DIR,
    TrainSpec,
    canonical,
    to_json,
)

KEPT = 2
INTERVAL_SECONDS = 60.0
_STEPS = (Point.CHECKPOINT_WRITTEN, Point.CHECKPOINT_SYNCED, Point.CHECKPOINT_RENAMED)


def interval_seconds() -> float:
    """Returns how long an epoch goes on without a checkpoint. It moves no number of a run, so it is the
    operator's choice, by the environment, and no part of the spec."""
    return float(os.environ.get(CHECKPOINT_VARIABLE, INTERVAL_SECONDS))


def checkpoints_of(spec: TrainSpec, run_dir: Path, part: str = "") -> Checkpoints:
    """Returns the states of a run's training, or of one `part` of it, that belong to this very spec."""
    identity = hashlib.sha256(canonical([part, to_json(spec)])).hexdigest()
    return Checkpoints(run_dir / CHECKPOINTS_DIR / part, identity=identity)


class Checkpoints:
    """The newest states of one run, below `directory`. Each file is its payload after its own SHA-256, so that
    a torn one is noticed and the older one used."""

    def __init__(self, directory: Path, *, identity: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory, self._identity = directory, identity

    def save(self, state: dict[str, Any], *, step: int) -> None:
        """Writes the state of `step` durably and drops all but the newest two. It is the newest by name, whatever lies
        there: one that is damaged or of another run would otherwise be found again and again."""
        buffer = io.BytesIO()
        torch.save({"identity": self._identity, **state}, buffer)
        content = buffer.getvalue()
        newest = max((int(path.stem) for path in self._files()), default=0)
        path = self._directory / f"{step if step >= newest else newest + 1:012d}.ckpt"
        write_durably(path, hashlib.sha256(content).digest() + content, steps=_STEPS)
        reach(Point.CHECKPOINT_SAVED)
        for old in self._files()[:-KEPT]:
            old.unlink()

    def load(self, events: EventWriter) -> dict[str, Any] | None:
        """Returns the newest whole state of this very run, or None."""
        for path in reversed(self._files()):
            content = path.read_bytes()
            digest, payload = content[:CHECKPOINT_DIGEST_BYTES], content[CHECKPOINT_DIGEST_BYTES:]
            if hashlib.sha256(payload).digest() != digest:
                events.log(f"The checkpoint {path.stem} is damaged: using an older one.", level="warning")
                continue
            state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
            if state.pop("identity") == self._identity:
                return state
            events.log(f"The checkpoint {path.stem} belongs to another run: starting again.", level="warning")
        return None

    def clear(self) -> None:
        for path in self._files():
            path.unlink()

    def _files(self) -> list[Path]:
        return sorted(path for path in self._directory.glob("*.ckpt") if path.stem.isdecimal())
