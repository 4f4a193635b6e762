"""The evaluation of a classifier, of images or of texts, as docs/engine.md describes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from finetuning.engine.evaluation import comparison, metrics
from finetuning.engine.evaluation.metrics import Predictions

BASELINES = {
    "majority": "Always guessing the most frequent class",
    "bought_with_probe": "The model as bought, with a linear probe",
    "tfidf": "Word and character counts (TF-IDF) with a linear head",
}
Rights = npt.NDArray[np.bool_]


def report(
    predictions: Predictions,
    baseline: Predictions | None,
    majority: int,
    *,
    labels: tuple[str, ...],
    seed: int,
    noun: str = "test images",
) -> dict[str, Any]:
    """Returns the evaluation of predictions on the test split, beside a baseline on the same items: that of
    `baseline`, or without one always guessing the class `majority`. `noun` names the items in the verdict."""
    kind = "bought_with_probe" if baseline is not None else "majority"
    right = baseline.is_right if baseline is not None else predictions.truth == majority
    measured = metrics.measure(predictions, seed=seed)
    counts = metrics.confusion(predictions)
    return {
        "split": "test",
        "items": len(right),
        "labels": list(labels),
        "metrics": measured,
        "per_class": metrics.per_class(counts, labels),
        "confusion": counts.tolist(),
        "worst": metrics.worst(predictions, labels),
        **against(predictions, right, kind=kind, seed=seed, noun=noun),
    }


def against(predictions: Predictions, right: Rights, *, kind: str, seed: int, noun: str) -> dict[str, Any]:
    """Returns the comparison with one baseline of which `right` (N,) says where it is right: its accuracy, the
    paired test, and the verdict."""
    title = BASELINES[kind]
    compared = comparison.compare(predictions.is_right, right, seed=seed)
    accuracy = metrics.wilson(int(right.sum()), len(right))
    return {
        "baseline": {"kind": kind, "title": title, "accuracy": accuracy.to_json()},
        "comparison": compared.to_json(),
        "verdict": comparison.sentence(
            compared,
            title=title[0].lower() + title[1:],
            accuracy=float(predictions.is_right.mean()),
            baseline=accuracy.value,
            items=len(right),
            noun=noun,
        ),
        "verdict_code": compared.verdict.value,
    }


def others(predictions: Predictions, rights: Mapping[str, Rights], *, seed: int, noun: str) -> list[dict[str, Any]]:
    """Returns the comparison with each further baseline, by its kind, each as flat as one row of a table."""
    rows = []
    for kind, right in rights.items():
        row = against(predictions, right, kind=kind, seed=seed, noun=noun)
        rows.append({**row.pop("baseline"), **row})
    return rows
