"""Average precision of labels, as torchmetrics and scikit-learn define it: sum of (R_n - R_(n-1)) P_n over the distinct
scores from the highest on. A class that no item shows has none, and does not count in the mean of the classes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from finetuning.engine.evaluation.intervals import Floats

Bools = npt.NDArray[np.bool_]
HALF = 0.5  # the threshold of a class that the validation items do not show


def average_precision(scores: Floats, truth: Bools, weights: Floats) -> Floats:
    """Returns (B,) of scores (N,) with truth (N,), where item n counts `weights` (B, N) times; NaN without a
    positive."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)  # the last of equal scores
    counted = weights[:, order]
    seen = np.cumsum(counted, axis=1)[:, ends]
    hits = np.cumsum(counted * truth[order], axis=1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: Floats = (gained * hits / np.maximum(seen, 1e-12)).sum(axis=1) / hits[:, -1]
    return result


def by_class(scores: Floats, truth: Bools, weights: Floats) -> Floats:
    """Returns (B, C) for scores and truth (N, C)."""
    columns = [average_precision(scores[:, at], truth[:, at], weights) for at in range(scores.shape[1])]
    return np.stack(columns, axis=1)


def mean(precisions: Floats) -> Floats:
    """Returns the mean (B,) of the classes (B, C) that occur, 0 where none does."""
    occurs = ~np.isnan(precisions)
    average: Floats = np.where(occurs, precisions, 0).sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return average


def macro(scores: Floats, truth: Bools) -> float:
    return float(mean(by_class(scores, truth, np.ones((1, len(scores)))))[0])


def best_threshold(shares: Floats, truth: Bools) -> float:
    """Returns the probability, two digits down, from which on answering a class has the best F1."""
    if not truth.any():
        return HALF
    order = np.argsort(-shares, kind="stable")
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + truth.sum())
    best = float(np.floor(100 * shares[order][int(f1.argmax())]) / 100)
    return min(0.99, max(0.01, best))
