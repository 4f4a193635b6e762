"""What each metric is called, what it says in plain words, and how its numbers are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetuning.engine.headlines import HEADLINES, OF_LABEL_SETS
from marketplace.templatetags.market import percent

Estimated = dict[str, float]  # {value, low, high}: a value with its 95% interval


@dataclass(frozen=True, slots=True)
class Metric:
    """`is_share`: written as a percentage, differences in points; else as a number."""

    title: str
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
    "accuracy": Metric("Accuracy", "Share of the test items that get the right class."),
    "top5_accuracy": Metric("Top-5 accuracy", "Share whose right class is among the five surest guesses."),
    "balanced_accuracy": Metric(
        "Balanced accuracy", "Mean of the classes' recalls: a rare class counts like any other."
    ),
    "macro_f1": Metric("Macro F1", "Mean of the classes' F1, which weighs false alarms and misses alike."),
    "matthews_correlation": Metric(
        "Matthews correlation", "Agreement with the truth beyond chance: 0 is guessing, 1 is perfect.", is_share=False
    ),
    "auroc": Metric(
        "AUROC", "Chance that an item of a class is ranked above one of another, mean of the classes; 50% is guessing."
    ),
    "negative_log_likelihood": Metric(
        "Negative log-likelihood",
        "Surprise at the truth, in nats: sure and wrong costs most.",
        is_share=False,
        is_higher_better=False,
    ),
    "brier": Metric(
        "Brier score",
        "Squared distance of the confidences from the truth, from 0 to 2.",
        is_share=False,
        is_higher_better=False,
    ),
    "expected_calibration_error": Metric(
        "Calibration error",
        "Mean gap between confidence and how often it is right, in bins of equal width.",
        is_higher_better=False,
    ),
    "expected_calibration_error_equal_mass": Metric(
        "Calibration error, equal bins",
        "The same in bins of equally many items.",
        is_higher_better=False,
    ),
    "macro_average_precision": Metric(
        "Mean average precision",
        "For each label, how far up the images that have it are ranked; mean of the labels.",
    ),
    "micro_average_precision": Metric(
        "Average precision, all labels together", "The same over every pair of image and label at once."
    ),
    "micro_f1": Metric(
        "Micro F1", "F1 of all decisions together, at each label's threshold: frequent labels decide it."
    ),
    "subset_accuracy": Metric("Whole sets right", "Share of the images with exactly the right labels, none missing."),
    "hamming_loss": Metric(
        "Hamming loss", "Share of all decisions, one for each image and label, that are wrong.", is_higher_better=False
    ),
    "map": Metric(
        "Mean average precision",
        "Area under precision over recall, mean of classes and of overlaps (IoU) from 0.5 to 0.95.",
    ),
    "map50": Metric("mAP at IoU 0.5", "The same, where half of the area must agree."),
    "map75": Metric("mAP at IoU 0.75", "The same, where three quarters must agree."),
    "average_recall": Metric("Average recall", "Share of the objects that are found, mean of the same overlaps."),
    "miou": Metric("Mean IoU", "Overlap of predicted and true area, divided by their union, mean of the classes."),
    "mean_dice": Metric("Mean Dice", "Twice the overlap, divided by both areas, mean of the classes."),
    "pixel_accuracy": Metric(
        "Pixel accuracy", "Share of the pixels that get the right class; large classes decide it."
    ),
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
    metric = METRICS.get(name, Metric(name.replace("_", " ").capitalize(), "", is_share=False))
    is_drawn = 0 <= estimate["low"] <= estimate["high"] <= 1 and metric.is_higher_better
    return Figure(
        name=name,
        title=title or metric.title,
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
