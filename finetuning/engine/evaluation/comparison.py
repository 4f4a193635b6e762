"""Is one classifier better than another on the same test items, beyond chance?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from finetuning.engine.evaluation import intervals
from finetuning.engine.evaluation.intervals import Estimate, Floats, Ints, percentile_interval

SIGNIFICANCE = 0.05
_FEWEST_DISCORDANT = 6  # 6:0 is the smallest count with an exact two-sided p below 0.05 (0.031)


class Verdict(StrEnum):
    BETTER = "better"
    WORSE = "worse"
    NO_MEASURABLE_GAIN = "no_measurable_gain"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`better` counts the items that only the tuned weights get right, `worse` those that only the
    baseline does; a group of duplicates counts once, for the side that gets more of it right. `difference` is
    in accuracy. `smallest_visible` is the smallest difference in accuracy that this many items with this much
    disagreement could have shown."""

    better: int
    worse: int
    p_value: float
    difference: Estimate
    smallest_visible: float

    @property
    def verdict(self) -> Verdict:
        if self.p_value >= SIGNIFICANCE:
            return Verdict.NO_MEASURABLE_GAIN
        return Verdict.BETTER if self.better > self.worse else Verdict.WORSE

    def to_json(self) -> dict[str, Any]:
        return {"test": "exact McNemar", **asdict(self)}


def mcnemar(better: int, worse: int) -> float:
    """Returns the exact two-sided p-value of McNemar's test on the discordant items; 1 without any. Both tails of the
    binomial with p = 1/2 are equal: twice the smaller one."""
    return min(1.0, 2 * float(bdtr(min(better, worse), better + worse, 0.5)))


def compare(
    tuned: npt.NDArray[np.bool_], baseline: npt.NDArray[np.bool_], *, seed: int, groups: Ints | None = None
) -> Comparison:
    """Compares two classifiers by which of the same items (N,) each gets right. `groups` (N,) numbers the
    items' groups from 0."""
    groups = np.arange(len(tuned)) if groups is None else groups
    leads = tuned.astype(np.int64) - baseline
    by_group = np.bincount(groups, weights=leads)
    better, worse = int((by_group > 0).sum()), int((by_group < 0).sum())
    return Comparison(
        better=better,
        worse=worse,
        p_value=mcnemar(better, worse),
        difference=_difference(leads.astype(np.float64), groups, seed=seed),
        smallest_visible=smallest_visible(better + worse, len(by_group)),
    )


def _difference(leads: Floats, groups: Ints, *, seed: int) -> Estimate:
    """Returns the mean lead (N,) with its group bootstrap interval."""
    sums = intervals.sums_by_group(np.stack([np.ones(len(leads)), leads], axis=1), groups)
    drawn = np.concatenate([weights @ sums for weights in intervals.resamples(groups, seed=seed)])
    plain = percentile_interval(float(leads.mean()), drawn[:, 1] / drawn[:, 0])
    return intervals.never_of_zero_width(plain, count=intervals.effective_count(groups), bounds=(-1.0, 1.0))


def smallest_visible(discordant: int, total: int) -> float:
    """Returns the smallest difference in accuracy that `discordant` disagreements among `total` items can
    prove at p < 0.05. With fewer than six disagreements nothing can be proved: six are assumed."""
    pairs = max(discordant, _FEWEST_DISCORDANT)
    wins = next(k for k in range((pairs + 1) // 2, pairs + 1) if mcnemar(k, pairs - k) < SIGNIFICANCE)
    return min(1.0, (2 * wins - pairs) / total)


def sentence(
    comparison: Comparison, *, title: str, accuracy: float, baseline: float, items: int, noun: str = "test images"
) -> str:
    """Returns the verdict for people. `title` names the baseline in the middle of a sentence, `noun` the items."""
    difference = comparison.difference
    figures = (
        f"{accuracy:.1%} against {baseline:.1%} on {items:,} {noun}; difference "
        f"{100 * difference.value:+.1f} points, 95% interval {100 * difference.low:+.1f} to "
        f"{100 * difference.high:+.1f}, {_p_text(comparison.p_value)}"
    )
    match comparison.verdict:
        case Verdict.BETTER:
            return f"Better than {title}: {figures}."
        case Verdict.WORSE:
            return f"Worse than {title}: {figures}."
        case Verdict.NO_MEASURABLE_GAIN:
            return (
                f"No measurable gain over {title}: {figures}. A test set of this size shows differences "
                f"from {100 * comparison.smallest_visible:.1f} points."
            )


def _p_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
