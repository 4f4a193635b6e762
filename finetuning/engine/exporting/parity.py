"""Whether an ONNX file says what the release says, measured on test items from the raw input to the answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from finetuning.engine import runtime
from finetuning.engine.events import EventWriter
from finetuning.engine.packs import Item

MIN_AGREEMENT = 0.999  # below it a file is rejected
# Of boxes: among several that are nearly as sure, rounding decides which one suppresses the others.
MIN_BOX_AGREEMENT = 0.99
STAGE = "parity"
_CHUNK = 32  # items whose torch answers are computed at once
Floats = npt.NDArray[np.float32]


@dataclass(slots=True)
class Parity:
    """`agreed` of `compared` answers (`unit`: top-1 classes, pixels, boxes) over `items` test items are the same.
    `max_abs_difference` of each quantity, in its own unit."""

    unit: str
    minimum: float = MIN_AGREEMENT
    items: int = 0
    compared: int = 0
    agreed: int = 0
    max_abs_difference: dict[str, float] = field(default_factory=dict)

    @property
    def agreement(self) -> float:
        return self.agreed / self.compared if self.compared else 0.0

    @property
    def is_enough(self) -> bool:
        """Nothing compared is nothing proven; a difference that is no number is no small one."""
        return self.agreement >= self.minimum and bool(np.isfinite(list(self.max_abs_difference.values())).all())

    def differs(self, name: str, ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> None:
        """Takes note of the largest difference of two arrays of one shape."""
        own = float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max(initial=0.0))
        self.max_abs_difference[name] = max(own, self.max_abs_difference.get(name, 0.0), key=_not_finite_last)

    def to_json(self) -> dict[str, Any]:
        """`agreement` at most 1; a difference that is not finite is null."""
        finite = {name: value if np.isfinite(value) else None for name, value in self.max_abs_difference.items()}
        return {
            "unit": self.unit,
            "agreement": self.agreement,
            "minimum": self.minimum,
            "items": self.items,
            "compared": self.compared,
            "max_abs_difference": finite,
        }


def _not_finite_last(value: float) -> float:
    return value if np.isfinite(value) else np.inf


def session_of(content: bytes) -> onnxruntime.InferenceSession:
    """Returns a session on the processor with torch's number of threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Torch computes between two calls: threads that spin while they wait would take its processors.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def chosen(items: Sequence[Item], limit: int, *, seed: int) -> list[Item]:
    """Returns at most `limit` of the items, drawn from the seed, in the order given."""
    generator = torch.Generator().manual_seed(seed)
    places = sorted(torch.randperm(len(items), generator=generator)[:limit].tolist())
    return [items[place] for place in places]


def chunks(items: Sequence[Item], events: EventWriter) -> Iterator[list[Item]]:
    """Yields the items in parts, telling the progress, until all are done or the run is stopped."""
    for start in range(0, len(items), _CHUNK):
        runtime.check_stop()
        yield list(items[start : start + _CHUNK])
        events.progress(STAGE, min(start + _CHUNK, len(items)), len(items))
