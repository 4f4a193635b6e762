"""What exported classifiers of images and of texts share: the end of their graphs, and how answers are compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from torch import Tensor

from finetuning.engine.exporting import graphs
from finetuning.engine.exporting.parity import Parity
from finetuning.engine.frameworks import Loaded
from finetuning.engine.labelling import decided

_OUTPUTS = ("logits", "probabilities", "class_index")
_OUTPUTS_OF_LABELS = ("logits", "probabilities", "found")


def outputs(loaded: Loaded) -> tuple[str, ...]:
    return _OUTPUTS_OF_LABELS if loaded.is_multi_label else _OUTPUTS


def notes(loaded: Loaded) -> dict[str, str]:
    """Returns what decides beside the probabilities."""
    return {"thresholds": json.dumps(list(loaded.thresholds))} if loaded.is_multi_label else {}


def unit(loaded: Loaded) -> str:
    """Returns what is compared one by one."""
    return "labels" if loaded.is_multi_label else "top-1 classes"


def answer(loaded: Loaded, *, batch: str = "") -> onnx.ModelProto:
    """Returns (scores (N, C) float32) => (logits, probabilities at the release's temperature, and class_index (N,)
    int64, or of a multi-label release found (N, C) bool: which classes reach their thresholds). `batch` names the
    dimension N; without it N is 1 and dropped: (C,), (C,), () or (C,)."""
    classes = len(loaded.labels)
    lead = f"{batch}, " if batch else ""
    if loaded.is_multi_label:
        last, squash = f"bool[{lead}{classes}] found", "Sigmoid"
        limits = ", ".join(f"{limit:.9e}" for limit in loaded.thresholds)
        decision = f"""limits = Constant <value_floats = [{limits}]> ()
        found = GreaterOrEqual (probabilities, limits)"""
    else:
        last, squash = f"{f'int64[{batch}]' if batch else 'int64'} class_index", "Softmax <axis = -1>"
        decision = "class_index = ArgMax <axis = -1, keepdims = 0> (logits)"
    return graphs.written(
        "answer",
        f"(float[{batch or 1}, {classes}] scores) => (float[{lead}{classes}] logits, "
        f"float[{lead}{classes}] probabilities, {last})",
        f"""
        logits = {"Identity (scores)" if batch else "Squeeze (scores)"}
        temperature = Constant <value_float = {loaded.temperature:.9e}> ()
        calibrated = Div (logits, temperature)
        probabilities = {squash} (calibrated)
        {decision}
        """,
    )


def tally(found: Parity, loaded: Loaded, wanted: Tensor, answers: Sequence[Any]) -> None:
    """Adds the release's logits (N, C) and the file's `outputs` for the same N items to what was found."""
    logits, probabilities, decisions = (np.asarray(column) for column in answers)
    shares = loaded.probabilities(wanted)
    found.differs("logits", wanted.numpy(), logits)
    found.differs("probabilities", shares.numpy(), probabilities)
    own = decided(shares, loaded.thresholds) if loaded.is_multi_label else wanted.argmax(1)
    found.items += len(wanted)
    found.compared += own.numel()
    found.agreed += int((own.numpy() == decisions).sum())
