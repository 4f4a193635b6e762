"""What kinds of mistakes a detector makes at one confidence, after TIDE (Bolya et al. 2020, arXiv 2008.08115)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetuning.engine.evaluation import average_precision as coco
from finetuning.engine.evaluation.average_precision import Found, Ints
from finetuning.engine.packs import Item

RIGHT_IOU, NEAR_IOU = 0.5, 0.1  # TIDE's foreground and background thresholds
KINDS = ("right", "class", "localisation", "both", "duplicate", "background", "missed")
_MAX_WORST = 24


@dataclass(frozen=True, slots=True)
class Counts:
    """The kinds of each image's boxes, (N,)."""

    images: list[Counter[str]]

    def totals(self) -> dict[str, int]:
        return {kind: sum(counts[kind] for counts in self.images) for kind in KINDS}

    def worst(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Returns the images with the lowest F1, those with more mistakes first; none without a mistake."""
        rows = []
        for item, counts in zip(items, self.images, strict=True):
            wrong = sum(counts[kind] for kind in KINDS[1:-1])
            missed = len(item.boxes) - counts["right"]
            if wrong + missed:
                f1 = 2 * counts["right"] / (2 * counts["right"] + wrong + missed)
                rows.append({"index": item.index, "f1": f1, "right": counts["right"], "wrong": wrong, "missed": missed})
        return sorted(rows, key=lambda row: (row["f1"], -row["wrong"] - row["missed"], row["index"]))[:_MAX_WORST]


def count(truths: Sequence[Found], found: Sequence[Found], *, confidence: float) -> Counts:
    """Sorts the boxes of at least this confidence into kinds; `missed` are truths that no box comes near."""
    return Counts([_of_image(*pair, confidence) for pair in zip(truths, found, strict=True)])


def _of_image(truth: Found, found: Found, confidence: float) -> Counter[str]:
    kept = np.flatnonzero(found.scores >= confidence)
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    labels = found.labels[kept]
    overlaps = coco.iou(found.boxes[kept], truth.boxes)
    same = labels[:, None] == truth.labels[None]
    taken: Ints = coco.assigned(np.where(same, overlaps, -1.0), np.array([RIGHT_IOU]))[0]
    counts: Counter[str] = Counter()
    explained = set(taken[taken >= 0].tolist())
    for at in range(len(kept)):
        kind = "right" if taken[at] >= 0 else _kind(overlaps[at], same[at])
        counts[kind] += 1
        if kind == "class":
            explained.add(int(overlaps[at].argmax()))
        elif kind == "localisation":
            explained.add(int(np.where(same[at], overlaps[at], -1).argmax()))
    counts["missed"] = len(truth.labels) - len(explained)
    return counts


def _kind(overlaps: coco.Floats, same: coco.Bools) -> str:
    """Returns the kind of a box that found nothing, by its overlaps (G,) with the truths."""
    own = float(np.where(same, overlaps, 0).max(initial=0))
    other = float(np.where(same, 0, overlaps).max(initial=0))
    if own >= RIGHT_IOU:
        return "duplicate"
    if other >= RIGHT_IOU:
        return "class"
    if own >= NEAR_IOU:
        return "localisation"
    return "both" if other >= NEAR_IOU else "background"
