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
class Judged:
    """One image's mistakes: how often each kind, and every box that counts as found, the surest first, as
    `{label, score, box: [left, top, right, bottom], kind}`."""

    counts: Counter[str]
    boxes: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of each image's boxes, (N,)."""

    images: list[Judged]

    def totals(self) -> dict[str, int]:
        return {kind: sum(image.counts[kind] for image in self.images) for kind in KINDS}

    def worst(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Returns the images with the lowest F1, those with more mistakes first; none without a mistake."""
        rows: list[dict[str, Any]] = []
        for item, image in zip(items, self.images, strict=True):
            counts = image.counts
            wrong = sum(counts[kind] for kind in KINDS[1:-1])
            missed = len(item.boxes) - counts["right"]
            if wrong + missed:
                f1 = 2 * counts["right"] / (2 * counts["right"] + wrong + missed)
                told: dict[str, Any] = {"f1": f1, "right": counts["right"], "wrong": wrong, "missed": missed}
                rows.append({"index": item.index, **told, "found": image.boxes})
        return sorted(rows, key=lambda row: (row["f1"], -row["wrong"] - row["missed"], row["index"]))[:_MAX_WORST]


def count(truths: Sequence[Found], found: Sequence[Found], *, confidence: float) -> Counts:
    """Sorts the boxes of at least this confidence into kinds; `missed` are truths that no box comes near."""
    return Counts([_of_image(*pair, confidence) for pair in zip(truths, found, strict=True)])


def _of_image(truth: Found, found: Found, confidence: float) -> Judged:
    kept = np.flatnonzero(found.scores >= confidence)
    kept = kept[np.argsort(-found.scores[kept], kind="stable")]
    labels = found.labels[kept]
    overlaps = coco.iou(found.boxes[kept], truth.boxes)
    same = labels[:, None] == truth.labels[None]
    taken: Ints = coco.assigned(np.where(same, overlaps, -1.0), np.array([RIGHT_IOU]))[0]
    kinds: list[str] = []
    explained = set(taken[taken >= 0].tolist())
    for at in range(len(kept)):
        kind = "right" if taken[at] >= 0 else _kind(overlaps[at], same[at])
        kinds.append(kind)
        if kind == "class":
            explained.add(int(overlaps[at].argmax()))
        elif kind == "localisation":
            explained.add(int(np.where(same[at], overlaps[at], -1).argmax()))
    counts = Counter(kinds)
    counts["missed"] = len(truth.labels) - len(explained)
    return Judged(counts, [_row(found, at, kind) for at, kind in zip(kept.tolist(), kinds, strict=True)])


def _row(found: Found, at: int, kind: str) -> dict[str, Any]:
    box = [round(edge, 2) for edge in found.boxes[at].tolist()]
    return {"label": int(found.labels[at]), "score": round(float(found.scores[at]), 4), "box": box, "kind": kind}


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
