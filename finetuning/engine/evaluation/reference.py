"""COCO's own figures, by its own code: what the field quotes, and what our average precision is tested against."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from finetuning.engine.evaluation.average_precision import Floats, Found
from finetuning.engine.packs import Item

# Positions in COCOeval's list of twelve.
_SIZES = {"small": (3, 9), "medium": (4, 10), "large": (5, 11)}


def by_size(items: Sequence[Item], found: Sequence[Found], labels: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Returns the mean average precision and recall of objects under 32 x 32 pixels of the stored image, up to
    96 x 96, and above; null where the test images show none."""
    figures = stats(items, found, labels)
    return {
        name: {
            key: None if figures[at] < 0 else float(figures[at])
            for key, at in zip(("map", "average_recall"), places, strict=True)
        }
        for name, places in _SIZES.items()
    }


def stats(items: Sequence[Item], found: Sequence[Found], labels: Sequence[str]) -> Floats:
    """Returns COCOeval's twelve figures, -1 where there is nothing to measure."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": at, "width": item.width, "height": item.height} for at, item in enumerate(items)],
            "categories": [{"id": at, "name": label} for at, label in enumerate(labels)],
            "annotations": _annotations(items),
        }
        truth.createIndex()
        rows = [
            [at, *_corner_and_size(box), score, label]
            for at, answer in enumerate(found)
            for box, score, label in zip(answer.boxes, answer.scores, answer.labels, strict=True)
        ]
        if not rows:
            return np.zeros(12)
        judge = COCOeval(truth, truth.loadRes(np.array(rows)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    figures: Floats = judge.stats
    return figures


def _annotations(items: Sequence[Item]) -> list[dict[str, Any]]:
    boxes = [(at, box) for at, item in enumerate(items) for box in item.boxes]
    return [
        {
            "id": number,
            "image_id": at,
            "category_id": int(box[0]),
            "bbox": _corner_and_size(box[1:]),
            "area": (box[3] - box[1]) * (box[4] - box[2]),
            "iscrowd": 0,
        }
        for number, (at, box) in enumerate(boxes, start=1)
    ]


def _corner_and_size(box: Sequence[float]) -> list[float]:
    left, top, right, bottom = map(float, box)
    return [left, top, right - left, bottom - top]
