"""The health report of images with boxes: the images' own, and what the boxes say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from finetuning.engine import health
from finetuning.engine.health import NOTICE, WARNING, Finding, Survey
from finetuning.engine.intake.annotations import Annotations
from finetuning.engine.packs import Item
from finetuning.engine.spec import Split

SMALL, LARGE = 32**2, 96**2  # square pixels, COCO's limits
_TINY_SHARE = 0.0005  # of the image's area: a box that a canvas of 320 px shows as 7 pixels square
_FEW_TEST_BOXES = 30


def report(survey: Survey, annotations: Annotations) -> dict[str, Any]:
    """Returns the report, JSON-ready, as `docs/engine.md` has it."""
    classes = _classes(survey.items, survey.labels)
    boxes = _boxes(survey.items, annotations)
    about = health.about_images(survey)
    found = [
        *health.about_files(survey),
        *health.about_classes(classes),
        *health.about_duplicates(survey.items, survey.exact, survey.near),
        *health.about_leakage(len(about["leakage"])),
        *health.about_missing(classes),
        *_findings(survey.items, classes, boxes, annotations),
    ]
    unlisted = boxes["unlisted_images"]
    counts = about["counts"]
    return {
        **about,
        "counts": {**counts, "given": counts["given"] + unlisted, "left_out": counts["left_out"] + unlisted},
        "classes": classes,
        "imbalance_ratio": health.imbalance_ratio(classes),
        "findings": [asdict(finding) for finding in health.gravest_first(found)],
        "digest": health.digest(survey.items, survey.labels),
        "format": annotations.format,
        "boxes": boxes,
    }


def _classes(items: Sequence[Item], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Returns for each class how many images show it, in all and by split, and how many boxes."""
    images: Counter[tuple[int, Split]] = Counter()
    boxes: Counter[tuple[int, Split]] = Counter()
    for item in items:
        shown = [int(box[0]) for box in item.boxes]
        boxes.update((label, item.split) for label in shown)
        images.update((label, item.split) for label in set(shown))
    return [
        {
            "label": label,
            "images": sum(images[at, split] for split in Split),
            **{split.value: images[at, split] for split in Split},
            "boxes": {"all": sum(boxes[at, split] for split in Split)}
            | {split.value: boxes[at, split] for split in Split},
        }
        for at, label in enumerate(labels)
    ]


def _boxes(items: Sequence[Item], annotations: Annotations) -> dict[str, Any]:
    """Returns what is known of the boxes: counts in, used and left out, sizes, shapes and crowding. Areas are
    those of the stored images."""
    table = np.array([(*box[1:], item.width * item.height) for item in items for box in item.boxes]).reshape(-1, 5)
    sides = table[:, 2:4] - table[:, :2]
    areas, ratios = sides.prod(axis=1), sides[:, 0] / sides[:, 1]
    counts = Counter(len(item.boxes) for item in items)
    left_out = {kind: annotations.left_out[kind] for kind in ("bad_boxes", "crowd_boxes", "repeated_boxes")}
    return {
        "given": len(table) + sum(left_out.values()),
        "used": len(table),
        "left_out": left_out,
        "cut_edges": annotations.left_out["cut_edges"],
        "unlisted_images": annotations.left_out["unlisted_images"],
        "images_without_boxes": counts[0],
        "by_split": {split.value: sum(len(item.boxes) for item in items if item.split is split) for split in Split},
        "size": {
            "small": int((areas < SMALL).sum()),
            "medium": int(((areas >= SMALL) & (areas < LARGE)).sum()),
            "large": int((areas >= LARGE).sum()),
        },
        "relative_area": _quartiles(areas / table[:, 4]),
        "aspect": _quartiles(ratios),
        "per_image": {"max": max(counts), "histogram": [{"boxes": n, "images": counts[n]} for n in sorted(counts)]},
    }


def _quartiles(values: Any) -> dict[str, float]:
    names = ("min", "low", "median", "high", "max")
    return dict(
        zip(names, (round(float(value), 5) for value in np.percentile(values, (0, 25, 50, 75, 100))), strict=True)
    )


def _findings(
    items: Sequence[Item], classes: list[dict[str, Any]], boxes: dict[str, Any], annotations: Annotations
) -> Iterator[Finding]:
    left_out = boxes["left_out"]
    if count := left_out["bad_boxes"]:
        yield Finding(
            "bad_boxes",
            WARNING,
            count,
            "Boxes outside of their image or without area were left out",
            "Mend these boxes: what they show now counts as background.",
        )
    if count := left_out["crowd_boxes"]:
        yield Finding(
            "crowd_boxes",
            NOTICE,
            count,
            "Boxes around crowds were left out",
            "Nothing to do; single objects in a crowd may be boxed one by one.",
        )
    if count := left_out["repeated_boxes"]:
        yield Finding(
            "repeated_boxes",
            NOTICE,
            count,
            "Boxes that repeat another of their class exactly were left out",
            "Nothing to do.",
        )
    if count := boxes["cut_edges"]:
        yield Finding(
            "cut_edges", NOTICE, count, "Boxes reached up to a pixel beyond their image and were cut", "Nothing to do."
        )
    if count := boxes["unlisted_images"]:
        yield Finding(
            "unlisted_images",
            WARNING,
            count,
            "Images that no annotation file lists were left out",
            "List them in the annotations, without boxes if they show nothing.",
        )
    if count := boxes["images_without_boxes"]:
        missing = sum(1 for item in items if item.name in annotations.unannotated)
        title = "Images without a box: they teach what is not an object"
        advice = (
            f"{missing} of them have no annotation file: look at these."
            if missing
            else "Nothing to do if they really show none."
        )
        yield Finding("no_boxes", WARNING if missing else NOTICE, count, title, advice)
    tiny = sum(
        (box[3] - box[1]) * (box[4] - box[2]) < _TINY_SHARE * item.width * item.height
        for item in items
        for box in item.boxes
    )
    if tiny:
        yield Finding(
            "tiny_boxes",
            NOTICE,
            tiny,
            "Boxes under 0.05% of their image",
            "Choose a larger input size, or cut the images into tiles.",
        )
    if few := [entry for entry in classes if 0 < entry["boxes"]["test"] < _FEW_TEST_BOXES]:
        yield Finding(
            "few_test_boxes",
            NOTICE,
            len(few),
            f"Classes with fewer than {_FEW_TEST_BOXES} test boxes",
            "More images make smaller differences visible.",
        )
