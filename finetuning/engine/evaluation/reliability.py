"""How true the confidences of a classifier are on the test items, before and after its temperature."""

from __future__ import annotations

from typing import Any

import numpy as np

from finetuning.engine.evaluation import calibration, intervals
from finetuning.engine.evaluation.metrics import Predictions


def report(raw: Predictions, *, temperature: float, seed: int) -> dict[str, Any]:
    """Returns the part `calibration` of an evaluation; `raw` holds the logits as the network gives them. The
    temperature was chosen on validation items: the test items only judge it."""
    served = raw.divided_by(temperature)
    return {
        "temperature": temperature,
        "bins": calibration.BINS,
        "before": _scores(raw, seed=seed),
        "after": _scores(served, seed=seed),
        "reliability": {"before": _diagram(raw), "after": _diagram(served)},
    }


def _scores(predictions: Predictions, *, seed: int) -> dict[str, dict[str, float]]:
    confidences, right = predictions.shares.max(axis=1), predictions.is_right
    groups, count = predictions.group_numbers, predictions.effective_count
    widths, masses = calibration.equal_width(confidences, right), calibration.equal_mass(confidences, right)
    columns = [
        np.ones(len(right)),
        predictions.losses,
        calibration.brier(predictions.shares, predictions.truth),
        *widths.gaps.T,
        *masses.gaps.T,
    ]
    table = intervals.sums_by_group(np.stack(columns, axis=1), groups)
    drawn = np.concatenate([_of_sums(weights @ table) for weights in intervals.resamples(groups, seed=seed)])
    values = _of_sums(table.sum(axis=0)[None])[0]
    worst_loss = max(float(np.log(predictions.logits.shape[1])), 2 * float(values[2]))
    limits = {
        "expected_calibration_error": 1.0,
        "expected_calibration_error_equal_mass": 1.0,
        "negative_log_likelihood": worst_loss,
        "brier": 2.0,
    }
    return {
        name: intervals.never_of_zero_width(
            intervals.percentile_interval(float(values[at]), drawn[:, at]), count=count, bounds=(0.0, limit)
        ).to_json()
        for at, (name, limit) in enumerate(limits.items())
    }


def _of_sums(sums: intervals.Floats) -> intervals.Floats:
    """Returns (B, 4) scores, in the order of `limits`, for sums over the items of B resamples."""
    total, cut = sums[:, 0], 3 + calibration.BINS
    errors = (calibration.expected_error(part, total) for part in (sums[:, 3:cut], sums[:, cut:]))
    return np.stack([*errors, sums[:, 1] / total, sums[:, 2] / total], axis=1)


def _diagram(predictions: Predictions) -> list[dict[str, float]]:
    confidences, right = predictions.shares.max(axis=1), predictions.is_right
    return calibration.diagram(calibration.equal_width(confidences, right), confidences, right)
