"""What a run tries before it trains: one strategy's settings, or a race of strategies, under one budget. The engine
compares the trials on validation items; what wins becomes the run's settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from django.conf import settings
from django.db import transaction

from finetuning.engine import spec as engine
from finetuning.engine import titles
from finetuning.models import Attempt, Run
from finetuning.models.runs import IN_HAND
from finetuning.services import leases
from marketplace.errors import Invalid

NONE = "none"  # what forms and clients call a run without a search
DEFAULT_TRIALS = 20
DEFAULT_MINUTES = 30
# The budget is looked at after each epoch: the last one must end before this server's limit ends the engine.
_SHARE_OF_THE_LIMIT = 0.8
DEFAULT_SPACE = ("learning_rate", "weight_decay")
_ASKED = ("strategies", "space", "fixed", "trials", "budget_seconds")
_KEPT = ("mode", "planned", "trials", "winner", "validation_items", "budget_seconds", "spent_seconds", "caution")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A search as people and clients ask for it. `strategies` are a race's; an empty `space` leaves the choice of
    what to vary to the site, and 0 `minutes` the budget."""

    mode: engine.SearchMode
    trials: int = DEFAULT_TRIALS
    minutes: int = 0
    strategies: tuple[str, ...] = ()
    space: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Extent:
    """How many trials a search makes at most, and within how many minutes it ends."""

    trials: int
    minutes: int

    def seconds(self, training: float) -> float:
        """Returns what the trials take where none is stopped early and each is as long as the training after them."""
        return min(60.0 * self.minutes, self.trials * training)


def extent_of(wish: Wish | None, *, budget_minutes: int | None) -> Extent | None:
    """Returns the extent of a search of one strategy; None without a search.

    Raises Invalid (`bad_search`, `estimate_of_race`) with the field."""
    if wish is None:
        return None
    if wish.mode is engine.SearchMode.RACE:
        text = "A race takes its minutes and then trains what wins: ask for the estimate of each strategy by itself."
        raise Invalid("estimate_of_race", text, field="mode")
    return Extent(wish.trials, _minutes(wish, budget_minutes))


def longest_minutes() -> int:
    """Returns the largest budget that may be asked for."""
    return max(1, int(_SHARE_OF_THE_LIMIT * settings.RUN_DEADLINE_SECONDS / 60))


def default_minutes() -> int:
    return min(DEFAULT_MINUTES, longest_minutes())


def plan(
    order: engine.TrainSpec,
    wish: Wish,
    *,
    strategy: str,
    preset: str,
    hyper: dict[str, Any],
    budget_minutes: int | None,
) -> engine.SearchSpec:
    """Returns the search that precedes the training `order`, which was made of the other arguments: what was given
    is fixed for all trials, the preset's settings too unless they are varied. The run's own budget leaves time to train.

    Raises Invalid (`bad_search`) with the field."""
    task = order.target
    strategies = _strategies(order, wish, strategy=strategy, preset=preset)
    minutes = _minutes(wish, budget_minutes)
    space = _space(task, strategies, wish, hyper)
    base = engine.preset_of(task, preset).hyper if preset else {}
    try:
        return engine.SearchSpec(
            weights=order.weights,
            strategies=strategies,
            task=order.task,
            space=space,
            fixed={**{name: value for name, value in base.items() if name not in space}, **hyper},
            trials=wish.trials,
            budget_seconds=60.0 * minutes,
            labels=order.labels,
        )
    except engine.SpecError as error:
        raise _bad(str(error), error.field) from error


def _minutes(wish: Wish, budget_minutes: int | None) -> int:
    longest = longest_minutes()
    if budget_minutes is not None:
        longest = min(longest, budget_minutes - 1)
        if wish.minutes > longest or longest < 1:
            text = f"The run as a whole may take {budget_minutes} min: give the trials less, or the run more."
            raise _bad(text, "minutes")
    if not 0 <= wish.minutes <= longest:
        raise _bad(f"The trials may take from 1 to {longest} minutes on this server.", "minutes")
    return wish.minutes or min(DEFAULT_MINUTES, longest if budget_minutes is None else max(1, longest // 2))


def _strategies(order: engine.TrainSpec, wish: Wish, *, strategy: str, preset: str) -> tuple[engine.Strategy, ...]:
    if wish.mode is engine.SearchMode.SEARCH:
        if wish.strategies:
            raise _bad("A search is of one strategy: name it as the run's strategy, or ask for a race.", "strategies")
        return (order.strategy,)
    if strategy or preset:
        text = "A race names its own strategies: leave out the run's strategy and the preset."
        raise _bad(text, "strategy" if strategy else "preset")
    suited = engine.STRATEGIES[order.target]
    if len(wish.strategies) < 2 or any(name not in suited for name in wish.strategies):  # noqa: PLR2004 - a race
        raise _bad(f"Name at least two strategies to race, of {', '.join(suited)}.", "strategies")
    return tuple(engine.Strategy(name) for name in wish.strategies)


def _space(
    task: engine.Task, strategies: tuple[engine.Strategy, ...], wish: Wish, hyper: dict[str, Any]
) -> tuple[str, ...]:
    """Returns what the trials vary: what was asked for, else the usual choices that were not given a value."""
    known = {name for strategy in strategies for name in engine.search_space(task, strategy)}
    if twice := sorted(set(wish.space) & set(hyper)):
        raise _bad(f"{', '.join(twice)}: give a value or vary it, not both.", "space")
    space = wish.space or tuple(name for name in DEFAULT_SPACE if name in known and name not in hyper)
    if wish.mode is engine.SearchMode.SEARCH and not known:
        name = titles.STRATEGIES[strategies[0]]
        raise _bad(f"“{name}” has nothing to vary. Choose another strategy, or race several.", "strategy")
    if wish.mode is engine.SearchMode.SEARCH and not space:
        raise _bad(f"Nothing is left to vary. Name some of {', '.join(sorted(known - set(hyper)))}.", "space")
    return space


def _bad(text: str, field: str) -> Invalid:
    return Invalid("bad_search", text, field=field)


def asked(search: engine.SearchSpec) -> dict[str, Any]:
    """Returns what a run keeps of its search: what was asked, apart from what the run itself says."""
    document = engine.to_json(search)
    return {"mode": search.mode.value, **{name: document[name] for name in _ASKED}}


def spec_of(run: Run, order: engine.TrainSpec) -> engine.SearchSpec:
    """Returns the search that the run keeps, on the weights and classes of its training `order`."""
    kept = engine.to_json(order)
    shared = {name: kept[name] for name in ("weights", "task", "labels")}
    search: engine.SearchSpec = engine.build(
        engine.SearchSpec, {**shared, **{name: run.search[name] for name in _ASKED}}
    )
    return search


def adopt(*, run: Run, attempt: Attempt, result: dict[str, Any]) -> bool:
    """Makes the winner's settings the run's, under the lease, and keeps how the search went; False where the lease
    was lost, and then nothing is written."""
    winner = dict(result["winner"])
    order = winner.pop("spec")
    found = {
        "strategy": order["strategy"],
        "hyper": asdict(engine.build(engine.Hyper, order["hyper"])),
        "searched": {**{name: result[name] for name in _KEPT}, "winner": winner},
    }
    with transaction.atomic():
        if not leases.is_held(attempt):
            return False
        if not Run.objects.filter(pk=run.pk, status__in=IN_HAND).update(**found):
            return False
    run.refresh_from_db(fields=list(found))
    return True


def selection_of(run: Run) -> engine.Selection | None:
    """Returns what a receipt says of how the run's settings were chosen; None where they were given."""
    if not run.searched:
        return None
    return engine.Selection(
        mode=engine.SearchMode(run.searched["mode"]),
        trials=len(run.searched["trials"]),
        validation_items=run.searched["validation_items"],
    )
