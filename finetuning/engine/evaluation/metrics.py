"""What a classifier's predictions on one split are worth: values with 95% intervals, one definition each."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import log_softmax

from finetuning.engine.evaluation import calibration, digests, intervals, ranking, reliability
from finetuning.engine.evaluation.intervals import (
    CONFIDENCE,
    RESAMPLES,
    Estimate,
    Floats,
    Ints,
    percentile_interval,
    wilson,
)

__all__ = [
    "CONFIDENCE",
    "RESAMPLES",
    "Estimate",
    "Floats",
    "Ints",
    "Predictions",
    "confusion",
    "measure",
    "per_class",
    "percentile_interval",
    "wilson",
    "worst",
]

TOP = 5
_TOP_MIN_CLASSES = 10  # with fewer classes the top five are half of the answers
_MAX_WORST = 24


@dataclass(frozen=True, slots=True)
class Predictions:
    """`truth` (N,) class positions; `logits` (N, C), as they are served: divided by the temperature;
    `indices` (N,) the items' numbers in the upload; `groups` (N,) numbers their groups from 0, empty where
    every item stands alone."""

    share_of_right: ClassVar = "accuracy"

    truth: Ints
    logits: Floats
    indices: Ints
    groups: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def group_numbers(self) -> Ints:
        return self.groups if len(self.groups) else np.arange(len(self.truth))

    @property
    def effective_count(self) -> float:
        return intervals.effective_count(self.group_numbers)

    @property
    def shares(self) -> Floats:
        """Probabilities (N, C)."""
        table: Floats = np.exp(log_softmax(self.logits, axis=1))
        return table

    @property
    def sha256(self) -> str:
        return digests.of_logits(self.indices, self.logits)

    def divided_by(self, temperature: float) -> Predictions:
        return replace(self, logits=self.logits / temperature)

    @property
    def predicted(self) -> Ints:
        positions: Ints = self.logits.argmax(axis=1)
        return positions

    @property
    def is_right(self) -> npt.NDArray[np.bool_]:
        right: npt.NDArray[np.bool_] = self.predicted == self.truth
        return right

    def of_class(self, position: int) -> Ints:
        """Returns the places of the items that are of this class."""
        return np.flatnonzero(self.truth == position)

    @property
    def losses(self) -> Floats:
        """Negative log-likelihood of each item, in nats, (N,)."""
        table: Floats = -log_softmax(self.logits, axis=1)
        return table[np.arange(len(self.truth)), self.truth]

    @property
    def answers(self) -> reliability.Answers:
        """The one class that each item is given."""
        losses, shares = self.losses, self.shares
        worst_loss = max(float(np.log(self.logits.shape[1])), 2 * float(losses.mean()))
        scores = {
            "negative_log_likelihood": (losses, worst_loss),
            "brier": (calibration.brier(shares, self.truth), 2.0),
        }
        return reliability.Answers(shares.max(axis=1), self.is_right, scores)


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


def _mean_of_occurring(scores: Floats, support: npt.NDArray[Any]) -> Floats:
    occurs = support > 0
    mean: Floats = (scores * occurs).sum(axis=-1) / occurs.sum(axis=-1)
    return mean


def matthews(counts: npt.NDArray[Any]) -> Floats:
    """Returns Matthews' correlation of truth and guess, -1 to 1, for confusions (..., C, C): Gorodkin's R_K for
    more than two classes (2004, equation 8); 0 where either side names one class alone."""
    counts = counts.astype(np.float64)  # products of counts outgrow 64 bits
    total = counts.sum(axis=(-2, -1)).astype(np.float64)
    hits = np.trace(counts, axis1=-2, axis2=-1)
    support, guesses = counts.sum(axis=-1), counts.sum(axis=-2)
    covariance = hits * total - (support * guesses).sum(axis=-1)
    spread = (total**2 - (support**2).sum(axis=-1)) * (total**2 - (guesses**2).sum(axis=-1))
    correlation: Floats = np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1)), 0.0)
    return correlation


def measure(predictions: Predictions, *, seed: int) -> dict[str, dict[str, float]]:
    """Returns every metric with its interval: Wilson's for shares of items, DeLong's for AUROC, a group
    bootstrap for the others, and never one without width."""
    groups, count = predictions.group_numbers, predictions.effective_count
    by_class = _count_by_class(predictions)
    estimates = {
        "accuracy": intervals.wilson_of(predictions.is_right, groups),
        **_bootstrapped(predictions, seed=seed, count=count, by_class=by_class),
    }
    if area := ranking.auroc(predictions.truth, predictions.shares, groups, count=by_class):
        estimates["auroc"] = area
    if predictions.logits.shape[1] >= _TOP_MIN_CLASSES:
        estimates["top5_accuracy"] = intervals.wilson_of(_hits_in_top(predictions), groups)
    return {name: estimate.to_json() for name, estimate in estimates.items()}


def _bootstrapped(predictions: Predictions, *, seed: int, count: float, by_class: float) -> dict[str, Estimate]:
    """Returns the metrics that are no share of items. Every metric sees the same resamples; the bins of the
    calibration error stay where the whole test set puts them."""
    groups, classes = predictions.group_numbers, predictions.logits.shape[1]
    shares, right = predictions.shares, predictions.is_right
    bins = calibration.equal_width(shares.max(axis=1), right)
    columns = [np.ones(len(right)), predictions.losses, calibration.brier(shares, predictions.truth), *bins.gaps.T]
    table = intervals.sums_by_group(np.stack(columns, axis=1), groups)
    cells = predictions.truth * classes + predictions.predicted
    by_cell = csr_array((np.ones(len(cells)), (groups, cells)), shape=(len(table), classes**2)).T.tocsr()
    rows = [
        _scores((by_cell @ drawn.T).T.reshape(-1, classes, classes), drawn @ table)
        for drawn in intervals.resamples(groups, seed=seed, cells=classes**2)
    ]
    values = _scores(confusion(predictions)[None], table.sum(axis=0)[None])
    worst_loss = max(np.log(classes), 2 * float(predictions.losses.mean()))  # the loss itself has no upper end
    limits = {
        "macro_f1": (by_class, (0.0, 1.0)),
        "balanced_accuracy": (by_class, (0.0, 1.0)),
        "matthews_correlation": (count, (-1.0, 1.0)),
        "negative_log_likelihood": (count, (0.0, worst_loss)),
        "brier": (count, (0.0, 2.0)),
        "expected_calibration_error": (count, (0.0, 1.0)),
    }
    found = {}
    for name, (observed, bounds) in limits.items():
        plain = percentile_interval(float(values[name][0]), np.concatenate([row[name] for row in rows]))
        found[name] = intervals.never_of_zero_width(plain, count=observed, bounds=bounds)
    return found


def _scores(counts: npt.NDArray[Any], sums: Floats) -> dict[str, Floats]:
    """Returns scores (B,) of test sets given by confusions (B, C, C) and sums over their items (B, K)."""
    total = sums[:, 0]
    return {
        "macro_f1": macro_f1(counts),
        "balanced_accuracy": balanced_accuracy(counts),
        "matthews_correlation": matthews(counts),
        "negative_log_likelihood": sums[:, 1] / total,
        "brier": sums[:, 2] / total,
        "expected_calibration_error": calibration.expected_error(sums[:, 3:], total),
    }


def _count_by_class(predictions: Predictions) -> float:
    """Returns the number of items that a mean over classes is worth: C^2 / sum(1 / n_c), which is N where the
    classes are balanced (the variance of a mean of C shares of one size p is p (1 - p) sum(1 / n_c) / C^2)."""
    groups, truth = predictions.group_numbers, predictions.truth
    counts = [intervals.effective_count(_numbered_again(groups[truth == label])) for label in np.unique(truth)]
    return float(len(counts) ** 2 / sum(1 / count for count in counts))


def _numbered_again(groups: Ints) -> Ints:
    """Returns the numbers of the groups that occur, without gaps."""
    return np.unique(groups, return_inverse=True)[1]


def _hits_in_top(predictions: Predictions) -> npt.NDArray[np.bool_]:
    best = np.argpartition(predictions.logits, -TOP, axis=1)[:, -TOP:]
    hits: npt.NDArray[np.bool_] = (best == predictions.truth[:, None]).any(axis=1)
    return hits


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
    confidence = predictions.shares.max(axis=1)
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
