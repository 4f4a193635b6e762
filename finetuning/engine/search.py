"""The verb `search`: which strategy and which hyper-parameters, judged on the validation items alone.

One strategy: Optuna's TPE (Bergstra et al. 2011), stopped early by the median of the others. Several: successive
halving at the rungs of ASHA (Li et al. 2020, arXiv 1810.05934, eta = 3); with one worker there is nobody to wait
for, so every rung is complete before the best third of it goes on."""

from __future__ import annotations

import itertools
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from finetuning.engine import loop, runtime, tasks
from finetuning.engine.events import EventWriter, Kind
from finetuning.engine.results import write_durably
from finetuning.engine.spec import OUTPUTS_DIR, SPEC_FILE, SearchSpec, TrainSpec, canonical, to_json
from finetuning.engine.trainee import Validation
from finetuning.engine.trials import Attempt, Trials

ETA = 3
RUNGS = 3
TRIALS_DIR = "trials"


class Prepared(Protocol):
    """What a task computes once for all trials (`prepare` of its module)."""

    @property
    def validation_items(self) -> int: ...

    def begin(
        self, spec: TrainSpec, run_dir: Path, events: EventWriter, *, is_over: Callable[[], bool]
    ) -> loop.Run | Validation:
        """Returns a training that has not begun, or the score of what needs no epochs. `is_over` is asked between
        the epochs of what must be trained before: then it is left as it is."""


@dataclass(frozen=True, slots=True)
class Budget:
    """`until` in `time.monotonic()`'s seconds; infinite where there is none."""

    until: float

    def is_over(self) -> bool:
        return time.monotonic() >= self.until


def run(spec: SearchSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns the search verb's part of the result (docs/engine.md)."""
    device = runtime.choose_device(spec.device)
    trials = Trials(spec, run_dir)
    if trials.ended:
        events.log(f"Going on after {len(trials.ended)} finished trials.")
    for attempt in trials.ended.values():  # a kill may have come between the journal and the event
        events.emit(Kind.TRIAL, **_row(attempt))
    left = spec.budget_seconds - trials.seconds if spec.budget_seconds else math.inf
    search = _Search(trials, Budget(time.monotonic() + left), run_dir, events)
    search.prepared = tasks.module_of(spec.target).prepare(spec.order(spec.strategies[0], {}), run_dir, events, device)
    if len(spec.strategies) > 1:
        search.race()
    else:
        search.optimize()
    return _report(trials, search.prepared.validation_items, run_dir)


class _Search:
    def __init__(self, trials: Trials, budget: Budget, run_dir: Path, events: EventWriter) -> None:
        self._trials, self._budget = trials, budget
        self._run_dir, self._events = run_dir, events
        self.prepared: Prepared

    def optimize(self) -> None:
        """One trial after another, each with what the ones before it taught."""
        for place in range(self._trials.spec.trials):
            attempt = self._trials.attempt(place)
            if attempt.ended:
                continue
            self._announce(attempt)
            self._end(attempt, self._advance(attempt, until=math.inf) or "finished")
            if self._budget.is_over():
                self._events.log("The budget is used up.")
                return

    def race(self) -> None:
        """Every trial to the first rung, the best third to the next, and so on."""
        attempts = [self._trials.attempt(place) for place in range(self._trials.spec.trials)]
        running = attempts
        for rung in rungs(max(self._trials.order(attempt).hyper.epochs for attempt in attempts)):
            for attempt in running:
                is_first = not any(one.best for one in attempts)  # some answer there must be
                if not attempt.ended and (is_first or not self._budget.is_over()):
                    self._announce(attempt, f", up to epoch {rung}")
                    if self._advance(attempt, until=rung) == "finished":
                        self._end(attempt, "finished")
            if self._budget.is_over():
                self._events.log("The budget is used up.")
                break
            running = self._promoted(running, rung)
        for attempt in attempts:
            if not attempt.ended:
                self._end(attempt, "budget" if self._budget.is_over() else "finished")

    def _promoted(self, running: list[Attempt], rung: int) -> list[Attempt]:
        """Returns the best third of those that reached the rung, at least one; ends the others. What needs no
        epochs, or stopped before, competes at the end alone: its score is not of so early a rung."""
        reached = [one for one in running if one.epochs >= rung]
        ranked = sorted(reached, key=lambda one: (one.score_at(rung), one.place))
        kept = ranked[: math.ceil(len(ranked) / ETA)]
        for attempt in ranked[len(kept) :]:
            if not attempt.ended:
                self._end(attempt, "pruned")
        return kept

    def _advance(self, attempt: Attempt, *, until: float) -> str:
        """Trains up to epoch `until`, from the attempt's checkpoint on; returns how it ended, empty where it may
        go on."""
        started = time.monotonic()
        directory = self._directory(attempt)
        directory.mkdir(parents=True, exist_ok=True)
        with self._events.part(f"trial_{attempt.place + 1}") as events:
            order = self._trials.order(attempt)
            begun = self.prepared.begin(order, directory, events, is_over=self._budget.is_over)
            if isinstance(begun, Validation):
                attempt.best, ended = begun, "finished"
            else:
                ended = self._train(attempt, begun, until=until)
                fitted = begun.finish()
                attempt.best, attempt.best_epoch = fitted.validation, fitted.best_epoch
        attempt.seconds += time.monotonic() - started
        return ended

    def _train(self, attempt: Attempt, begun: loop.Run, *, until: float) -> str:
        last = self._trials.order(attempt).hyper.epochs
        for epoch, validation in enumerate(begun.epochs(), start=1):
            is_hopeless = False
            if epoch > attempt.epochs:  # else of an earlier rung
                attempt.history.append(validation)
                is_hopeless = self._trials.is_hopeless(attempt)
            if epoch == last:
                return "finished"
            if is_hopeless:
                return "pruned"
            if self._budget.is_over():
                return "budget"
            if epoch >= until:
                return ""
        return "finished"

    def _announce(self, attempt: Attempt, suffix: str = "") -> None:
        values = ", ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                           for name, value in attempt.chosen.items())  # fmt: skip
        of = f"{attempt.place + 1} of {self._trials.spec.trials}"
        self._events.stage("trial", f"Trial {of}: {attempt.strategy}{' with ' if values else ''}{values}{suffix}")
        self._events.emit(Kind.TRIAL, **_row(attempt))

    def _end(self, attempt: Attempt, ended: str) -> None:
        self._trials.end(attempt, ended)
        self._events.emit(Kind.TRIAL, **_row(attempt))
        shutil.rmtree(self._directory(attempt), ignore_errors=True)

    def _directory(self, attempt: Attempt) -> Path:
        return self._run_dir / TRIALS_DIR / f"{attempt.place + 1:03d}"


def rungs(epochs: int) -> list[int]:
    """Returns the epochs after which a race drops two thirds: 1, 3, 9 of nine."""
    found = [max(1, epochs // ETA**power) for power in reversed(range(RUNGS))]
    return [rung for rung, _ in itertools.groupby(found)]


def _report(trials: Trials, validation_items: int, run_dir: Path) -> dict[str, Any]:
    spec = trials.spec
    tried = [trials.ended[place] for place in sorted(trials.ended) if trials.ended[place].best]
    winner = min(tried, key=lambda one: (one.score, one.place))
    document = to_json(trials.order(winner))
    write_durably(run_dir / OUTPUTS_DIR / SPEC_FILE, canonical(document))
    return {
        "mode": spec.mode.value,
        "planned": spec.trials,
        "trials": [_row(attempt) for attempt in tried],
        "winner": {**_row(winner), "spec": document},
        "validation_items": validation_items,
        "budget_seconds": spec.budget_seconds,
        "spent_seconds": round(trials.seconds, 3),
        "caution": caution(len(tried), validation_items),
    }


def _row(attempt: Attempt) -> dict[str, Any]:
    scores = {**attempt.best.metrics, "loss": attempt.best.loss} if attempt.best else {}
    return {
        "trial": attempt.place + 1,
        "strategy": attempt.strategy.value,
        "values": attempt.chosen,
        "objective": _finite(attempt.score),
        "validation": {name: _finite(value) for name, value in scores.items()},
        "best_epoch": attempt.best_epoch,
        "epochs": attempt.epochs,
        "seconds": round(attempt.seconds, 3),
        "ended": attempt.ended,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # a diverged trial; JSON has no number for it


def caution(tried: int, items: int) -> str:
    """Returns what the winner's score must not be taken for (Cawley and Talbot 2010, JMLR 11)."""
    if tried == 1:
        return (
            f"Scored on {items} validation items, which also chose the epoch: only the test items tell how good it is."
        )
    return (
        f"The winner is the best of {tried} trials on the same {items} validation items, so part of its lead is luck "
        "and its score is too high: train it and evaluate it on the test items, which no trial has seen."
    )
