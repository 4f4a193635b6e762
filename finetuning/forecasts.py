"""How long a fine-tune will take, by those that this server has finished; and how good earlier estimates were."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from finetuning import compute
from finetuning.engine.spec import Strategy
from finetuning.models import DatasetVersion, Estimate, Run
from finetuning.models.estimates import EstimateMethod
from finetuning.models.runs import RunStatus
from models_catalog.models import Release

# The interval is to hold four new runs of five.
WANTED_COVERAGE = 0.8
# Of n past runs and a new one each is as likely to be the smallest or the largest, so the interval from the smallest
# to the largest of nine holds the new one with probability 8/10: fewer do not say enough.
ENOUGH_RUNS = 9
# Around a rehearsal while past runs say nothing yet: a margin of ours, no measured share.
MARGIN = (0.7, 1.5)
_LOOKED_AT = 300  # newest runs
_FARTHEST = 2.0  # times as much work: what is larger or smaller than that is another case
# The settings that decide how long a step, a pass or an epoch takes.
_DECISIVE = (
    "batch_size",
    "image_size",
    "augmentation",
    "cached_views",
    "features",
    "stages",
    "accumulation",
    "average_weights",
    "find_learning_rate",
    "precision",
    "export_onnx",
)


@dataclass(frozen=True, slots=True)
class Spread:
    """Of ratios: the median, and an interval that holds the next one with probability `coverage`."""

    low: float
    middle: float
    high: float
    coverage: float
    count: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds of compute; `peak_memory_bytes` is the most that one of the past runs held, 0 where none told."""

    spread: Spread
    peak_memory_bytes: int


@dataclass(frozen=True, slots=True)
class Record:
    """One finished run beside what was told before it."""

    run: Run
    estimate: Estimate
    actual_seconds: float

    @property
    def ratio(self) -> float:
        """Returns the actual time in units of the estimate."""
        return self.actual_seconds / max(self.estimate.seconds or 0.0, 1e-9)

    @property
    def is_inside(self) -> bool:
        low, high = self.estimate.low_seconds or 0.0, self.estimate.high_seconds or 0.0
        return low <= self.actual_seconds <= high

    @property
    def memory_ratio(self) -> float | None:
        told, held = self.estimate.peak_memory_bytes, self.run.result.get("peak_memory_bytes")
        return held / told if told and held else None


@dataclass(frozen=True, slots=True)
class Quality:
    """How good the estimates of one method were: the spread of actual over estimated time, the share of runs inside
    their interval, and the median of actual over estimated memory."""

    method: str
    spread: Spread
    inside: float
    memory: float | None


def spread_of(ratios: Iterable[float]) -> Spread:
    """Returns the narrowest interval of ranks that leaves equally many on both sides and holds the wanted share; of
    too few the whole range, with the coverage that it has (order statistics: (k - j) / (n + 1) for the j-th to the
    k-th smallest of n, whatever they are distributed like, as long as the next one is of their kind)."""
    ranked = sorted(ratios)
    count = len(ranked)
    left_out = max(1, int((count + 1) * (1 - WANTED_COVERAGE) / 2))
    low, high = ranked[left_out - 1], ranked[count - left_out]
    coverage = (count + 1 - 2 * left_out) / (count + 1)
    return Spread(low, statistics.median(ranked), high, coverage, count)


def newest_hardware() -> str:
    """Returns what the newest finished run was computed on, "" before there is one that tells."""
    newest = Run.objects.filter(status=RunStatus.SUCCEEDED).order_by("-finished_at")
    return next((name for name in newest.values_list("result__hardware", flat=True)[:_LOOKED_AT] if name), "")


def by_history(release: Release, version: DatasetVersion, strategy: str, hyper: dict[str, Any]) -> Forecast | None:
    """Returns what past runs of the same architecture, task, strategy and decisive settings on the newest hardware
    say, each by its work; None where they are too few."""
    hardware, work = newest_hardware(), _work(version, strategy, hyper)
    alike = Run.objects.filter(
        status=RunStatus.SUCCEEDED,
        search={},
        strategy=strategy,
        release__listing__architecture=release.listing.architecture,
        release__listing__framework=release.listing.framework,
        dataset_version__dataset__task=version.dataset.task,
    ).select_related("dataset_version__dataset")
    theirs = {
        run: _work(run.dataset_version, run.strategy, run.hyper)
        for run in alike.defer("evaluation", "artifacts").order_by("-finished_at")[:_LOOKED_AT]
        if hardware and run.result.get("hardware") == hardware and _same(run.hyper, hyper)
    }
    near = [run for run, done in theirs.items() if work / _FARTHEST <= done <= work * _FARTHEST]
    if len(near) < ENOUGH_RUNS:
        return None
    seconds = compute.worked_by_run(near, now=timezone.now())
    pace = spread_of(seconds[run.pk] / theirs[run] for run in near)
    times = Spread(pace.low * work, pace.middle * work, pace.high * work, pace.coverage, pace.count)
    return Forecast(times, max(run.result.get("peak_memory_bytes") or 0 for run in near))


def corrected(seconds: float, shortest_seconds: float, *, hardware: str) -> Spread:
    """Returns the interval around a rehearsal's seconds: by how far earlier rehearsals on this hardware missed, else
    by the margin, down to what a run takes that nothing improves. `count` is of the runs that it was made from."""
    past = [
        record.actual_seconds / record.estimate.measured["seconds"]
        for record in records()
        if record.estimate.method == EstimateMethod.REHEARSAL and record.estimate.hardware == hardware
    ]
    if len(past) < ENOUGH_RUNS:
        low, high = MARGIN
        return Spread(low * min(shortest_seconds, seconds), seconds, high * seconds, 0.0, 0)
    missed = spread_of(past)
    return Spread(missed.low * seconds, missed.middle * seconds, missed.high * seconds, missed.coverage, missed.count)


def records() -> list[Record]:
    """Returns the newest finished runs that were launched with an estimate."""
    told = Run.objects.filter(status=RunStatus.SUCCEEDED, estimate__isnull=False, search={})
    rows = told.select_related("estimate", "release__listing__namespace", "dataset_version__dataset", "owner")
    newest = list(rows.defer("evaluation", "artifacts").order_by("-finished_at")[:_LOOKED_AT])
    seconds = compute.worked_by_run(newest, now=timezone.now())
    return [Record(run, run.estimate, seconds[run.pk]) for run in newest if run.estimate is not None]


def qualities(found: Sequence[Record]) -> list[Quality]:
    """Returns how good the estimates of each method were that has any."""
    rows = []
    for method in EstimateMethod:
        own = [record for record in found if record.estimate.method == method]
        if own:
            memory = [ratio for record in own if (ratio := record.memory_ratio)]
            inside = sum(record.is_inside for record in own) / len(own)
            spread = spread_of(record.ratio for record in own)
            rows.append(Quality(method.label, spread, inside, statistics.median(memory) if memory else None))
    return rows


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in _DECISIVE)


def _work(version: DatasetVersion, strategy: str, hyper: dict[str, Any]) -> float:
    """Returns passes over items, the yardstick between runs of one kind: a pass for the frozen features, and one for
    each epoch of what is trained in epochs."""
    trains = strategy != Strategy.HEAD or version.dataset.task not in ("image-classification", "text-classification")
    return max(1, version.images) * (1 + (int(hyper.get("epochs", 0)) if trains else 0))


def derivation(estimate: Estimate) -> str:
    """Returns in words where the estimate's interval comes from, and what speaks against it."""
    if estimate.method == EstimateMethod.HISTORY:
        first = f"From {estimate.past_runs} finished runs like it on the same hardware."
    else:
        few, all_ = estimate.measured.get("rehearsed", {}), estimate.measured.get("whole", {})
        first = (
            f"{few.get('train', 0)} of {all_.get('train', 0)} training items were rehearsed by the code that will "
            "train, and their times grown to the whole."
        )
    if estimate.coverage is None:
        low, high = MARGIN
        second = (
            f"Fewer than {ENOUGH_RUNS} runs have shown how far such estimates miss on this hardware, so the range is a "
            f"margin and no measured share: {low} times the shortest run, which stops early, to {high} times the longest."
        )
    elif estimate.method == EstimateMethod.HISTORY:
        second = f"The range holds the next one of their kind with a probability of {estimate.coverage:.0%}."
    else:
        second = (
            f"The range is how far {estimate.past_runs} earlier rehearsals on this hardware missed; it holds the next "
            f"run with a probability of {estimate.coverage:.0%}."
        )
    busy = f" It was measured beside {estimate.beside} other run(s), which makes it longer." if estimate.beside else ""
    return f"{first} {second}{busy}"
