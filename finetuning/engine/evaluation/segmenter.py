"""The evaluation of a segmenter, as docs/engine.md describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finetuning.engine.evaluation import digests, paired, pixels, slices
from finetuning.engine.evaluation.intervals import Floats, Ints, percentile_interval
from finetuning.engine.evaluation.pixels import Tally

BASELINES = {
    "majority": "Always the most frequent class",
    "bought_with_probe": "The model as bought, frozen, with a trained decoder",
    "parent": "The model as bought, which knows these classes",
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

    def at(self, places: Sequence[int]) -> Scored:
        """Returns some of the images, without their answers."""
        return Scored(
            [self.indices[place] for place in places],
            [self.groups[place] for place in places],
            [self.confusions[place] for place in places],
        )

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


def _without(scored: Scored, everything: dict[str, float], leaked: Sequence[int], seed: int) -> dict[str, Any] | None:
    """Returns the mIoU with and without the leaked images, or None where none is."""
    is_leaked = np.isin(scored.indices, list(leaked))
    if not is_leaked.any():
        return None
    places = np.flatnonzero(~is_leaked).tolist()
    rest = None
    if places:
        tally = scored.at(places).grouped()
        drawn = pixels.draws(len(tally.hits), np.random.default_rng(seed))
        rest = percentile_interval(float(tally.summed().miou), pixels.resampled_miou(tally, drawn)).to_json()
    return slices.flattered("miou", is_leaked, everything, rest)


def report(
    scored: Scored,
    baselines: Mapping[str, Scored],
    *,
    labels: Sequence[str],
    seed: int,
    leaked: Sequence[int] = (),
) -> dict[str, Any]:
    """Returns the evaluation of the test split beside baselines on the same images, by their kind, the first of them the
    one that is judged by: all are drawn together. `leaked` are numbers of test items that also lie among the training
    items."""
    tally = scored.grouped()
    drawn = pixels.draws(len(tally.hits), np.random.default_rng(seed))
    measured = pixels.measure(tally, drawn)
    counts = np.sum(scored.confusions, axis=0)
    rows = [_against(scored, other, kind, drawn) for kind, other in baselines.items()]
    main = rows[0]
    return {
        "split": "test",
        "items": len(scored.indices),
        "groups": len(tally.hits),
        "labels": list(labels),
        "metrics": measured,
        "per_class": pixels.per_class(counts, tally, drawn, labels),
        "confusion": counts.tolist(),
        "without_leaked": _without(scored, measured["miou"], leaked, seed),
        "worst": scored.worst(),
        "baseline": {name: main[name] for name in ("kind", "title", "miou")},
        **{name: main[name] for name in ("comparison", "verdict", "verdict_code")},
        "other_baselines": rows[1:],
    }


def _against(scored: Scored, baseline: Scored, kind: str, drawn: Floats) -> dict[str, Any]:
    """Returns the comparison with one baseline, as flat as one row of a table."""
    tally, base, title = scored.grouped(), baseline.grouped(), BASELINES[kind]
    value, theirs = float(tally.summed().miou), pixels.resampled_miou(base, drawn)
    standing = percentile_interval(float(base.summed().miou), theirs)
    gains = [one - other for one, other in zip(scored.ious, baseline.ious, strict=True)]
    compared = paired.compare(value - standing.value, pixels.resampled_miou(tally, drawn) - theirs, gains)
    return {
        "kind": kind,
        "title": title,
        "miou": standing.to_json(),
        "comparison": compared.to_json(),
        "verdict": paired.sentence(
            compared, title=title, score="mIoU", value=value, baseline=standing.value, items=len(scored.indices)
        ),
        "verdict_code": compared.verdict.value,
    }
