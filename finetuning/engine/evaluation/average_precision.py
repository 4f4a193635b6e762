"""COCO's average precision, kept as matches so that any resample of the images is one more weighted sum.

The rules are pycocotools': detections by falling score, at most 100 for each image and class, each takes the
free truth that it overlaps most; precision is made monotone and read at 101 recalls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)  # IoU
RECALLS: Floats = np.linspace(0, 1, 101)
MOST = 100  # detections for each image and class
_CHUNK_CELLS = 4_000_000  # 32 MB of float64 at a time


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in one image, or is there (scores 1). `boxes` (M, 4) left, top, right, bottom in pixels,
    `labels` (M,), `scores` (M,)."""

    boxes: Floats
    labels: Ints
    scores: Floats

    @classmethod
    def truth(cls, boxes: Sequence[Sequence[float]]) -> Found:
        """Returns an item's `boxes` of (label, left, top, right, bottom)."""
        table = np.array(boxes, dtype=np.float64).reshape(-1, 5)
        return cls(table[:, 1:], table[:, 0].astype(np.int64), np.ones(len(table)))


@dataclass(frozen=True, slots=True)
class ClassMatches:
    """One class in every image, by falling score. `scores` (D,), `images` (D,) positions, `hits` (T, D): whether
    the detection found a truth at each threshold; `truths` (N,) counts the truths of each image."""

    scores: Floats
    images: Ints
    hits: Bools
    truths: Ints


def iou(one: Floats, other: Floats) -> Floats:
    """Returns the intersection over union (M, N) of boxes (M, 4) and (N, 4)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = (high - low).clip(min=0).prod(axis=2)
    area_one, area_other = ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (one, other))
    united = area_one[:, None] + area_other[None] - shared
    share: Floats = shared / np.maximum(united, 1e-12)
    return share


def match(truths: Sequence[Found], found: Sequence[Found], classes: int) -> list[ClassMatches]:
    """Returns the matches of each class over all images."""
    return [_match_class(truths, found, label) for label in range(classes)]


def _match_class(truths: Sequence[Found], found: Sequence[Found], label: int) -> ClassMatches:
    scores, images, hits = [np.empty(0)], [np.empty(0, np.int64)], [np.empty((len(THRESHOLDS), 0), bool)]
    counts = np.zeros(len(truths), np.int64)
    for at, (truth, answer) in enumerate(zip(truths, found, strict=True)):
        real = truth.boxes[truth.labels == label]
        counts[at] = len(real)
        own = np.flatnonzero(answer.labels == label)
        own = own[np.argsort(-answer.scores[own], kind="stable")][:MOST]
        scores.append(answer.scores[own])
        images.append(np.full(len(own), at))
        hits.append(assigned(iou(answer.boxes[own], real), THRESHOLDS) >= 0)
    merged = np.concatenate(scores)
    order = np.argsort(-merged, kind="stable")
    return ClassMatches(merged[order], np.concatenate(images)[order], np.concatenate(hits, axis=1)[:, order], counts)


def assigned(overlaps: Floats, thresholds: Floats) -> Ints:
    """Returns for overlaps (D, G), detections by falling score, the truth that each takes at each threshold
    (T, D), -1 for none: the free one that it overlaps most, the last of equals."""
    detections, truths = overlaps.shape
    taken = np.full((len(thresholds), detections), -1)
    for row, threshold in enumerate(thresholds):
        free = np.ones(truths, bool)
        for at in range(detections if truths else 0):
            shares = np.where(free, overlaps[at], -1.0)
            best = truths - 1 - int(shares[::-1].argmax())
            if shares[best] >= min(threshold, 1 - 1e-10):
                taken[row, at], free[best] = best, False
    return taken


def average_precision(matches: ClassMatches, weights: Floats) -> Floats:
    """Returns (B, T) average precision where image n counts `weights` (B, N) times; NaN where a resample
    has no truth of this class."""
    total = weights @ matches.truths
    scores = np.empty((len(weights), len(THRESHOLDS)))
    step = max(1, _CHUNK_CELLS // max(1, matches.hits.size))
    for start in range(0, len(weights), step):
        part = slice(start, start + step)
        for row, recall, precision in _curves(matches, weights[part], total[part]):
            scores[start + row // len(THRESHOLDS), row % len(THRESHOLDS)] = _at_recalls(recall, precision).mean()
    scores[total == 0] = np.nan
    return scores


def average_recall(matches: ClassMatches, weights: Floats) -> Floats:
    """Returns (B,) the recall of all detections together, averaged over the thresholds; NaN as above."""
    total = weights @ matches.truths
    hits = np.stack([weights[:, matches.images] @ row for row in matches.hits.astype(np.float64)])
    with np.errstate(invalid="ignore", divide="ignore"):
        recall: Floats = (hits / total).mean(axis=0)
    recall[total == 0] = np.nan
    return recall


def precisions(matches: ClassMatches, threshold: int) -> Floats:
    """Returns the precision (101,) at `RECALLS` for one threshold's position; zeros without truths."""
    once = np.ones((1, len(matches.truths)))
    curves = list(_curves(matches, once, once @ matches.truths))
    _, recall, precision = curves[threshold]
    return _at_recalls(recall, precision)


def _curves(matches: ClassMatches, weights: Floats, total: Floats) -> Iterator[tuple[int, Floats, Floats]]:
    """Yields (row of B x T, recall (D,), monotone precision (D,))."""
    counted = weights[:, matches.images]
    hits = np.cumsum(counted[:, None] * matches.hits, axis=2)
    seen = np.cumsum(counted, axis=1)[:, None]
    recall = hits / np.maximum(total, 1)[:, None, None]
    precision = hits / np.maximum(seen, np.spacing(1))
    envelope = np.maximum.accumulate(precision[..., ::-1], axis=2)[..., ::-1]
    flat = (len(weights) * len(THRESHOLDS), matches.hits.shape[1])
    yield from ((row, *pair) for row, pair in enumerate(zip(recall.reshape(flat), envelope.reshape(flat), strict=True)))


def _at_recalls(recall: Floats, precision: Floats) -> Floats:
    places = np.searchsorted(recall, RECALLS, side="left")
    return np.append(precision, 0.0)[places]
