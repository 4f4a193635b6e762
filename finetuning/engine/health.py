"""The health report of a data set: what was counted, and what its owner should do about it."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finetuning.engine.packs import Item
from finetuning.engine.spec import Split

GOOD, NOTICE, WARNING = "good", "notice", "warning"
_FEW_IMAGES, _ENOUGH_IMAGES = 20, 50
_IMBALANCE_NOTICE, _IMBALANCE_WARNING = 3.0, 10.0
_SMALL_SIDE = 32  # pixels: below it, most networks see a blur
_SMALL_TEST = 200
_TYPICAL_ACCURACY = 0.9
_Z95 = 1.96


@dataclass(frozen=True, slots=True)
class Finding:
    """`severity` is good, notice or warning; `advice` says what to do."""

    code: str
    severity: str
    count: int
    title: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What inspecting found. `sizes` are the upload's (width, height); `exact` and `near` hold positions in
    `items`; `notes` counts what was converted: {animated, rotated, misnamed, shrunk: n}."""

    items: Sequence[Item]
    labels: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    modes: Counter[str]
    notes: Counter[str]
    skipped: dict[str, int]
    corrupt: list[dict[str, str]]
    exact: list[list[int]]
    near: list[list[int]]
    split_source: str


def report(survey: Survey) -> dict[str, Any]:
    """Returns the report, JSON-ready, as `docs/engine.md` has it."""
    items = survey.items
    classes = class_counts(items, survey.labels)
    about = about_images(survey)
    return {
        **about,
        "classes": classes,
        "imbalance_ratio": imbalance_ratio(classes),
        "findings": [asdict(finding) for finding in findings(survey, classes, len(about["leakage"]))],
        "digest": digest(items, survey.labels),
    }


def about_images(survey: Survey) -> dict[str, Any]:
    """Returns what a report says of any images, whatever their annotations."""
    items = survey.items
    splits = Counter(item.split for item in items)
    return {
        "images": len(items),
        "counts": {
            "given": len(items) + len(survey.corrupt),
            "used": len(items),
            "left_out": len(survey.corrupt),
        },
        "labels": list(survey.labels),
        "splits": {split.value: splits[split] for split in Split},
        "sizes": _sizes(survey.sizes),
        "modes": dict(sorted(survey.modes.items())),
        "skipped": survey.skipped,
        "corrupt": survey.corrupt,
        "duplicates": {
            "exact": [[items[at].index for at in group] for group in survey.exact],
            "near": [[items[at].index for at in group] for group in survey.near],
        },
        "leakage": leakage(items, survey.exact, survey.near),
        "split_source": survey.split_source,
    }


def class_counts(items: Sequence[Item], labels: Sequence[str], *, noun: str = "images") -> list[dict[str, Any]]:
    """Returns `{label, <noun>, train, validation, test}` for each class."""
    counts = Counter((label, item.split) for item in items for label in classes_of(item))
    return [
        {
            "label": label,
            noun: sum(counts[position, split] for split in Split),
            **{split.value: counts[position, split] for split in Split},
        }
        for position, label in enumerate(labels)
    ]


def classes_of(item: Item) -> tuple[int, ...]:
    """Returns the positions of the classes that an item of a classification shows."""
    return (item.label,) if item.label >= 0 else item.labels


def imbalance_ratio(classes: list[dict[str, Any]], *, noun: str = "images") -> float:
    """Returns the largest class's number of items over the smallest's."""
    numbers: list[int] = [entry[noun] for entry in classes]
    return round(max(numbers) / min(numbers), 2)


def digest(items: Sequence[Item], labels: Sequence[str]) -> str:
    """Returns the identity of the data set: sha256 over the sorted pixels, labels (or boxes) and splits."""
    identities = sorted(f"{item.pixel_sha256} {item.split.value} {_content(item, labels)}\n" for item in items)
    return hashlib.sha256("".join(identities).encode()).hexdigest()


def _content(item: Item, labels: Sequence[str]) -> str:
    """Returns what an item is labelled with, as one text."""
    if item.label >= 0:
        return labels[item.label]
    if item.labels:
        return repr([labels[place] for place in item.labels])
    return repr(sorted((labels[int(box[0])], *(round(edge, 2) for edge in box[1:])) for box in item.boxes))


def leakage(items: Sequence[Item], exact: list[list[int]], near: list[list[int]]) -> list[dict[str, Any]]:
    """Returns for each test item one item of the training pack (training or validation) that is the same, or
    nearly: `{train, test, kind}` by index. `exact` and `near` are groups of positions in `items`."""
    leaks: dict[int, dict[str, Any]] = {}
    for kind, groups in (("exact", exact), ("near", near)):
        for group in groups:
            members = [items[at] for at in group]
            seen = next((item for item in members if item.split is not Split.TEST), None)
            for item in members if seen else ():
                if seen and item.split is Split.TEST:
                    leaks.setdefault(item.index, {"train": seen.index, "test": item.index, "kind": kind})
    return [leaks[index] for index in sorted(leaks)]


def _sizes(sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    widths, heights = zip(*sizes, strict=True)
    bins = Counter(int(math.log2(min(size))) for size in sizes)
    return {
        "width": _spread(widths),
        "height": _spread(heights),
        "histogram": [
            {"low": 2**power, "high": 2 ** (power + 1), "images": bins[power]}
            for power in range(min(bins), max(bins) + 1)
        ],
    }


def _spread(values: Sequence[int]) -> dict[str, float]:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def findings(survey: Survey, classes: list[dict[str, Any]], leaks: int) -> list[Finding]:
    """Returns the findings, the gravest first."""
    items = survey.items
    found = [
        *about_files(survey),
        *about_classes(classes),
        *about_duplicates(items, survey.exact, survey.near),
        *about_label_conflicts(items, survey.exact),
        *about_leakage(leaks),
        *about_missing(classes),
        *about_test_size(classes),
    ]
    return gravest_first(found)


def gravest_first(found: Iterable[Finding]) -> list[Finding]:
    """Returns warnings first, then notices, then what is good."""
    order = {WARNING: 0, NOTICE: 1, GOOD: 2}
    return sorted(found, key=lambda finding: order[finding.severity])


def about_files(survey: Survey) -> Iterator[Finding]:
    if survey.corrupt:
        yield Finding(
            "corrupt_images",
            WARNING,
            len(survey.corrupt),
            "Some files could not be read and were left out",
            "Save these images again, or remove them from the zip.",
        )
    else:
        yield Finding("all_readable", GOOD, len(survey.items), "Every image could be read", "")
    if skipped := sum(survey.skipped.values()):
        kinds = ", ".join(survey.skipped)
        yield Finding(
            "skipped_files",
            NOTICE,
            skipped,
            f"Files were left out: {kinds}",
            "Nothing to do unless you need them.",
        )
    titles = {
        "animated": "Animated images: only the first frame is used",
        "misnamed": "Image files whose ending does not match their format",
        "rotated": "Photos were turned upright as their camera recorded",
        "shrunk": "Very large images were made smaller",
    }
    for code, title in titles.items():
        if count := survey.notes[code]:
            yield Finding(code, NOTICE, count, title, "Nothing to do.")
    if small := sum(min(size) < _SMALL_SIDE for size in survey.sizes):
        yield Finding(
            "small_images",
            NOTICE,
            small,
            f"Images with a side under {_SMALL_SIDE} pixels",
            "They will be enlarged. Use the originals if you have larger ones.",
        )


def about_classes(classes: list[dict[str, Any]], *, noun: str = "images") -> Iterator[Finding]:
    few = [entry for entry in classes if entry[noun] < _ENOUGH_IMAGES]
    if few:
        least = min(entry[noun] for entry in few)
        yield Finding(
            f"few_{noun}",
            WARNING if least < _FEW_IMAGES else NOTICE,
            len(few),
            f"Classes with fewer than {_ENOUGH_IMAGES} {noun}; the smallest has {least}",
            f"Add {noun} to these classes; {_ENOUGH_IMAGES} or more each give a steadier result.",
        )
    ratio = imbalance_ratio(classes, noun=noun)
    if ratio > _IMBALANCE_NOTICE:
        yield Finding(
            "imbalance",
            WARNING if ratio > _IMBALANCE_WARNING else NOTICE,
            len(classes),
            f"The largest class has {ratio:g} times the {noun} of the smallest",
            f"Add {noun} to the small classes, and judge the result by macro F1 rather than accuracy.",
        )
    else:
        yield Finding("balanced", GOOD, len(classes), "The classes are balanced", "")
    alike: dict[str, list[str]] = defaultdict(list)
    for label in (str(entry["label"]) for entry in classes):
        alike["".join(label.casefold().split())].append(label)
    if twins := [group for group in alike.values() if len(group) > 1]:
        yield Finding(
            "similar_labels",
            WARNING,
            len(twins),
            f"Class names that differ only in case or spaces: {' / '.join(twins[0])}",
            "Give them one name if they mean the same.",
        )


def about_duplicates(
    items: Sequence[Item], exact: list[list[int]], near: list[list[int]], *, noun: str = "images"
) -> Iterator[Finding]:
    extra = sum(len(group) - 1 for group in exact)
    if extra:
        yield Finding(
            "exact_duplicates",
            NOTICE,
            extra,
            f"{noun.capitalize()} that repeat another one exactly",
            "Remove the copies: they add nothing and count twice.",
        )
    if near:
        yield Finding(
            "near_duplicates",
            NOTICE,
            sum(len(group) - 1 for group in near),
            f"{noun.capitalize()} that are nearly the same as another one",
            "Look at these pairs: what was hardly changed adds little.",
        )
    if not extra and not near:
        yield Finding("no_duplicates", GOOD, len(items), "No duplicates were found", "")


def about_label_conflicts(items: Sequence[Item], exact: list[list[int]], *, noun: str = "images") -> Iterator[Finding]:
    conflicts = [group for group in exact if len({classes_of(items[at]) for at in group}) > 1]
    if conflicts:
        yield Finding(
            "label_conflict",
            WARNING,
            len(conflicts),
            f"The same {noun[:-1]} appears in two classes",
            "Decide which class is right and remove the other copy.",
        )


def about_leakage(leaks: int, *, noun: str = "images") -> Iterator[Finding]:
    if leaks:
        yield Finding(
            "leakage",
            WARNING,
            leaks,
            f"Test {noun} that also appear among the training {noun}",
            "Remove them from one side: they make the result look better than it is.",
        )
    else:
        yield Finding("no_leakage", GOOD, 0, f"No test {noun[:-1]} appears among the training {noun}", "")


def about_missing(classes: list[dict[str, Any]], *, noun: str = "images") -> Iterator[Finding]:
    missing = [entry for entry in classes if not entry["test"] or not entry["validation"]]
    if missing:
        yield Finding(
            "class_without_split",
            WARNING,
            len(missing),
            f"Classes without a test or validation {noun[:-1]}",
            f"Give every class at least three different {noun}, better fifty.",
        )


def about_test_size(classes: list[dict[str, Any]], *, noun: str = "images") -> Iterator[Finding]:
    tests = sum(entry["test"] for entry in classes)
    if 0 < tests < _SMALL_TEST:
        margin = 100 * _Z95 * math.sqrt(_TYPICAL_ACCURACY * (1 - _TYPICAL_ACCURACY) / tests)
        yield Finding(
            "small_test",
            NOTICE,
            tests,
            f"With {tests} test {noun} an accuracy of 90% is known to about \u00b1{margin:.1f} points",
            f"More {noun} make smaller differences visible.",
        )
