"""The evaluation of a classifier, of images or of texts, as docs/engine.md describes it."""

from __future__ import annotations

from typing import Any

from finetuning.engine.evaluation import comparison, metrics
from finetuning.engine.evaluation.metrics import Predictions

BASELINES = {
    "majority": "Always guessing the most frequent class",
    "bought_with_probe": "The model as bought, with a linear probe",
}


def report(
    predictions: Predictions, baseline: Predictions | None, majority: int, *, labels: tuple[str, ...], seed: int
) -> dict[str, Any]:
    """Returns the evaluation of predictions on the test split, beside a baseline on the same items: that of
    `baseline`, or without one always guessing the class `majority`."""
    kind = "bought_with_probe" if baseline is not None else "majority"
    right = baseline.is_right if baseline is not None else predictions.truth == majority
    title = BASELINES[kind]
    compared = comparison.compare(predictions.is_right, right, seed=seed)
    measured = metrics.measure(predictions, seed=seed)
    accuracy = metrics.wilson(int(right.sum()), len(right))
    counts = metrics.confusion(predictions)
    return {
        "split": "test",
        "items": len(right),
        "labels": list(labels),
        "metrics": measured,
        "per_class": metrics.per_class(counts, labels),
        "confusion": counts.tolist(),
        "worst": metrics.worst(predictions, labels),
        "baseline": {"kind": kind, "title": title, "accuracy": accuracy.to_json()},
        "comparison": compared.to_json(),
        "verdict": comparison.sentence(
            compared,
            title=title[0].lower() + title[1:],
            accuracy=measured["accuracy"]["value"],
            baseline=accuracy.value,
            items=len(right),
        ),
        "verdict_code": compared.verdict.value,
    }
