"""How a rehearsal's times become those of the whole: which part of the work grows with what."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from finetuning.engine.events import EventWriter

EPOCHS = 2  # of a rehearsal: between two lies a validation
_WARM_STEPS = 5  # caches and allocators fill; the first steps are no measure of the others
_TUNING = "tune"  # the progress of the training loop, whatever part of the run it serves
# Stages that take as long for many items as for few.
_FIXED = frozenset({"load", "save", "overlays"})
_OF_VALIDATION = frozenset({"calibrate"})
_OF_TEST = frozenset({"evaluate", "parent"})


@dataclass(frozen=True, slots=True)
class Growth:
    """How many times as much the whole has: training and validation items, test items for those that stood in for
    them, views that are cached. `epochs` are those of the whole, `sample` the training items of the rehearsal, `at_once`
    how many batches are computed at a time (`lone_threads`) and told together."""

    items: float
    validation: float
    test: float
    views: float
    epochs: int
    sample: int
    at_once: int = 1


@dataclass(slots=True)
class Passage:
    """One stage of the rehearsal. `told` has (when, done, total) of its progress, by the stage that tells it."""

    name: str
    began: float
    ended: float = 0.0
    told: dict[str, list[tuple[float, int, int]]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def steps(self) -> list[tuple[float, int, int]]:
        """Returns the progress of the training loop, where it ran in this stage."""
        return next((rows for name, rows in self.told.items() if name.endswith(_TUNING)), [])


@dataclass(frozen=True, slots=True)
class Steps:
    """Of the training loop: the median of the seconds a step, and the items a step."""

    seconds: float
    count: int


class Clock(EventWriter):
    """An event writer that keeps when everything was told. Nothing of it is written as the rehearsal's own: a reader
    would take its curves for a run's."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.passages = [Passage("start", time.monotonic())]

    def stage(self, name: str, title: str) -> None:
        super().stage(name, title)
        self._turn(name)

    def progress(self, stage: str, done: int, total: int, *, rate: float = 0.0) -> None:
        super().progress(stage, done, total, rate=rate)
        rows = self.passages[-1].told.setdefault(self._part + stage, [])
        rows.append((time.monotonic(), done, total))

    def finish(self) -> list[Passage]:
        """Returns every stage, the last one ended now."""
        self.passages[-1].ended = time.monotonic()
        return self.passages

    def _turn(self, name: str) -> None:
        now = time.monotonic()
        self.passages[-1].ended = now
        self.passages.append(Passage(name, now))


def whole(passages: Iterable[Passage], growth: Growth, *, epochs: int | None = None) -> dict[str, float]:
    """Returns the seconds that each stage of the whole will take, those of one name added up; `epochs` instead of
    those of the growth for a run that ends early."""
    found: dict[str, float] = {}
    for passage in passages:
        found[passage.name] = found.get(passage.name, 0.0) + _whole(passage, growth, epochs or growth.epochs)
    return found


def step_of(passages: Iterable[Passage]) -> Steps | None:
    """Returns the steps of the last training that was rehearsed; None where nothing was trained in steps."""
    rows = next((passage.steps for passage in reversed(list(passages)) if passage.steps), [])
    return Steps(_step_seconds(rows), len(rows)) if len(rows) > 1 else None


def rate_of(passages: Iterable[Passage], name: str, *, at_once: int = 1) -> float | None:
    """Returns the items a second of the named stage, once it was warm; None where it did not tell enough."""
    rows = next((rows for passage in passages for told, rows in passage.told.items() if told.endswith(name)), [])
    each = _seconds_an_item(rows, at_once)
    return 1 / each if each else None


def _whole(passage: Passage, growth: Growth, epochs: int) -> float:
    if passage.name in _FIXED:
        return passage.seconds
    if len(passage.steps) > 1:
        return _training(passage, growth, epochs)
    if passage.name in _OF_TEST:
        factor = growth.test
    elif passage.name in _OF_VALIDATION:
        factor = growth.validation
    else:
        factor = growth.items
    views = growth.views if passage.name == "activations" else 1
    # One stage may tell of several passes: of the tuned network, of a baseline.
    passes = [(_seconds_an_item(rows, growth.at_once), rows) for rows in passage.told.values()]
    told = sum(each * rows[-1][2] for each, rows in passes if each is not None)
    if not told:
        return passage.seconds * factor * views
    # What making the network ready took, it takes once; told items are those that grow.
    growing = min(passage.seconds, told)
    return views * (growing * factor + (passage.seconds - growing))


def _training(passage: Passage, growth: Growth, epochs: int) -> float:
    """A stage of training: so many epochs of steps with a validation after each, and what comes before and after."""
    rows = passage.steps
    done, asked = (max(1, round(rows[-1][column] / growth.sample)) for column in (1, 2))  # a probe may stop early
    epochs = epochs if asked == EPOCHS else asked  # so many the task asks for, whatever the settings say
    step, an_epoch = _step_seconds(rows), max(1, len(rows) // done)
    gaps = [rows[at][0] - rows[at - 1][0] - step for at in range(an_epoch, len(rows), an_epoch)]
    tail = passage.ended - rows[-1][0]
    gap = min(tail, max(0.0, statistics.median(gaps))) if gaps else tail
    before = max(0.0, rows[0][0] - passage.began - step)
    steps = an_epoch * growth.items
    return before + epochs * (steps * step + gap * growth.validation) + (tail - gap) * growth.validation


def _step_seconds(rows: list[tuple[float, int, int]]) -> float:
    spans = [after[0] - before[0] for before, after in itertools.pairwise(rows)]
    warm = spans[_WARM_STEPS:] if len(spans) >= 2 * _WARM_STEPS else spans
    return statistics.median(warm)


def _seconds_an_item(rows: list[tuple[float, int, int]], at_once: int) -> float | None:
    """Returns the seconds an item after the first round of `at_once` batches, which bears what is done once; what is left
    over after the last whole round counts for nothing. None where fewer than two rounds were told."""
    rounds = len(rows) // at_once
    if len(rows) < 3 or rounds < 2:
        return None
    first, last = rows[at_once - 1], rows[rounds * at_once - 1]
    return (last[0] - first[0]) / (last[1] - first[1]) if last[1] > first[1] else None
