"""What `serve` answers: the parts that tasks share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from finetuning.engine.frameworks import Loaded

TOP_CLASSES = 5
# From one RGB image, or a text, and how many predictions were asked for (None: the task's own number) to the
# JSON-ready part of the answer.
Answer = Callable[[Any, int | None], dict[str, Any]]


def ranked(loaded: Loaded, logits: Tensor, top: int | None) -> dict[str, Any]:
    """Returns the likeliest classes of logits (C,), each with its probability at the release's temperature; of a
    multi-label model all classes, each with its threshold and whether it is answered."""
    number = min(top or (len(loaded.labels) if loaded.is_multi_label else TOP_CLASSES), len(loaded.labels))
    shares, places = loaded.probabilities(logits).topk(number)
    rows = [
        {"label": loaded.labels[place], "index": place, "confidence": share}
        for share, place in zip(shares.tolist(), places.tolist(), strict=True)
    ]
    if loaded.is_multi_label:
        limits = [loaded.thresholds[row["index"]] for row in rows]
        rows = [
            {**row, "threshold": limit, "is_found": row["confidence"] >= limit}
            for row, limit in zip(rows, limits, strict=True)
        ]
    return {"predictions": rows}
