"""The trials of a search: what each tried, how it went, kept by Optuna in a journal that a kill cannot tear.

Every draw is a function of the seed, the trial's place and what finished before it, so that a search that is
started again draws what it would have drawn."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from finetuning.engine.hyper import Range, Strategy, search_space
from finetuning.engine.spec import SearchSpec, TrainSpec, canonical, to_json
from finetuning.engine.stepping import seed_of
from finetuning.engine.trainee import Validation

JOURNAL_FILE = "search.journal"
STARTUP_TRIALS = 5  # drawn at random, and never pruned, before the others are judged by them
WARM_UP_EPOCHS = 3
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(slots=True)
class Attempt:
    """One trial. `history` has each epoch's validation; `best` is the one that its training would keep, of
    `best_epoch`: 0 is the beginning, or a head that needs no epochs. `ended` is finished, pruned or budget, empty
    while it may go on."""

    place: int  # from 0
    strategy: Strategy
    chosen: dict[str, Any]
    history: list[Validation] = field(default_factory=list)
    best: Validation | None = None
    best_epoch: int = 0
    seconds: float = 0.0
    ended: str = ""

    @property
    def epochs(self) -> int:
        return len(self.history)

    @property
    def score(self) -> float:
        """What trials are compared by in the end, lower is better."""
        return math.inf if self.best is None or math.isnan(self.best.objective) else self.best.objective

    def score_at(self, epoch: int) -> float:
        """Returns the lowest objective of the first epochs, the beginning left out: what learning has brought."""
        return min((entry.objective for entry in self.history[:epoch] if entry.objective < math.inf), default=math.inf)


class Trials:
    """All attempts of one spec, those of an earlier process among them."""

    def __init__(self, spec: SearchSpec, run_dir: Path) -> None:
        self.spec = spec
        self._is_race = len(spec.strategies) > 1
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        journal = run_dir / JOURNAL_FILE
        _mend(journal)
        self._study = optuna.create_study(
            # Not its usual lock, a link: a directory that a killed engine left one in is cleared (`plain_files`).
            storage=JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalFileOpenLock(str(journal)))),
            study_name=hashlib.sha256(canonical(to_json(spec))).hexdigest(),
            load_if_exists=True,
            # Epochs count from 1, and the one that the warm-up ends with is not judged either.
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=WARM_UP_EPOCHS + 1),
        )
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):  # of a process that was killed
            self._study.tell(trial.number, state=TrialState.FAIL)
        ended = [_attempt(trial) for trial in self._study.get_trials(states=_ENDED)]
        self.ended = {attempt.place: attempt for attempt in ended}
        self._open: dict[int, optuna.Trial] = {}

    @property
    def seconds(self) -> float:
        return sum(attempt.seconds for attempt in self.ended.values())

    def attempt(self, place: int) -> Attempt:
        """Returns the attempt of this place, drawn now where it has not ended."""
        if place in self.ended:
            return self.ended[place]
        strategies = self.spec.strategies
        strategy = strategies[place % len(strategies)]
        space = {name: entry for name, entry in self._space(strategy).items() if name in self.spec.space}
        is_default = place < len(strategies)
        self._study.sampler = self._sampler(place, self._defaults(strategy, space) if is_default else None)
        trial = self._study.ask()
        chosen = {name: _drawn(trial, f"{strategy}.{name}", entry) for name, entry in space.items()}
        trial.set_user_attr("place", place)
        trial.set_user_attr("strategy", strategy.value)
        trial.set_user_attr("chosen", chosen)
        self._open[place] = trial
        return Attempt(place, strategy, chosen)

    def order(self, attempt: Attempt) -> TrainSpec:
        return self.spec.order(attempt.strategy, attempt.chosen)

    def is_hopeless(self, attempt: Attempt) -> bool:
        """Reports the newest epoch; says whether its best is worse than the median of the others so far."""
        trial = self._open[attempt.place]
        trial.report(attempt.history[-1].objective, attempt.epochs)
        return not self._is_race and trial.should_prune()

    def end(self, attempt: Attempt, ended: str) -> None:
        """Keeps the attempt for good."""
        attempt.ended = ended
        trial = self._open.pop(attempt.place)
        for name in ("best_epoch", "seconds", "ended"):
            trial.set_user_attr(name, getattr(attempt, name))
        trial.set_user_attr("history", [_plain(one) for one in attempt.history])
        trial.set_user_attr("best", attempt.best and _plain(attempt.best))
        if ended == "finished":
            self._study.tell(trial, attempt.score)
        else:
            self._study.tell(trial, state=TrialState.PRUNED)
        self.ended[attempt.place] = attempt

    def _space(self, strategy: Strategy) -> dict[str, Range]:
        return search_space(self.spec.target, strategy)

    def _defaults(self, strategy: Strategy, space: dict[str, Range]) -> dict[str, Any]:
        hyper = self.spec.order(strategy, {}).hyper
        return {f"{strategy}.{name}": getattr(hyper, name) for name in space}

    def _sampler(self, place: int, given: dict[str, Any] | None) -> BaseSampler:
        if given is not None:
            return _Given(given)
        seed = seed_of(self.spec.seed, place) % 2**32
        if self._is_race:  # its attempts are drawn before any has ended
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)


class _Given(BaseSampler):
    """Draws what it is told: the defaults, which every search tries first."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._values[param_name]


def _drawn(trial: optuna.Trial, name: str, entry: Range) -> Any:
    if entry.choices:
        return trial.suggest_categorical(name, entry.choices)
    if entry.is_whole:
        return trial.suggest_int(name, max(1, round(entry.low)), round(entry.high), log=entry.log)
    return trial.suggest_float(name, entry.low, entry.high, log=entry.log)


def _attempt(trial: FrozenTrial) -> Attempt:
    kept = trial.user_attrs
    return Attempt(
        place=kept["place"],
        strategy=Strategy(kept["strategy"]),
        chosen=kept["chosen"],
        history=[Validation(*entry) for entry in kept["history"]],
        best=Validation(*kept["best"]) if kept["best"] else None,
        best_epoch=kept["best_epoch"],
        seconds=kept["seconds"],
        ended=kept["ended"],
    )


def _plain(validation: Validation) -> list[Any]:
    return [validation.objective, validation.loss, validation.metrics]


def _mend(journal: Path) -> None:
    """Drops the half line and the lock of a process that was killed while it wrote: this one has the run
    directory to itself."""
    for lock in journal.parent.glob(f"{journal.name}.lock*"):
        lock.unlink()
    if journal.exists():
        content = journal.read_bytes()
        journal.write_bytes(content[: content.rfind(b"\n") + 1])
