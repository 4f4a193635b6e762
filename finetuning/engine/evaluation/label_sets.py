"""The evaluation of a multi-label classifier, whose items show any number of classes, as docs/engine.md describes it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from finetuning.engine.evaluation import classifier, digests, intervals, label_ranking, paired, reliability, slices
from finetuning.engine.evaluation.intervals import Floats, Ints
from finetuning.engine.evaluation.label_ranking import Bools

HEADLINE, HEADLINE_TITLE = "macro_average_precision", "mean average precision"
BASELINES = {
    "prior": "Each label as often as in training, whatever the item",
    **{kind: classifier.BASELINES[kind] for kind in ("bought_with_probe", "tfidf", "parent")},
}
_MAX_WORST = 24
_NONE = "no label"


@dataclass(frozen=True, slots=True)
class LabelSets:
    """`truth` (N, C); `logits` (N, C), as they are served: divided by the temperature; `thresholds` (C,) the
    probabilities from which a class is answered; `indices` (N,) the items' numbers; `groups` (N,) from 0."""

    truth: Bools
    logits: Floats
    thresholds: Floats
    indices: Ints
    groups: Ints

    share_of_right: ClassVar = "subset_accuracy"

    @property
    def group_numbers(self) -> Ints:
        return self.groups

    @property
    def is_right(self) -> Bools:
        """Which items get exactly their labels, (N,)."""
        whole: Bools = (self.answered == self.truth).all(axis=1)
        return whole

    def of_class(self, position: int) -> Ints:
        """Returns the places of the items that show this class."""
        return np.flatnonzero(self.truth[:, position])

    @property
    def answers(self) -> reliability.Answers:
        """How sure each class is for each item, and whether the item shows it."""
        scores = {"negative_log_likelihood": (self.losses, _worst_loss(self))}
        return reliability.Answers(self.shares, self.truth, scores)

    @property
    def shares(self) -> Floats:
        """Probabilities (N, C), each class by itself."""
        table: Floats = expit(self.logits)
        return table

    @property
    def answered(self) -> Bools:
        decided: Bools = self.shares >= self.thresholds
        return decided

    @property
    def losses(self) -> Floats:
        """Negative log-likelihood of each item's label set, in nats, (N,)."""
        table: Floats = np.logaddexp(0.0, np.where(self.truth, -self.logits, self.logits)).sum(axis=1)
        return table

    @property
    def sha256(self) -> str:
        return digests.of_logits(self.indices, self.logits)

    def divided_by(self, temperature: float) -> LabelSets:
        return replace(self, logits=self.logits / temperature)

    def at_prior(self, shown: Floats) -> LabelSets:
        """Returns what answering each class by its share (C,) of the training items would give."""
        logits = np.log(shown) - np.log1p(-shown)
        return replace(self, logits=np.tile(logits, (len(self.truth), 1)), thresholds=np.full(len(shown), 0.5))


def report(
    raw: LabelSets,
    baselines: Mapping[str, LabelSets],
    *,
    labels: Sequence[str],
    seed: int,
    noun: str = "images",
    temperature: float = 1.0,
    leaked: Sequence[int] = (),
    parts: slices.Parts = slices.WHOLE,
) -> dict[str, Any]:
    """Returns the evaluation of the test split beside baselines on the same items, the first of them the one that is
    judged by; they are as they are served, `raw` holds the network's own logits, which are served divided by the
    `temperature`. `noun` names the items; `leaked` are numbers of test items that also lie among the training items,
    `parts` the parts of the data that they lie in."""
    sets = raw.divided_by(temperature)
    own = _headlines(sets, seed)
    rows = [_against(sets, own, kind, baseline, seed=seed, noun=noun) for kind, baseline in baselines.items()]
    main = rows[0]
    return {
        "split": "test",
        "items": len(sets.truth),
        "groups": len(set(sets.groups.tolist())),
        "effective_items": round(intervals.effective_count(sets.groups), 1),
        "labels": list(labels),
        "multi_label": True,
        "metrics": _measure(sets, own, seed),
        "calibration": reliability.report(raw, temperature=temperature, seed=seed),
        "per_class": _per_class(sets, labels),
        "slices": slices.report(sets, labels, parts=parts),
        "without_leaked": slices.without(sets, leaked),
        "worst": _worst(sets, labels),
        "baseline": {name: main[name] for name in ("kind", "title", HEADLINE)},
        **{name: main[name] for name in ("comparison", "verdict", "verdict_code")},
        "other_baselines": rows[1:],
    }


def _headlines(sets: LabelSets, seed: int) -> Floats:
    """Returns (1 + B,) the headline: of the items as they are, then of the resamples."""
    once = np.ones((1, len(sets.truth)))
    return np.concatenate([_macro(sets, part) for part in itertools.chain([once], _resamples(sets, seed))])


def _macro(sets: LabelSets, weights: Floats) -> Floats:
    return label_ranking.mean(label_ranking.by_class(sets.logits, sets.truth, weights))


def _micro(sets: LabelSets, weights: Floats) -> Floats:
    spread = np.repeat(weights, sets.truth.shape[1], axis=1)
    return label_ranking.average_precision(sets.logits.ravel(), sets.truth.ravel(), spread)


def _resamples(sets: LabelSets, seed: int) -> Iterator[Floats]:
    """Yields how often each item counts, (b, N) at a time: the same resamples of groups for the same seed."""
    for drawn in intervals.resamples(sets.groups, seed=seed, cells=sets.truth.size):
        yield drawn[:, sets.groups]


def _measure(sets: LabelSets, headlines: Floats, seed: int) -> dict[str, dict[str, float]]:
    """Returns every metric with its interval: Wilson's for the share of items that are right in all, else percentiles
    of the same resamples of groups."""
    count = intervals.effective_count(sets.groups)
    once = np.ones((1, len(sets.truth)))
    resampled = _resamples(sets, seed)
    rows = [_decisions(sets, part) | {"micro_average_precision": _micro(sets, part)} for part in resampled]
    values = _decisions(sets, once) | {"micro_average_precision": _micro(sets, once)}
    found = {HEADLINE: _estimate(headlines[0], headlines[1:], count)}
    for name, value in values.items():
        limit = _worst_loss(sets) if name == "negative_log_likelihood" else 1.0
        found[name] = _estimate(value[0], np.concatenate([row[name] for row in rows]), count, limit=limit)
    found["subset_accuracy"] = intervals.wilson_of(sets.is_right, sets.groups)
    return {name: estimate.to_json() for name, estimate in found.items()}


def _worst_loss(sets: LabelSets) -> float:
    """Returns the mean loss that is as bad as thinkable: of a coin for each label, or twice the own."""
    return max(int(sets.truth.shape[1]) * float(np.log(2)), 2 * float(sets.losses.mean()))


def _estimate(value: float, resampled: Floats, count: float, *, limit: float = 1.0) -> intervals.Estimate:
    plain = intervals.percentile_interval(float(value), np.nan_to_num(resampled))
    return intervals.never_of_zero_width(plain, count=count, bounds=(0.0, limit))


def _decisions(sets: LabelSets, weights: Floats) -> dict[str, Floats]:
    """Returns (B,) what the thresholds' decisions and the probabilities are worth on items that count `weights` (B, N)."""
    hits = weights @ (sets.answered & sets.truth)
    answered, shown = weights @ sets.answered, weights @ sets.truth
    f1 = 2 * hits / np.maximum(answered + shown, 1)
    occurs = shown > 0
    total = weights.sum(axis=1)
    return {
        "macro_f1": (f1 * occurs).sum(axis=1) / np.maximum(occurs.sum(axis=1), 1),
        "micro_f1": 2 * hits.sum(axis=1) / np.maximum((answered + shown).sum(axis=1), 1),
        "hamming_loss": weights @ (sets.answered != sets.truth).mean(axis=1) / total,
        "negative_log_likelihood": weights @ sets.losses / total,
    }


def _per_class(sets: LabelSets, labels: Sequence[str]) -> list[dict[str, Any]]:
    precisions = label_ranking.by_class(sets.logits, sets.truth, np.ones((1, len(sets.truth))))[0]
    hits = (sets.answered & sets.truth).sum(axis=0)
    answered, shown = sets.answered.sum(axis=0), sets.truth.sum(axis=0)
    return [
        {
            "label": label,
            "average_precision": None if np.isnan(precisions[at]) else float(precisions[at]),
            "precision": float(hits[at] / max(1, answered[at])),
            "recall": float(hits[at] / max(1, shown[at])),
            "f1": float(2 * hits[at] / max(1, answered[at] + shown[at])),
            "support": int(shown[at]),
            "threshold": float(sets.thresholds[at]),
        }
        for at, label in enumerate(labels)
    ]


def _worst(sets: LabelSets, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the items with a wrong label and the largest loss."""
    wrong = np.flatnonzero((sets.answered != sets.truth).any(axis=1))
    first = wrong[np.argsort(-sets.losses[wrong], kind="stable")][:_MAX_WORST]

    return [
        {
            "index": int(sets.indices[at]),
            "truth": set_in_words(sets.truth[at], labels),
            "predicted": set_in_words(sets.answered[at], labels),
            "confidence": None,
        }
        for at in first
    ]


def set_in_words(row: npt.NDArray[Any], labels: Sequence[str]) -> str:
    """Returns the labels that a row (C,) has, parted by commas."""
    return ", ".join(labels[at] for at in np.flatnonzero(row).tolist()) or _NONE


def _against(sets: LabelSets, own: Floats, kind: str, baseline: LabelSets, *, seed: int, noun: str) -> dict[str, Any]:
    """Returns the comparison with one baseline, as flat as one row of a table; an item comes out better where more of
    its labels are right."""
    theirs, title = _headlines(baseline, seed), BASELINES[kind]
    right, others = ((one.answered == one.truth).sum(axis=1) for one in (sets, baseline))
    compared = paired.compare(float(own[0] - theirs[0]), (own - theirs)[1:], (right - others).tolist(), noun=noun)
    standing = _estimate(theirs[0], theirs[1:], intervals.effective_count(sets.groups))
    return {
        "kind": kind,
        "title": title,
        HEADLINE: standing.to_json(),
        "comparison": compared.to_json(),
        "verdict": paired.sentence(
            compared,
            title=title,
            score=HEADLINE_TITLE,
            value=float(own[0]),
            baseline=standing.value,
            items=len(sets.truth),
        ),
        "verdict_code": compared.verdict.value,
    }
