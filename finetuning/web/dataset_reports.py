"""What a dataset's page says of an inspection's report: counts, balance and measures, whatever the task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from finetuning.engine.spec import Split, Task
from marketplace.templatetags.market import color_mode, percent

Report = dict[str, Any]
COUNTED = {Task.OBJECT_DETECTION: "boxes"}  # what class balance is about, where it is not the items
_MAX_BARS = 15
_BOXES_LEFT_OUT = {
    "bad_boxes": "outside of their image, without area or without numbers",
    "crowd_boxes": "marked as a crowd",
    "repeated_boxes": "the same box twice",
}


@dataclass(frozen=True, slots=True)
class Counts:
    """given = used + left out, of one kind of thing; `reasons` are (how many, why)."""

    noun: str
    given: int
    used: int
    reasons: list[tuple[int, str]]

    @property
    def left_out(self) -> int:
        return self.given - self.used


@dataclass(frozen=True, slots=True)
class Bar:
    """`width` is a percentage of the longest bar; `color` a class's own, of the palette."""

    label: str
    number: int
    width: float
    shown: str = ""
    color: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a stacked bar in percent of the longest one."""

    split: str
    number: int
    start: float
    width: float


@dataclass(frozen=True, slots=True)
class ClassRow:
    label: str
    total: int
    parts: list[Part]
    color: str
    more: list[str]


@dataclass(frozen=True, slots=True)
class Balance:
    """Rows of classes; `more` names further columns."""

    noun: str
    more: list[str]
    rows: list[ClassRow]


@dataclass(frozen=True, slots=True)
class Measures:
    """One panel: facts in words and bars."""

    title: str
    facts: list[tuple[str, str]]
    bars_title: str
    bars: list[Bar]


def noun(task: str) -> str:
    return "texts" if task == Task.TEXT_CLASSIFICATION else "images"


def counts(report: Report, task: str) -> list[Counts]:
    """Returns what was given, used and left out: nothing is dropped in silence."""
    if rows := report.get("rows"):
        reasons = _tally(entry["message"] for entry in report.get("left_out", []))
        return [Counts("texts", rows["read"], rows["used"], reasons)]
    used = report["images"]
    reasons = _tally(entry["message"] for entry in report.get("corrupt", []))
    given = report.get("counts", {}).get("given", used + len(report.get("corrupt", [])))
    found = [Counts(noun(task), given, used, reasons)]
    if boxes := report.get("boxes"):
        why = [(number, _BOXES_LEFT_OUT.get(kind, kind)) for kind, number in boxes["left_out"].items() if number]
        found.append(Counts("boxes", boxes["given"], boxes["used"], why))
    return found


def _tally(messages: Iterable[str]) -> list[tuple[int, str]]:
    found: dict[str, int] = {}
    for message in messages:
        found[message] = found.get(message, 0) + 1
    return [(number, message) for message, number in found.items()]


def balance(report: Report, task: str) -> Balance:
    """Returns one row a class: of boxes for detection, else of the items that show it."""
    rows = [_class_row(row) for row in report["classes"]]
    longest = max((sum(row.values()) for row in rows), default=0) or 1
    palette = report.get("palette", [])
    more = {Task.OBJECT_DETECTION: ["Images"], Task.SEMANTIC_SEGMENTATION: ["Pixels"]}.get(Task(task), [])
    return Balance(
        COUNTED.get(Task(task), noun(task)),
        more,
        [
            ClassRow(
                entry["label"],
                sum(row.values()),
                list(_parts(row, longest)),
                palette[place] if place < len(palette) else "",
                _more_of(entry, task),
            )
            for place, (entry, row) in enumerate(zip(report["classes"], rows, strict=True))
        ],
    )


def _class_row(entry: Report) -> dict[str, int]:
    source = entry.get("boxes", entry)
    return {split.value: source[split.value] for split in Split}


def _parts(row: dict[str, int], longest: int) -> Iterator[Part]:
    start = 0.0
    for split, number in row.items():
        width = 100 * number / longest
        yield Part(split, number, round(start, 3), round(width, 3))
        start += width


def _more_of(entry: Report, task: str) -> list[str]:
    if task == Task.OBJECT_DETECTION:
        return [f"{entry['images']:,}"]
    return [percent(entry["shares"]["all"])] if task == Task.SEMANTIC_SEGMENTATION else []


def measures(report: Report) -> list[Measures]:
    """Returns the panels of this report, each only where the report has its numbers."""
    found = []
    if "sizes" in report:
        found.append(_of_images(report))
    if "boxes" in report:
        found += _of_boxes(report["boxes"])
    if "palette" in report:
        found.append(_of_masks(report))
    if "label_sets" in report:
        found.append(_of_label_sets(report["label_sets"], "texts" if "texts" in report else "images"))
    if "lengths" in report:
        found.append(_of_texts(report))
    return found


def _of_images(report: Report) -> Measures:
    sizes = report["sizes"]
    modes = ", ".join(f"{color_mode(mode)}: {number:,}" for mode, number in report["modes"].items())
    facts = [
        *((side.capitalize(), _range(sizes[side], "px")) for side in ("width", "height")),
        ("Color modes", modes),
    ]
    rows = sizes.get("histogram", [])
    return Measures(
        "Sizes", facts, "Images by their shorter side in pixels", bars((_span(row), row["images"]) for row in rows)
    )


def _of_boxes(boxes: Report) -> list[Measures]:
    size = boxes["size"]
    named = (("small", "below 32 × 32 pixels"), ("medium", "up to 96 × 96"), ("large", "above"))
    facts = [
        ("Share of the image", _quartiles(boxes["relative_area"], as_percent=True)),
        ("Width to height", _quartiles(boxes["aspect"])),
        ("Cut at the image's edge", f"{boxes['cut_edges']:,}"),
    ]
    per_image = boxes["per_image"]
    more = [
        ("Most in one image", f"{per_image['max']:,}"),
        ("Images without boxes", f"{boxes['images_without_boxes']:,}"),
        ("Images that no annotation names", f"{boxes['unlisted_images']:,}"),
    ]
    sized = ((f"{name} ({what})", size[name]) for name, what in named)
    return [
        Measures("Sizes of boxes", facts, "Boxes by size", bars(sized)),
        Measures("Boxes of an image", more, "Images by their number of boxes", bars(_each(per_image["histogram"]))),
    ]


def _each(rows: list[Report]) -> Iterator[tuple[str, int]]:
    """Yields (number of boxes, images), from a certain number on taken together."""
    for row in rows[:_MAX_BARS]:
        yield f"{row['boxes']:,}", row["images"]
    if rest := rows[_MAX_BARS:]:
        yield f"{rest[0]['boxes']:,} or more", sum(row["images"] for row in rest)


def _of_masks(report: Report) -> Measures:
    modes = ", ".join(f"{color_mode(mode)}: {number:,}" for mode, number in report["mask_modes"].items())
    facts = [
        ("Kinds of masks", modes),
        ("Pixels that count nowhere", percent(report["ignored_share"], 2)),
        ("Images without annotation", f"{report['unannotated']:,}"),
    ]
    rows = zip(report["classes"], report["palette"], strict=True)
    longest = max((row["shares"]["all"] for row in report["classes"]), default=0) or 1
    shares = [
        Bar(
            row["label"],
            row["pixels"],
            round(100 * row["shares"]["all"] / longest, 3),
            percent(row["shares"]["all"], 2),
            color,
        )
        for row, color in rows
    ]
    return Measures("Masks", facts, "Share of the pixels, and the color of each class", shares)


def _of_label_sets(sets: Report, noun: str) -> Measures:
    item, items = "text" if noun == "texts" else "image", noun.capitalize()
    each = sets[f"per_{item}"]
    facts = [
        (
            f"Labels of {'a' if item == 'text' else 'an'} {item}",
            f"{each['mean']:.2f} on average, {each['max']:,} at most",
        ),
        (f"{items} without any label", f"{sets[f'{noun}_without_labels']:,}"),
        ("Different sets of labels", f"{sets['distinct']:,}"),
    ]
    common = ((", ".join(row["labels"]) or "no label", row[noun]) for row in sets["most_common"][:_MAX_BARS])
    return Measures("Sets of labels", facts, f"{items} by their set of labels, the most frequent", bars(common))


def _of_texts(report: Report) -> Measures:
    lengths = report["lengths"]
    facts = [
        (name.capitalize(), f"{_range(lengths[name])}, 95% have at most {lengths[name]['p95']:,.0f}")
        for name in ("characters", "words")
    ]
    if ignored := report.get("ignored_columns"):
        facts.append(("Columns passed over", ", ".join(ignored)))
    rows = ((_span(row), row["texts"]) for row in lengths["histogram"])
    return Measures("Lengths", facts, "Texts by their number of characters", bars(rows))


def bars(rows: Iterable[tuple[str, int]]) -> list[Bar]:
    """Returns bars of (label, number) against the largest number."""
    listed = list(rows)
    longest = max((number for _, number in listed), default=0) or 1
    return [Bar(label, number, round(100 * number / longest, 3), f"{number:,}") for label, number in listed]


def _span(row: Report) -> str:
    return f"{row['low']:,} to {row['high'] - 1:,}"


def _range(values: Report, unit: str = "") -> str:
    low, high, middle = (f"{values[name]:,.0f}" for name in ("min", "max", "median"))
    return f"{low} to {high} {unit}".rstrip() + f", median {middle}"


def _quartiles(values: Report, *, as_percent: bool = False) -> str:
    def shown(value: float) -> str:
        return percent(value) if as_percent else f"{value:.2f}"

    half = f"half of them {shown(values['low'])} to {shown(values['high'])}"
    return f"{shown(values['min'])} to {shown(values['max'])}, {half}, median {shown(values['median'])}"
