"""The one metric that an evaluation is summed up by. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetuning.engine.hyper import Task
from finetuning.engine.metric_names import TITLES

# The key in an evaluation's `metrics` and `baseline`, and what people call it.
_KEYS = {
    Task.IMAGE_CLASSIFICATION: "accuracy",
    Task.OBJECT_DETECTION: "map",
    Task.SEMANTIC_SEGMENTATION: "miou",
    Task.TEXT_CLASSIFICATION: "accuracy",
}
HEADLINES: dict[Task, tuple[str, str]] = {task: (key, TITLES[key]) for task, key in _KEYS.items()}
# The best epoch and the best trial are those of the highest headline on validation items; of the other tasks those of
# the lowest loss.
CHOSEN_BY_HEADLINE = (Task.OBJECT_DETECTION, Task.SEMANTIC_SEGMENTATION)
# Of items that show any number of classes: no single answer could be accurate.
OF_LABEL_SETS = ("macro_average_precision", TITLES["macro_average_precision"])


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
