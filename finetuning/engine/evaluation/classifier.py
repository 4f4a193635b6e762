"""The evaluation of a classifier, of images or of texts, as docs/engine.md describes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from finetuning.engine.evaluation import comparison, intervals, metrics, reliability, slices
from finetuning.engine.evaluation.metrics import Predictions

BASELINES = {
    "majority": "Always guessing the most frequent class",
    "bought_with_probe": "The model as bought, with a linear probe",
    "parent": "The model as bought, which knows these classes",
    "tfidf": "Word and character counts (TF-IDF) with a linear head",
}
Rights = npt.NDArray[np.bool_]


def report(
    raw: Predictions,
    baseline: Predictions | None,
    majority: int,
    *,
    labels: tuple[str, ...],
    seed: int,
    noun: str = "test images",
    temperature: float = 1.0,
    leaked: tuple[int, ...] = (),
    parts: slices.Parts = slices.WHOLE,
) -> dict[str, Any]:
    """Returns the evaluation of predictions on the test split, beside a baseline on the same items: that of
    `baseline`, or without one always guessing the class `majority`. `noun` names the items in the verdict.

    `raw` holds the network's own logits; every confidence and loss is of the logits divided by the release's
    `temperature`, as they are served. `leaked` are numbers of test items that also lie among the training items;
    `parts` the parts of the data that they lie in."""
    predictions = raw.divided_by(temperature)
    kind = "bought_with_probe" if baseline is not None else "majority"
    right = baseline.is_right if baseline is not None else predictions.truth == majority
    counts = metrics.confusion(predictions)
    return {
        "split": "test",
        "items": len(right),
        "groups": len(set(predictions.group_numbers.tolist())),
        "effective_items": round(predictions.effective_count, 1),
        "labels": list(labels),
        "metrics": metrics.measure(predictions, seed=seed),
        "calibration": reliability.report(raw, temperature=temperature, seed=seed),
        "per_class": metrics.per_class(counts, labels),
        "slices": slices.report(predictions, labels, parts=parts),
        "without_leaked": slices.without(predictions, leaked),
        "confusion": counts.tolist(),
        "worst": metrics.worst(predictions, labels),
        **against(predictions, right, kind=kind, seed=seed, noun=noun),
    }


def against(predictions: Predictions, right: Rights, *, kind: str, seed: int, noun: str) -> dict[str, Any]:
    """Returns the comparison with one baseline of which `right` (N,) says where it is right: its accuracy, the
    paired test, and the verdict."""
    title, groups = BASELINES[kind], predictions.group_numbers
    compared = comparison.compare(predictions.is_right, right, seed=seed, groups=groups)
    accuracy = intervals.wilson_of(right, groups)
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
