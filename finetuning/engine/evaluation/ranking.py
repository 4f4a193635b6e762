"""The area under the ROC curve: how often a class's items score above the others'."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from finetuning.engine.evaluation.intervals import Estimate, Floats, Ints, never_of_zero_width, quantile


def auroc(truth: Ints, scores: Floats, groups: Ints, *, count: float) -> Estimate | None:
    """Returns the one-vs-rest AUROC, averaged over the classes that have both kinds of items, or None without
    one. `truth` (N,), `scores` (N, C), `groups` (N,); `count` is the effective number of items.

    The interval is DeLong's (1988), summed over groups as Obuchowski (1997) does for clustered data, on the
    logit's scale so that it stays in [0, 1]. No resampling: 100 classes of 10,000 items take a second."""
    areas, influence = [], np.zeros(len(truth))
    for position in range(scores.shape[1]):
        positive = truth == position
        if 0 < positive.sum() < len(truth):
            area, share = _area(positive, scores[:, position])
            areas.append(area)
            influence += share
    if not areas:
        return None
    value = float(np.mean(areas))
    by_group = np.bincount(groups, weights=influence / len(areas))
    error = math.sqrt(float(np.square(by_group).sum()) * len(by_group) / max(1, len(by_group) - 1))
    return never_of_zero_width(_on_logit_scale(value, error), count=count, bounds=(0.0, 1.0))


def _area(positive: npt.NDArray[np.bool_], scores: Floats) -> tuple[float, Floats]:
    """Returns the area and each item's influence on it (N,): DeLong's structural components, ties one half."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    ranks = _ranks(scores)
    within = np.empty(len(scores))
    within[positive], within[~positive] = _ranks(scores[positive]), _ranks(scores[~positive])
    # How many items of the other kind lie below.
    below = ranks - within
    area = float(below[positive].sum() / (positives * negatives))
    influence = np.where(positive, (below / negatives - area) / positives, (1 - below / positives - area) / negatives)
    return area, influence


def _ranks(scores: Floats) -> Floats:
    """Returns the places (N,) in ascending order from 1; equal scores share the mean of theirs."""
    _, position, counts = np.unique(scores, return_inverse=True, return_counts=True)
    means: Floats = np.cumsum(counts) - (counts - 1) / 2
    return means[position]


def _on_logit_scale(value: float, error: float) -> Estimate:
    if not 0 < value < 1:
        return Estimate(value, value, value)
    logit, width = math.log(value / (1 - value)), quantile() * error / (value * (1 - value))
    low, high = (1 / (1 + math.exp(min(700.0, -end))) for end in (logit - width, logit + width))
    return Estimate(value, low, high)
