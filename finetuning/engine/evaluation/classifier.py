"""The evaluation of a classifier, of images or of texts, as docs/engine.md describes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetuning.engine.evaluation import comparison, intervals, metrics, reliability, slices
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
    leaked: tuple[int, ...] = (),
    parts: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the evaluation of predictions on the test split, beside a baseline on the same items: that of
    `baseline`, or without one always guessing the class `majority`. `raw` holds the network's own logits; every
    confidence and loss is of the logits divided by the release's `temperature`, as they are served. `leaked` are numbers of test
    items that also lie among the training items; `parts` (N) names each item's part of the data."""
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
        "slices": slices.report(predictions, labels, parts=parts),
        "without_leaked": slices.without(predictions, leaked),
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
