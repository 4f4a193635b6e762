"""What each metric says in plain words, and how its numbers are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetuning.engine.headlines import HEADLINES, OF_LABEL_SETS
from finetuning.engine.metric_names import title_of
from marketplace.templatetags.market import percent

Estimated = dict[str, float]  # {value, low, high}: a value with its 95% interval


@dataclass(frozen=True, slots=True)
class Metric:
    """`is_share`: written as a percentage, differences in points; else as a number."""

    meaning: str
    is_share: bool = True
    is_higher_better: bool = True

    def written(self, value: float | None) -> str:
        if value is None:
            return "–"
        return percent(value) if self.is_share else f"{value:.3f}"

    def difference(self, value: float) -> str:
        return f"{100 * value:+.1f}" if self.is_share else f"{value:+.3f}"


METRICS: dict[str, Metric] = {
    "accuracy": Metric("Share of the test items that get the right class."),
    "top5_accuracy": Metric("Share whose right class is among the five surest guesses."),
    "balanced_accuracy": Metric("Mean of the classes' recalls: a rare class counts like any other."),
    "macro_f1": Metric("Mean of the classes' F1, which weighs false alarms and misses alike."),
    "matthews_correlation": Metric(
        "Agreement with the truth beyond chance: 0 is guessing, 1 is perfect.", is_share=False
    ),
    "auroc": Metric(
        "Chance that an item of a class is ranked above one of another, mean of the classes; 50% is guessing."
    ),
    "negative_log_likelihood": Metric(
        "Surprise at the truth, in nats: sure and wrong costs most.",
        is_share=False,
        is_higher_better=False,
    ),
    "brier": Metric(
        "Squared distance of the confidences from the truth, from 0 to 2.",
        is_share=False,
        is_higher_better=False,
    ),
    "expected_calibration_error": Metric(
        "Mean gap between confidence and how often it is right, in bins of equal width.",
        is_higher_better=False,
    ),
    "expected_calibration_error_equal_mass": Metric(
        "The same in bins of equally many items.",
        is_higher_better=False,
    ),
    "macro_average_precision": Metric(
        "Mean average precision: for each label, how far up the items that have it are ranked; mean of the labels.",
    ),
    "micro_average_precision": Metric("The same over every pair of item and label at once."),
    "micro_f1": Metric("F1 of all decisions together, at each label's threshold: frequent labels decide it."),
    "subset_accuracy": Metric("Share of the items with exactly the right labels, none missing."),
    "hamming_loss": Metric(
        "Share of all decisions, one for each item and label, that are wrong.", is_higher_better=False
    ),
    "map": Metric(
        "Mean average precision: area under precision over recall, mean of classes and of overlaps (IoU) from 0.5 to 0.95.",
    ),
    "map50": Metric("The same, where half of the area must agree."),
    "map75": Metric("The same, where three quarters must agree."),
    "average_recall": Metric("Share of the objects that are found, mean of the same overlaps."),
    "miou": Metric(
        "Intersection over union: overlap of predicted and true area, divided by their union, mean of the classes."
    ),
    "mean_dice": Metric("Twice the overlap, divided by both areas, mean of the classes."),
    "pixel_accuracy": Metric("Share of the pixels that get the right class; large classes decide it."),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured metric as a page shows it; the drawing is left out where the scale is not 0 to 1."""

    name: str
    title: str
    meaning: str
    direction: str
    value: float
    shown: str
    low: str
    high: str
    left: float | None
    width: float
    point: float


def headline_of(evaluation: dict[str, Any]) -> str:
    """Returns the name of the metric that the evaluation is judged by, empty where there is none."""
    known = (OF_LABEL_SETS, *HEADLINES.values())
    return next((name for name, _ in known if name in evaluation.get("metrics", {})), "")


def figure(name: str, estimate: Estimated, *, title: str = "") -> Figure:
    metric = METRICS.get(name, Metric("", is_share=False))
    is_drawn = 0 <= estimate["low"] <= estimate["high"] <= 1 and metric.is_higher_better
    return Figure(
        name=name,
        title=title or title_of(name),
        meaning=metric.meaning,
        direction="higher is better" if metric.is_higher_better else "lower is better",
        value=estimate["value"],
        shown=metric.written(estimate["value"]),
        low=metric.written(estimate["low"]),
        high=metric.written(estimate["high"]),
        left=round(100 * estimate["low"], 2) if is_drawn else None,
        width=round(100 * (estimate["high"] - estimate["low"]), 2),
        point=round(100 * estimate["value"], 2),
    )
