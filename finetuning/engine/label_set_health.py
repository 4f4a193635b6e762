"""What the health report of items that show any number of classes has beside that of items of one class each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from finetuning.engine import health
from finetuning.engine.health import NOTICE, WARNING, Finding, Survey
from finetuning.engine.packs import Item

_MOST_SETS = 20
_MUCH = 0.5  # of the items without a label: are they known to show nothing, or not labelled yet?
_ALWAYS = 0.95  # of the items show a label: nearly none says what its absence looks like


def report(survey: Survey) -> dict[str, Any]:
    """Returns the report of images, JSON-ready, as `docs/engine.md` has it."""
    classes = health.class_counts(survey.items, survey.labels)
    about = health.about_images(survey)
    sets = label_sets(survey.items, survey.labels)
    found = [
        *health.about_files(survey),
        *health.about_classes(classes),
        *health.about_duplicates(survey.items, survey.exact, survey.near),
        *health.about_label_conflicts(survey.items, survey.exact),
        *health.about_leakage(len(about["leakage"])),
        *health.about_missing(classes),
        *about_sets(sets, classes, len(survey.items)),
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


def label_sets(items: Sequence[Item], labels: Sequence[str], *, noun: str = "images") -> dict[str, Any]:
    """Returns how many different sets of labels there are, the most frequent ones, and how many labels items have."""
    sets = Counter(item.labels for item in items)
    sizes = Counter(len(item.labels) for item in items)
    given = sum(size * times for size, times in sizes.items())
    return {
        "distinct": len(sets),
        "most_common": [
            {"labels": [labels[place] for place in own], noun: times}
            for own, times in sorted(sets.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_SETS]
        ],
        "labels_given": given,
        f"per_{noun[:-1]}": {
            "max": max(sizes),
            "mean": round(given / len(items), 3),
            "histogram": [{"labels": size, noun: sizes[size]} for size in sorted(sizes)],
        },
        f"{noun}_without_labels": sizes[0],
    }


def about_sets(
    sets: dict[str, Any], classes: Sequence[dict[str, Any]], items: int, *, noun: str = "images"
) -> Iterator[Finding]:
    """Yields the findings on `label_sets` of so many items."""
    if without := sets[f"{noun}_without_labels"]:
        yield Finding(
            "without_labels",
            WARNING if without > _MUCH * items else NOTICE,
            without,
            f"{noun.capitalize()} without any label",
            "They teach what none of the classes looks like. Check that nothing in them should be labelled.",
        )
    if always := [entry["label"] for entry in classes if entry[noun] > _ALWAYS * items]:
        yield Finding(
            "label_everywhere",
            WARNING,
            len(always),
            f"Labels that nearly every {noun[:-1]} has: {', '.join(always[:5])}",
            f"Add {noun} without them, or leave these labels out: there is nothing to tell apart.",
        )
    if sets[f"per_{noun[:-1]}"]["max"] <= 1 and not without:
        yield Finding(
            "one_label_each",
            NOTICE,
            items,
            f"Every {noun[:-1]} has exactly one label",
            "If classes exclude each other, name the column label: a classifier of one class each then fits better.",
        )
