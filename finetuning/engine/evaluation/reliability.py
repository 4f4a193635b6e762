"""How true the confidences of a classifier are on the test items, before and after its temperature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from finetuning.engine.evaluation import calibration, intervals
from finetuning.engine.evaluation.intervals import Floats, Ints


@dataclass(frozen=True, slots=True)
class Answers:
    """`confidences` and `right`, (N,) or (N, K): how sure each of an item's K answers is, and whether it is true.
    `losses` are further scores of each item (N,), each with the largest mean that is thinkable."""

    confidences: Floats
    right: npt.NDArray[np.bool_]
    losses: Mapping[str, tuple[Floats, float]]


class Judged(Protocol):
    """Predictions of one class each, or of label sets."""

    @property
    def answers(self) -> Answers: ...

    @property
    def group_numbers(self) -> Ints: ...

    def divided_by(self, temperature: float) -> Self: ...


def report(raw: Judged, *, temperature: float, seed: int) -> dict[str, Any]:
    """Returns the part `calibration` of an evaluation; `raw` holds the logits as the network gives them. The
    temperature was chosen on validation items: the test items only judge it."""
    served = raw.divided_by(temperature)
    return {
        "temperature": temperature,
        "bins": calibration.BINS,
        "before": _scores(raw, seed=seed),
        "after": _scores(served, seed=seed),
        "reliability": {"before": _diagram(raw.answers), "after": _diagram(served.answers)},
    }


def _scores(judged: Judged, *, seed: int) -> dict[str, dict[str, float]]:
    answers, groups = judged.answers, judged.group_numbers
    widths, masses = (
        bins(answers.confidences, answers.right) for bins in (calibration.equal_width, calibration.equal_mass)
    )
    each = answers.confidences.size / len(groups)  # answers of an item
    columns = [
        np.ones(len(groups)),
        *(losses for losses, _ in answers.losses.values()),
        *(widths.gaps / each).T,
        *(masses.gaps / each).T,
    ]
    table = intervals.sums_by_group(np.stack(columns, axis=1), groups)
    drawn = np.concatenate([_of_sums(weights @ table) for weights in intervals.resamples(groups, seed=seed)])
    values = _of_sums(table.sum(axis=0)[None])[0]
    limits = {"expected_calibration_error": 1.0, "expected_calibration_error_equal_mass": 1.0}
    limits |= {name: limit for name, (_, limit) in answers.losses.items()}
    count = intervals.effective_count(groups)
    return {
        name: intervals.never_of_zero_width(
            intervals.percentile_interval(float(values[at]), drawn[:, at]), count=count, bounds=(0.0, limit)
        ).to_json()
        for at, (name, limit) in enumerate(limits.items())
    }


def _of_sums(sums: Floats) -> Floats:
    """Returns (B, S) scores, in the order of `limits`, for sums over the items of B resamples."""
    total, first = sums[:, 0], sums.shape[1] - 2 * calibration.BINS
    bins = (sums[:, first : first + calibration.BINS], sums[:, first + calibration.BINS :])
    errors = (calibration.expected_error(part, total) for part in bins)
    return np.stack([*errors, *(sums[:, at] / total for at in range(1, first))], axis=1)


def _diagram(answers: Answers) -> list[dict[str, float]]:
    confidences, right = answers.confidences, answers.right
    return calibration.diagram(calibration.equal_width(confidences, right), confidences, right)
