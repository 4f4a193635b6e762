"""The tables of an evaluation: scores of classes, confusion, and what a detector's curves and mistakes are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetuning.web import dataset_reports, plots
from finetuning.web.dataset_reports import Bar
from finetuning.web.metrics import METRICS
from marketplace.templatetags.market import percent

Evaluation = dict[str, Any]
MAX_MATRIX = 30  # classes: a larger matrix cannot be read, its commonest mistakes can
MAX_CONFUSED = 8
MAX_CURVES = 12  # drawn; the table has all of them
_RECALLS = 4  # of 21 places every fourth stands in the table
_ERRORS = {
    "right": "Right",
    "class": "Right place, wrong class",
    "localisation": "Right class, box too far off",
    "both": "Wrong class and too far off",
    "duplicate": "Found a second time",
    "background": "Nothing is there",
    "missed": "Missed: no box comes near",
}


@dataclass(frozen=True, slots=True)
class ClassTable:
    columns: list[str]
    rows: list[tuple[str, str, list[str]]]  # class, its color or nothing, cells


@dataclass(frozen=True, slots=True)
class Confusion:
    """Rows of (class, cells of (shown, share of the row)); `commonest` of (shown, truth, guess)."""

    rows: list[tuple[str, list[tuple[str, float]]]]
    labels: list[str]
    commonest: list[tuple[str, str, str]]
    of_pixels: bool


@dataclass(frozen=True, slots=True)
class Detection:
    curves: list[plots.Curve]
    table: ClassTable
    errors: list[Bar]
    confidence: str
    by_size: list[tuple[str, str, str]]


def classes(evaluation: Evaluation, noun: str) -> ClassTable:
    rows, palette = evaluation.get("per_class", []), evaluation.get("palette", [])
    if "ap" in (rows[0] if rows else {}):
        columns, write = ["AP", "AP at IoU 0.5", "Recall", "Boxes", "Images"], _detected
    elif "iou" in (rows[0] if rows else {}):
        columns, write = ["IoU", "95% interval", "Dice", "Precision", "Recall", "Pixels", "Images"], _segmented
    elif "average_precision" in (rows[0] if rows else {}):
        columns = ["Average precision", "F1", "Precision", "Recall", f"Test {noun}", "Threshold"]
        write = _labelled
    else:
        columns, write = ["F1", "Precision", "Recall", f"Test {noun}"], _classified
    colors = [*palette, *[""] * (len(rows) - len(palette))]
    return ClassTable(columns, [(row["label"], color, write(row)) for row, color in zip(rows, colors, strict=False)])


def _classified(row: Evaluation) -> list[str]:
    return [*(percent(row[name]) for name in ("f1", "precision", "recall")), f"{row['support']:,}"]


def _labelled(row: Evaluation) -> list[str]:
    return [percent(row["average_precision"]), *_classified(row), percent(row["threshold"], 0)]


def _segmented(row: Evaluation) -> list[str]:
    iou = row["iou"] or {}
    interval = f"{percent(iou['low'])} to {percent(iou['high'])}" if iou else "–"
    scores = (percent(row[name]) for name in ("dice", "precision", "recall"))
    return [percent(iou.get("value")), interval, *scores, f"{row['pixels']:,}", f"{row['images']:,}"]


def _detected(row: Evaluation) -> list[str]:
    scores = (METRICS["map"].written(row[name]) for name in ("ap", "ap50", "average_recall"))
    return [*scores, f"{row['boxes']:,}", f"{row['images']:,}"]


def confusion(evaluation: Evaluation, *, of_pixels: bool) -> Confusion | None:
    matrix, labels = evaluation.get("confusion"), evaluation.get("labels", [])
    if not matrix:
        return None
    rows = [[(count, count / (sum(row) or 1)) for count in row] for row in matrix]
    mistakes = sorted(
        (
            (count, share, labels[truth], labels[guess])
            for truth, row in enumerate(rows)
            for guess, (count, share) in enumerate(row)
            if count and truth != guess
        ),
        key=lambda mistake: -mistake[0],
    )

    def shown(count: int, share: float) -> str:
        return percent(share, 0) if of_pixels else f"{count:,}"

    return Confusion(
        rows=[
            (label, [(shown(count, share), share) for count, share in row])
            for label, row in zip(labels, rows, strict=True)
        ]
        if len(labels) <= MAX_MATRIX
        else [],
        labels=labels,
        commonest=[
            (f"{percent(share)} of its pixels" if of_pixels else f"{count:,}", truth, guess)
            for count, share, truth, guess in mistakes[:MAX_CONFUSED]
        ],
        of_pixels=of_pixels,
    )


def detection(evaluation: Evaluation) -> Detection:
    shown = [row for row in evaluation["per_class"] if row["ap50"] is not None]
    recalls = shown[0]["curve"]["recall"] if shown else []
    middle = plots.mean(row["curve"]["precision"] for row in shown)
    write = METRICS["map50"].written
    named = [
        ("Mean of the classes", evaluation["metrics"]["map50"]["value"], middle),
        *((row["label"], row["ap50"], row["curve"]["precision"]) for row in shown),
    ]
    places = range(0, len(recalls), _RECALLS)
    rows = [(f"{recalls[at]:.0%}", "", [percent(values[at], 0) for *_, values in named]) for at in places]
    curves = [plots.curve(title, write(value), recalls, values) for title, value, values in named[: MAX_CURVES + 1]]
    errors = dataset_reports.bars((_ERRORS.get(kind, kind), count) for kind, count in evaluation["errors"].items())
    return Detection(
        curves=curves if recalls else [],
        table=ClassTable([title for title, *_ in named], rows),
        errors=errors,
        confidence=percent(evaluation["confidence"], 0),
        by_size=[
            (size, write(row["map"]), write(row["average_recall"])) for size, row in evaluation["by_size"].items()
        ],
    )
