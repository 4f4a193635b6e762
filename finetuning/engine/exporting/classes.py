"""What exported classifiers of images and of texts share: the end of their graphs, and how answers are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from torch import Tensor

from finetuning.engine.exporting import graphs
from finetuning.engine.exporting.parity import Parity
from finetuning.engine.frameworks import Loaded

OUTPUTS = ("logits", "probabilities", "class_index")
UNIT = "top-1 classes"


def answer(loaded: Loaded, *, batch: str = "") -> onnx.ModelProto:
    """Returns (scores (N, C) float32) => (logits, probabilities: softmax at the release's temperature, class_index).
    `batch` names the dimension N; without it N is 1 and dropped: (C,), (C,), ()."""
    classes = len(loaded.labels)
    lead = f"{batch}, " if batch else ""
    index = f"int64[{batch}]" if batch else "int64"
    return graphs.written(
        "answer",
        f"(float[{batch or 1}, {classes}] scores) => (float[{lead}{classes}] logits, "
        f"float[{lead}{classes}] probabilities, {index} class_index)",
        f"""
        logits = {"Identity (scores)" if batch else "Squeeze (scores)"}
        temperature = Constant <value_float = {loaded.temperature:.9e}> ()
        calibrated = Div (logits, temperature)
        probabilities = Softmax <axis = -1> (calibrated)
        class_index = ArgMax <axis = -1, keepdims = 0> (logits)
        """,
    )


def tally(found: Parity, loaded: Loaded, wanted: Tensor, answers: Sequence[Any]) -> None:
    """Adds the release's logits (N, C) and the file's `OUTPUTS` for the same N items to what was found."""
    logits, probabilities, classes = (np.asarray(column) for column in answers)
    found.differs("logits", wanted.numpy(), logits)
    found.differs("probabilities", (wanted / loaded.temperature).softmax(1).numpy(), probabilities)
    found.items += len(wanted)
    found.compared += len(wanted)
    found.agreed += int((wanted.argmax(1).numpy() == classes).sum())
