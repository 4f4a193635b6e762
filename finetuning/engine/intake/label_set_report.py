"""The health report of images that show any number of classes: that of classified images, and what their label sets say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from finetuning.engine import health
from finetuning.engine.health import NOTICE, WARNING, Finding, Survey

_MOST_SETS = 20
_MUCH = 0.5  # of the images without a label: are they known to show nothing, or not labelled yet?
_ALWAYS = 0.95  # of the images show a label: nearly no image says what its absence looks like


def report(survey: Survey) -> dict[str, Any]:
    """Returns the report, JSON-ready, as `docs/engine.md` has it."""
    classes = health.class_counts(survey.items, survey.labels)
    about = health.about_images(survey)
    sets = label_sets(survey)
    found = [
        *health.about_files(survey),
        *health.about_classes(classes),
        *health.about_duplicates(survey.items, survey.exact, survey.near),
        *health.about_label_conflicts(survey.items, survey.exact),
        *health.about_leakage(len(about["leakage"])),
        *health.about_missing(classes),
        *_about_sets(sets, classes, len(survey.items)),
    ]
    return {
        **about,
        "multi_label": True,
        "classes": classes,
        "imbalance_ratio": health.imbalance_ratio(classes),
        "label_sets": sets,
        "findings": [asdict(finding) for finding in health.gravest_first(found)],
        "digest": health.digest(survey.items, survey.labels),
    }


def label_sets(survey: Survey) -> dict[str, Any]:
    """Returns how many different sets of labels there are, the most frequent ones, and how many labels images have."""
    sets = Counter(item.labels for item in survey.items)
    sizes = Counter(len(item.labels) for item in survey.items)
    given = sum(size * images for size, images in sizes.items())
    return {
        "distinct": len(sets),
        "most_common": [
            {"labels": [survey.labels[place] for place in own], "images": images}
            for own, images in sorted(sets.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_SETS]
        ],
        "labels_given": given,
        "per_image": {
            "max": max(sizes),
            "mean": round(given / len(survey.items), 3),
            "histogram": [{"labels": size, "images": sizes[size]} for size in sorted(sizes)],
        },
        "images_without_labels": sizes[0],
    }


def _about_sets(sets: dict[str, Any], classes: Sequence[dict[str, Any]], images: int) -> Iterator[Finding]:
    if without := sets["images_without_labels"]:
        yield Finding(
            "without_labels",
            WARNING if without > _MUCH * images else NOTICE,
            without,
            "Images without any label",
            "They teach what none of the classes looks like. Check that nothing in them should be labelled.",
        )
    if always := [entry["label"] for entry in classes if entry["images"] > _ALWAYS * images]:
        yield Finding(
            "label_everywhere",
            WARNING,
            len(always),
            f"Labels that nearly every image has: {', '.join(always[:5])}",
            "Add images without them, or leave these labels out: there is nothing to tell apart.",
        )
    if sets["per_image"]["max"] <= 1 and not without:
        yield Finding(
            "one_label_each",
            NOTICE,
            images,
            "Every image has exactly one label",
            "If classes exclude each other, name the column label: a classifier of one class each then fits better.",
        )
