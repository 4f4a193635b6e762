"""Whether confidences are true: of all answers given at 80%, are 80% right? And the one number that mends them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from finetuning.engine.evaluation.intervals import Floats, Ints
from finetuning.engine.frameworks.loaded import TEMPERATURES
from finetuning.engine.labelling import ONE_CLASS, Labelling

BINS = 15  # Guo et al. 2017, arXiv 1706.04599, section 5
_MAX_ITERATIONS = 100


def temperature(logits: Tensor, labels: Tensor, labelling: Labelling = ONE_CLASS) -> float:
    """Returns T > 0 that minimises the loss of logits (N, C) / T with `labels`, by L-BFGS on log T (Guo et al. 2017,
    section 4.2). The order of the answers stays the same, only their confidences change.

    The logits must be of items that the weights were not fitted to. Without a single mistake among them the
    cross-entropy has no minimum, it falls with T for ever: they cannot tell, and T is 1."""
    rows = logits.detach().double()
    answers = (rows > 0).to(labels.dtype) if labelling.is_multi else rows.argmax(dim=1)
    if bool((answers == labels).all()):
        return 1.0
    exponent = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([exponent], max_iter=_MAX_ITERATIONS, line_search_fn="strong_wolfe")
    low, high = (math.log(end) for end in TEMPERATURES)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = labelling.loss(rows / exponent.clamp(low, high).exp(), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    found = float(exponent.detach().clamp(low, high).exp())
    return found if math.isfinite(found) else 1.0


def summary(logits: Tensor, labels: Tensor, found: float, labelling: Labelling = ONE_CLASS) -> dict[str, float]:
    """Returns the temperature and the mean loss, in nats, of the items it was fitted to, without and with it."""
    rows = logits.detach().double()
    return {
        "temperature": found,
        "items": len(labels),
        "loss_before": float(labelling.loss(rows, labels)),
        "loss_after": float(labelling.loss(rows / found, labels)),
    }


@dataclass(frozen=True, slots=True)
class Bins:
    """`number`, (N,) or (N, K), is each answer's bin; `gaps` (N, BINS) holds the sum of confidence - right of an item's
    answers in that bin's column."""

    number: Ints
    gaps: Floats


def equal_width(confidences: Floats, right: npt.NDArray[np.bool_]) -> Bins:
    """Bins (b / 15, (b + 1) / 15], the lowest with 0."""
    number = np.clip(np.ceil(confidences * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return _bins(number, confidences, right)


def equal_mass(confidences: Floats, right: npt.NDArray[np.bool_]) -> Bins:
    """Bins of equally many answers in the order of confidence (Nguyen and O'Connor 2015, arXiv 1508.05154)."""
    number = np.empty(confidences.size, np.int64)
    number[np.argsort(confidences, axis=None, kind="stable")] = np.arange(number.size) * BINS // number.size
    return _bins(number.reshape(confidences.shape), confidences, right)


def _bins(number: Ints, confidences: Floats, right: npt.NDArray[np.bool_]) -> Bins:
    cells = number.reshape(len(number), -1) + BINS * np.arange(len(number))[:, None]
    sums = np.bincount(cells.ravel(), weights=(confidences - right).ravel(), minlength=BINS * len(number))
    return Bins(number, sums.astype(np.float64).reshape(len(number), BINS))


def expected_error(sums: Floats, total: npt.NDArray[Any] | float) -> Floats:
    """Returns the ECE (Guo et al., equation 3) for sums of gaps (..., BINS) over `total` (...) items."""
    error: Floats = np.abs(sums).sum(axis=-1) / total
    return error


def brier(shares: Floats, truth: Ints) -> Floats:
    """Returns each item's squared error over all classes, 0 to 2, (N,) (Brier, 1950)."""
    hit = shares[np.arange(len(truth)), truth]
    scores: Floats = np.square(shares).sum(axis=1) - 2 * hit + 1
    return scores


def diagram(bins: Bins, confidences: Floats, right: npt.NDArray[np.bool_]) -> list[dict[str, float]]:
    """Returns the occupied bins in order: how many answers (`items`), their mean confidence, and how many were right."""
    rows = []
    for number in range(BINS):
        inside = bins.number == number
        if inside.any():
            rows.append(
                {
                    "low": number / BINS,
                    "high": (number + 1) / BINS,
                    "items": int(inside.sum()),
                    "confidence": float(confidences[inside].mean()),
                    "accuracy": float(right[inside].mean()),
                }
            )
    return rows
