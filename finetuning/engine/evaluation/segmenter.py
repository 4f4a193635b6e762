"""The evaluation of a segmenter, as docs/engine.md describes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finetuning.engine.evaluation import digests, pixels
from finetuning.engine.evaluation.comparison import SIGNIFICANCE, Verdict
from finetuning.engine.evaluation.intervals import quantile
from finetuning.engine.evaluation.metrics import Estimate, Floats, Ints, percentile_interval
from finetuning.engine.evaluation.pixels import Tally

BASELINES = {
    "majority": "Always the most frequent class",
    "bought_with_probe": "The model as bought, frozen, with a trained decoder",
}
_MAX_WORST = 24


@dataclass(frozen=True, slots=True)
class Scored:
    """The confusion (C, C) of each test image; images of one `group` count as one in intervals. `answers` are
    the digests of the predicted classes, none where nothing was predicted."""

    indices: list[int]
    groups: list[str]
    confusions: list[Ints]
    answers: list[bytes] = field(default_factory=list)

    def worst(self) -> list[dict[str, Any]]:
        """Returns the images with the lowest IoU of their own, at most 24."""
        ious = self.ious
        order = sorted(range(len(ious)), key=ious.__getitem__)[:_MAX_WORST]
        return [{"index": self.indices[place], "iou": ious[place]} for place in order]

    def grouped(self) -> Tally:
        sums: dict[str, Ints] = {}
        for group, counts in zip(self.groups, self.confusions, strict=True):
            sums[group] = sums[group] + counts if group in sums else counts
        return Tally.of(list(sums.values()))

    @property
    def sha256(self) -> str:
        return digests.of_answers(zip(self.indices, self.answers, strict=True))

    @property
    def ious(self) -> list[float]:
        """The mean IoU of each image over the classes that occur in it, truth or prediction."""
        return [float(pixels.miou(counts)) for counts in self.confusions]


def majority(scored: Scored, position: int) -> Scored:
    """Returns what always answering the class at `position` would score on the same images."""
    constant = []
    for counts in scored.confusions:
        other = np.zeros_like(counts)
        other[:, position] = counts.sum(1)
        constant.append(other)
    return Scored(scored.indices, scored.groups, constant)


def report(scored: Scored, baseline: Scored, kind: str, *, labels: Sequence[str], seed: int) -> dict[str, Any]:
    """Returns the evaluation of the test split beside a baseline on the same images: both are drawn together."""
    tally, base = scored.grouped(), baseline.grouped()
    drawn = pixels.draws(len(tally.hits), np.random.default_rng(seed))
    measured = pixels.measure(tally, drawn)
    theirs = pixels.resampled_miou(base, drawn)
    standing = percentile_interval(float(base.summed().miou), theirs)
    counts = np.sum(scored.confusions, axis=0)
    title = BASELINES[kind]
    gains = [one - other for one, other in zip(scored.ious, baseline.ious, strict=True)]
    compared = compare(measured["miou"]["value"] - standing.value, pixels.resampled_miou(tally, drawn) - theirs, gains)
    return {
        "split": "test",
        "items": len(scored.indices),
        "groups": len(tally.hits),
        "labels": list(labels),
        "metrics": measured,
        "per_class": pixels.per_class(counts, tally, drawn, labels),
        "confusion": counts.tolist(),
        "worst": scored.worst(),
        "baseline": {"kind": kind, "title": title, "miou": standing.to_json()},
        "comparison": compared.to_json(),
        "verdict": sentence(
            compared,
            title=title[0].lower() + title[1:],
            miou=measured["miou"]["value"],
            baseline=standing.value,
            items=len(scored.indices),
        ),
        "verdict_code": compared.verdict.value,
    }


@dataclass(frozen=True, slots=True)
class Comparison:
    """`better` and `worse` count the images whose own IoU rises and falls; `difference` is in mIoU of the
    summed confusions, `smallest_visible` the smallest one that this many images, as different as these, could
    have shown."""

    better: int
    worse: int
    p_value: float
    difference: Estimate
    smallest_visible: float

    @property
    def verdict(self) -> Verdict:
        if self.p_value >= SIGNIFICANCE or self.difference.low <= 0 <= self.difference.high:
            return Verdict.NO_MEASURABLE_GAIN
        return Verdict.BETTER if self.difference.value > 0 else Verdict.WORSE

    def to_json(self) -> dict[str, Any]:
        return {
            "test": "paired bootstrap of images",
            "better": self.better,
            "worse": self.worse,
            "p_value": self.p_value,
            "difference": self.difference.to_json(),
            "smallest_visible": self.smallest_visible,
        }


def compare(value: float, resampled: Floats, gains: Sequence[float]) -> Comparison:
    """Compares two segmenters by the differences (B,) of their mIoU on the same resampled images. The p-value
    is twice the share of resamples on the other side of zero, at least 1 / B."""
    tail = min(float((resampled <= 0).mean()), float((resampled >= 0).mean()))
    z = quantile()
    return Comparison(
        better=sum(gain > 0 for gain in gains),
        worse=sum(gain < 0 for gain in gains),
        p_value=min(1.0, max(2 * tail, 1 / len(resampled))),
        difference=percentile_interval(value, resampled),
        smallest_visible=z * float(resampled.std()),
    )


def sentence(comparison: Comparison, *, title: str, miou: float, baseline: float, items: int) -> str:
    """Returns the verdict for people. `title` names the baseline in the middle of a sentence."""
    difference = comparison.difference
    p_value = "p < 0.001" if comparison.p_value < 0.001 else f"p = {comparison.p_value:.3f}"
    figures = (
        f"mIoU {miou:.1%} against {baseline:.1%} on {items:,} test images; difference "
        f"{100 * difference.value:+.1f} points, 95% interval {100 * difference.low:+.1f} to "
        f"{100 * difference.high:+.1f}, {p_value}"
    )
    visible = f"A test set of this size shows differences from {100 * comparison.smallest_visible:.1f} points."
    match comparison.verdict:
        case Verdict.BETTER:
            return f"Better than {title}: {figures}."
        case Verdict.WORSE:
            return f"Worse than {title}: {figures}."
        case Verdict.NO_MEASURABLE_GAIN:
            return f"No measurable gain over {title}: {figures}. {visible}"
