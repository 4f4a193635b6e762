"""The one metric that an evaluation is summed up by. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetuning.engine.hyper import Task

# The key in an evaluation's `metrics` and `baseline`, and what people call it.
HEADLINES: dict[Task, tuple[str, str]] = {
    Task.IMAGE_CLASSIFICATION: ("accuracy", "Accuracy"),
    Task.OBJECT_DETECTION: ("map", "mAP"),
    Task.SEMANTIC_SEGMENTATION: ("miou", "mIoU"),
    Task.TEXT_CLASSIFICATION: ("accuracy", "Accuracy"),
}
# Of images that show any number of classes: no single answer could be accurate.
OF_LABEL_SETS = ("macro_average_precision", "mAP over labels")


@dataclass(frozen=True, slots=True)
class Measured:
    """A share, 0 to 1, with the ends of its 95% interval."""

    key: str
    title: str
    value: float
    low: float
    high: float


def named(task: Task, figures: dict[str, Any]) -> tuple[str, str]:
    """Returns the headline's key and title, by what an evaluation's `metrics` or `baseline` hold."""
    return OF_LABEL_SETS if OF_LABEL_SETS[0] in figures else HEADLINES[task]


def headline(task: Task, figures: dict[str, Any]) -> Measured | None:
    """Returns the headline of an evaluation's `metrics` or `baseline`, or None where it is not there."""
    key, title = named(task, figures)
    figure = figures.get(key)
    return Measured(key, title, figure["value"], figure["low"], figure["high"]) if figure else None
