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
    """Returns the likeliest classes of logits (C,), each with its softmax share at the release's
    temperature."""
    shares, places = (logits.float() / loaded.temperature).softmax(0).topk(min(top or TOP_CLASSES, len(loaded.labels)))
    return {
        "predictions": [
            {"label": loaded.labels[place], "index": place, "confidence": share}
            for share, place in zip(shares.tolist(), places.tolist(), strict=True)
        ]
    }
