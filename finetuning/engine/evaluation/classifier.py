"""The evaluation of a classifier, of images or of texts, as docs/engine.md describes it."""

from __future__ import annotations

from typing import Any

from finetuning.engine.evaluation import comparison, intervals, metrics, reliability
from finetuning.engine.evaluation.metrics import Predictions

BASELINES = {
    "majority": "Always guessing the most frequent class",
    "bought_with_probe": "The model as bought, with a linear probe",
}


def report(
    raw: Predictions,
    baseline: Predictions | None,
    majority: int,
    *,
    labels: tuple[str, ...],
    seed: int,
    temperature: float = 1.0,
) -> dict[str, Any]:
    """Returns the evaluation of predictions on the test split, beside a baseline on the same items: that of
    `baseline`, or without one always guessing the class `majority`. `raw` holds the network's own logits; every
    confidence and loss is of the logits divided by the release's `temperature`, as they are served."""
    predictions = raw.divided_by(temperature)
    kind = "bought_with_probe" if baseline is not None else "majority"
    right = baseline.is_right if baseline is not None else predictions.truth == majority
    title = BASELINES[kind]
    groups = predictions.group_numbers
    compared = comparison.compare(predictions.is_right, right, seed=seed, groups=groups)
    measured = metrics.measure(predictions, seed=seed)
    accuracy = intervals.wilson_of(right, groups)
    counts = metrics.confusion(predictions)
    return {
        "split": "test",
        "items": len(right),
        "groups": len(set(groups.tolist())),
        "effective_items": round(predictions.effective_count, 1),
        "labels": list(labels),
        "metrics": measured,
        "calibration": reliability.report(raw, temperature=temperature, seed=seed),
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
