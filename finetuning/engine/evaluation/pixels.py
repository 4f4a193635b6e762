"""What the predicted classes of pixels are worth: confusions summed over images, and intervals by drawing images
(or groups of images that show the same) with replacement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finetuning.engine.evaluation.metrics import RESAMPLES, Floats, Ints, percentile_interval
from finetuning.engine.palettes import IGNORED

_CHUNK_CELLS = 8_000_000  # 64 MB of float64 at a time


def confusion(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], classes: int) -> Ints:
    """Returns the counts of pixels (C, C), rows are the truth; IGNORED pixels do not count."""
    counted = truth != IGNORED
    cells = truth[counted].astype(np.int64) * classes + predicted[counted]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True, slots=True)
class Tally:
    """Per image (or group) and class, in pixels: `hits` (N, C) right ones, `truth` and `guesses` (N, C)."""

    hits: Floats
    truth: Floats
    guesses: Floats

    @classmethod
    def of(cls, confusions: Sequence[Ints]) -> Tally:
        table = [(np.diagonal(one), one.sum(1), one.sum(0)) for one in confusions]
        hits, truth, guesses = (np.array(part, np.float64) for part in zip(*table, strict=True))
        return cls(hits, truth, guesses)

    def drawn(self, draws: Floats) -> Tally:
        """Returns the sums over resampled images: `draws` (B, N) says how often each one is in each."""
        return Tally(draws @ self.hits, draws @ self.truth, draws @ self.guesses)

    def summed(self) -> Tally:
        return Tally(self.hits.sum(0), self.truth.sum(0), self.guesses.sum(0))

    @property
    def miou(self) -> Floats:
        return _mean(self.hits, self.truth + self.guesses - self.hits)

    @property
    def mean_dice(self) -> Floats:
        return _mean(2 * self.hits, self.truth + self.guesses)

    @property
    def pixel_accuracy(self) -> Floats:
        share: Floats = self.hits.sum(-1) / np.maximum(self.truth.sum(-1), 1)
        return share


def _mean(part: Floats, whole: Floats) -> Floats:
    """Returns the mean of part / whole over the classes that occur, in the truth or in the prediction."""
    occurs = whole > 0
    shares = part / np.where(occurs, whole, 1)
    mean: Floats = (shares * occurs).sum(-1) / np.maximum(occurs.sum(-1), 1)
    return mean


def miou(counts: npt.NDArray[Any]) -> Floats:
    """Returns the mean intersection over union of a summed confusion (C, C): of the classes that occur."""
    hits = np.diagonal(counts).astype(np.float64)
    return _mean(hits, counts.sum(0) + counts.sum(1) - hits)


MEASURES = ("miou", "mean_dice", "pixel_accuracy")


def draws(groups: int, rng: np.random.Generator) -> Floats:
    """Returns (B, groups): how often each group is in each of the B resampled test sets."""
    return rng.multinomial(groups, np.full(groups, 1 / groups), size=RESAMPLES).astype(np.float64)


def measure(tally: Tally, drawn: Floats) -> dict[str, dict[str, float]]:
    """Returns every metric of the summed confusion with its 95% interval."""
    whole, resampled = tally.summed(), _resampled(tally, drawn)
    return {
        name: percentile_interval(float(getattr(whole, name)), getattr(resampled, name)).to_json() for name in MEASURES
    }


def _resampled(tally: Tally, drawn: Floats) -> Tally:
    step = max(1, _CHUNK_CELLS // max(1, tally.hits.shape[1]))
    parts = [tally.drawn(drawn[start : start + step]) for start in range(0, len(drawn), step)]
    return Tally(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("hits", "truth", "guesses")))


def resampled_miou(tally: Tally, drawn: Floats) -> Floats:
    """Returns the mIoU (B,) of each resampled test set."""
    return _resampled(tally, drawn).miou


def per_class(counts: Ints, tally: Tally, drawn: Floats, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Returns IoU with its interval, Dice, precision, recall and pixels of each class. A class that occurs
    nowhere has an IoU of None."""
    hits, truth, guesses = np.diagonal(counts), counts.sum(1), counts.sum(0)
    resampled = _resampled(tally, drawn)
    union = resampled.truth + resampled.guesses - resampled.hits
    table = np.where(union > 0, resampled.hits / np.maximum(union, 1), np.nan)
    rows = []
    for place, label in enumerate(labels):
        whole = int(truth[place] + guesses[place] - hits[place])
        known = table[:, place][~np.isnan(table[:, place])]
        iou = percentile_interval(float(hits[place] / whole), known).to_json() if whole and len(known) else None
        rows.append(
            {
                "label": label,
                "iou": iou,
                "dice": float(2 * hits[place] / max(1, truth[place] + guesses[place])),
                "precision": float(hits[place] / max(1, guesses[place])),
                "recall": float(hits[place] / max(1, truth[place])),
                "pixels": int(truth[place]),
                "images": int((tally.truth[:, place] > 0).sum()),
            }
        )
    return rows
