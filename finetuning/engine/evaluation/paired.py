"""Is one model better than another on the same test items, by a score that is no mean over items? A paired bootstrap
says: both are scored on the same resamples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from finetuning.engine.evaluation.comparison import SIGNIFICANCE, Verdict
from finetuning.engine.evaluation.intervals import Estimate, Floats, percentile_interval, quantile


@dataclass(frozen=True, slots=True)
class Comparison:
    """`better` and `worse` count the items whose own score rises and falls; `difference` is in the score of all
    items together, `smallest_visible` the smallest one that this many items, as different as these, could have
    shown. `noun` names the items."""

    better: int
    worse: int
    p_value: float
    difference: Estimate
    smallest_visible: float
    noun: str

    @property
    def verdict(self) -> Verdict:
        if self.p_value >= SIGNIFICANCE or self.difference.low <= 0 <= self.difference.high:
            return Verdict.NO_MEASURABLE_GAIN
        return Verdict.BETTER if self.difference.value > 0 else Verdict.WORSE

    def to_json(self) -> dict[str, Any]:
        return {
            "test": f"paired bootstrap of {self.noun}",
            "better": self.better,
            "worse": self.worse,
            "p_value": self.p_value,
            "difference": self.difference.to_json(),
            "smallest_visible": self.smallest_visible,
        }


def compare(value: float, resampled: Floats, gains: Sequence[float], *, noun: str = "images") -> Comparison:
    """Compares two models by the differences (B,) of their score on the same resampled items. The p-value is twice
    the share of resamples on the other side of zero, at least 1 / B."""
    tail = min(float((resampled <= 0).mean()), float((resampled >= 0).mean()))
    return Comparison(
        better=sum(gain > 0 for gain in gains),
        worse=sum(gain < 0 for gain in gains),
        p_value=min(1.0, max(2 * tail, 1 / len(resampled))),
        difference=percentile_interval(value, resampled),
        smallest_visible=quantile() * float(resampled.std()),
        noun=noun,
    )


def sentence(comparison: Comparison, *, title: str, score: str, value: float, baseline: float, items: int) -> str:
    """Returns the verdict for people. `title` names the baseline in the middle of a sentence, `score` what is
    compared."""
    difference = comparison.difference
    p_value = "p < 0.001" if comparison.p_value < 0.001 else f"p = {comparison.p_value:.3f}"
    named = title[0].lower() + title[1:]
    figures = (
        f"{score} {value:.1%} against {baseline:.1%} on {items:,} test {comparison.noun}; difference "
        f"{100 * difference.value:+.1f} points, 95% interval {100 * difference.low:+.1f} to "
        f"{100 * difference.high:+.1f}, {p_value}"
    )
    visible = f"A test set of this size shows differences from {100 * comparison.smallest_visible:.1f} points."
    match comparison.verdict:
        case Verdict.BETTER:
            return f"Better than {named}: {figures}."
        case Verdict.WORSE:
            return f"Worse than {named}: {figures}."
        case Verdict.NO_MEASURABLE_GAIN:
            return f"No measurable gain over {named}: {figures}. {visible}"
