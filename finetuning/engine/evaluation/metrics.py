"""What a classifier's predictions on one split are worth: values with 95% intervals, one definition each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax
from scipy.stats import norm

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2000  # percentile ends of a 95% interval then rest on 50 resamples each
TOP = 5
_TOP_MIN_CLASSES = 10  # with fewer classes the top five are half of the answers
_MAX_WORST = 24
_CHUNK_CELLS = 8_000_000  # 64 MB of float64 at a time


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and the ends of its 95% interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Predictions:
    """`truth` (N,) class positions; `logits` (N, C); `indices` (N,) the items' numbers in the upload."""

    truth: Ints
    logits: Floats
    indices: Ints

    @property
    def predicted(self) -> Ints:
        positions: Ints = self.logits.argmax(axis=1)
        return positions

    @property
    def is_right(self) -> npt.NDArray[np.bool_]:
        right: npt.NDArray[np.bool_] = self.predicted == self.truth
        return right

    @property
    def losses(self) -> Floats:
        """Negative log-likelihood of each item, in nats, (N,)."""
        table: Floats = -log_softmax(self.logits, axis=1)
        return table[np.arange(len(self.truth)), self.truth]


def wilson(right: int, total: int) -> Estimate:
    """Returns the share with Wilson's score interval (Wilson, 1927), which stays in [0, 1] and does not
    collapse at 0 or `total` successes."""
    z = float(norm.ppf((1 + CONFIDENCE) / 2))
    share = right / total
    scale = 1 + z**2 / total
    centre = (share + z**2 / (2 * total)) / scale
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / scale
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def percentile_interval(value: float, resampled: Floats) -> Estimate:
    """Returns the value with the percentile bootstrap interval of its resamples (B,)."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def confusion(predictions: Predictions) -> Ints:
    """Returns the counts (C, C); rows are the truth."""
    classes = predictions.logits.shape[1]
    cells = predictions.truth * classes + predictions.predicted
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def macro_f1(counts: npt.NDArray[Any]) -> Floats:
    """Returns the mean F1 of the classes that occur in the truth, for confusions (..., C, C)."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    support, guesses = counts.sum(axis=-1), counts.sum(axis=-2)
    f1 = 2 * hits / np.maximum(support + guesses, 1)
    return _mean_of_occurring(f1, support)


def balanced_accuracy(counts: npt.NDArray[Any]) -> Floats:
    """Returns the mean recall of the classes that occur in the truth, for confusions (..., C, C)."""
    support = counts.sum(axis=-1)
    recall = np.diagonal(counts, axis1=-2, axis2=-1) / np.maximum(support, 1)
    return _mean_of_occurring(recall, support)


def matthews(counts: npt.NDArray[Any]) -> Floats:
    """Returns the correlation of truth and guess, -1 to 1, for confusions (..., C, C): R_K of Gorodkin 2004,
    Matthews' coefficient for two classes. 0 where either is constant."""
    counts = counts.astype(np.float64)  # products of counts outgrow 64 bits
    support, guesses, total = counts.sum(axis=-1), counts.sum(axis=-2), counts.sum(axis=(-2, -1))
    covariance = np.trace(counts, axis1=-2, axis2=-1) * total - (support * guesses).sum(axis=-1)
    spread = (total**2 - (support**2).sum(axis=-1)) * (total**2 - (guesses**2).sum(axis=-1))
    result: Floats = np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)
    return result


def _mean_of_occurring(scores: Floats, support: npt.NDArray[Any]) -> Floats:
    occurs = support > 0
    mean: Floats = (scores * occurs).sum(axis=-1) / occurs.sum(axis=-1)
    return mean


def measure(predictions: Predictions, *, seed: int) -> dict[str, dict[str, float]]:
    """Returns every metric with its interval: Wilson for shares of items, bootstrap for the others."""
    total, classes = predictions.logits.shape
    rng = np.random.default_rng(seed)
    counts = confusion(predictions)
    f1, recall, correlation = _resampled_scores(counts, rng)
    losses = predictions.losses
    estimates = {
        "accuracy": wilson(int(predictions.is_right.sum()), total),
        "macro_f1": percentile_interval(float(macro_f1(counts)), f1),
        "balanced_accuracy": percentile_interval(float(balanced_accuracy(counts)), recall),
        "matthews": percentile_interval(float(matthews(counts)), correlation),
        "negative_log_likelihood": percentile_interval(float(losses.mean()), _resampled_means(losses, rng)),
    }
    if classes >= _TOP_MIN_CLASSES:
        estimates["top5_accuracy"] = wilson(_hits_in_top(predictions), total)
    return {name: estimate.to_json() for name, estimate in estimates.items()}


def _hits_in_top(predictions: Predictions) -> int:
    best = np.argpartition(predictions.logits, -TOP, axis=1)[:, -TOP:]
    return int((best == predictions.truth[:, None]).any(axis=1).sum())


def _resampled_scores(counts: Ints, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Returns macro-F1, balanced accuracy and Matthews' coefficient (B,) of resampled test sets. Drawing N items with replacement
    is one multinomial draw over the confusion's cells, so no resample is ever formed item by item."""
    classes, total = len(counts), int(counts.sum())
    f1, recall, correlation = [], [], []
    step = max(1, min(RESAMPLES, _CHUNK_CELLS // classes**2))
    for start in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - start)
        drawn = rng.multinomial(total, counts.ravel() / total, size=size).reshape(size, classes, classes)
        f1.append(macro_f1(drawn))
        recall.append(balanced_accuracy(drawn))
        correlation.append(matthews(drawn))
    return np.concatenate(f1), np.concatenate(recall), np.concatenate(correlation)


def _resampled_means(values: Floats, rng: np.random.Generator) -> Floats:
    step = max(1, min(RESAMPLES, _CHUNK_CELLS // len(values)))
    means = [
        values[rng.integers(0, len(values), size=(min(step, RESAMPLES - start), len(values)))].mean(axis=1)
        for start in range(0, RESAMPLES, step)
    ]
    return np.concatenate(means)


def per_class(counts: Ints, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Returns precision, recall and F1 for each class; a class that is never guessed has precision 0."""
    hits = np.diagonal(counts)
    support, guesses = counts.sum(axis=1), counts.sum(axis=0)
    precision, recall = hits / np.maximum(guesses, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(support + guesses, 1)
    return [
        {
            "label": label,
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
        }
        for i, label in enumerate(labels)
    ]


def worst(predictions: Predictions, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Returns the wrongly classified items with the largest loss, at most 24."""
    losses, predicted = predictions.losses, predictions.predicted
    confidence = np.exp(log_softmax(predictions.logits, axis=1)).max(axis=1)
    wrong = np.flatnonzero(~predictions.is_right)
    first = wrong[np.argsort(-losses[wrong], kind="stable")][:_MAX_WORST]
    return [
        {
            "index": int(predictions.indices[i]),
            "truth": labels[predictions.truth[i]],
            "predicted": labels[predicted[i]],
            "confidence": float(confidence[i]),
        }
        for i in first
    ]
