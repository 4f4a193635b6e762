"""The one training loop: every task, framework and strategy goes through `fit`."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from finetuning.engine import collective, lr_finder, optimizers, runtime
from finetuning.engine.checkpoints import Checkpoints, interval_seconds
from finetuning.engine.events import EventWriter, Kind
from finetuning.engine.hyper import Hyper
from finetuning.engine.stepping import Stepper
from finetuning.engine.strategies import Plan
from finetuning.engine.trainee import Trainee, Validation

__all__ = ["Fitted", "Progress", "Run", "Trainee", "Validation", "fit"]

DIVERGED_FACTOR = 3.0  # a validation loss above this multiple of the best one is a divergence
_LOSS_FLOOR = 0.1  # so that a tiny best loss does not call noise a divergence
EMA_DECAY, EMA_START = 0.999, 10.0  # decay = min(EMA_DECAY, (1 + t) / (EMA_START + t))


@dataclass(slots=True)
class Progress:
    """Where a run is; all that a checkpoint holds beside the tensors."""

    epoch: int = 1
    batch: int = 0  # of the epoch, the next to be trained
    updates: int = 0
    losses: list[float] = field(default_factory=list)
    best_epoch: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    damping: float = 1.0  # halved after each divergence
    learning_rate: float = 0.0  # the peak, whether asked for or found
    rate_test: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)  # the validation of each epoch


@dataclass(frozen=True, slots=True)
class Fitted:
    """The module holds the weights of `best_epoch` (0: as it was given)."""

    best_epoch: int
    epochs: int
    validation: Validation
    learning_rate: float
    rate_test: dict[str, Any] | None

    @property
    def best(self) -> dict[str, Any]:
        """Returns `best` of a training's result."""
        found = {"learning_rate_test": self.rate_test} if self.rate_test else {}
        return {"epoch": self.best_epoch, "epochs": self.epochs, "learning_rate": self.learning_rate, **found}


def fit(
    trainee: Trainee,
    plan: Plan,
    hyper: Hyper,
    *,
    device: torch.device,
    events: EventWriter,
    checkpoints: Checkpoints,
    keep_initial: bool,
) -> Fitted:
    """Trains until the last epoch or until nothing improves, and leaves the best epoch's weights.

    `keep_initial` lets the weights as given compete as epoch 0. A run that was cut off goes on from its
    checkpoint and ends with the same weights, bit for bit, on the same machine and threads."""
    run = Run(trainee, plan, hyper, device=device, events=events, checkpoints=checkpoints, keep_initial=keep_initial)
    return run.fit()


class Run:
    """One fit, epoch by epoch, for who wants to stop it early: `epochs`, as far as wanted, then `finish`."""

    def __init__(
        self,
        trainee: Trainee,
        plan: Plan,
        hyper: Hyper,
        *,
        device: torch.device,
        events: EventWriter,
        checkpoints: Checkpoints,
        keep_initial: bool,
    ) -> None:
        self._trainee, self._plan, self._hyper = trainee, plan, hyper
        self._device, self._events, self._checkpoints = device, events, checkpoints
        self._keeps_initial = keep_initial
        self._module = trainee.module
        self._stepper = Stepper(trainee, plan, hyper, device=device)
        self._average = deepcopy(self._module).eval() if hyper.average_weights else None
        self._progress, self._best_state = Progress(learning_rate=hyper.learning_rate), dict[str, Tensor]()
        self._updates_in_all = math.ceil(trainee.steps / hyper.accumulation) * hyper.epochs
        self._saved_at, self._interval = time.monotonic(), interval_seconds()
        self._begun_at, self._done_before = time.monotonic(), 0.0  # of the stage that `epochs` announces

    def epochs(self) -> Iterator[Validation]:
        """Trains, and yields the validation of each epoch; of those before a checkpoint first, as they were."""
        self._restore()
        progress, hyper = self._progress, self._hyper
        yield from [Validation(**entry) for entry in progress.history]
        collective.same_weights(self._module)
        if not progress.best:
            self._begin()
        self._events.stage("tune", "Training")
        self._begun_at, self._done_before = time.monotonic(), self._items_done(progress.epoch, progress.batch)
        for epoch in range(progress.epoch, hyper.epochs + 1):
            if epoch - 1 - max(progress.best_epoch, hyper.warm_epochs) >= hyper.longest_wait:
                self._events.log(f"Stopped early: nothing better for {epoch - 1 - progress.best_epoch} epochs.")
                break
            self._epoch()
            validation = self._judge()
            progress.losses, progress.batch, progress.epoch = [], 0, epoch + 1
            self._save()
            yield validation

    def fit(self) -> Fitted:
        for _ in self.epochs():
            pass
        return self.finish()

    def finish(self) -> Fitted:
        """Loads the weights of the best epoch so far into the module."""
        progress = self._progress
        self._module.load_state_dict(self._best_state)
        return Fitted(
            progress.best_epoch,
            progress.epoch - 1,
            Validation(**progress.best),
            progress.learning_rate,
            progress.rate_test,
        )

    def _begin(self) -> None:
        progress = self._progress
        first = self._validate(self._module)
        initial = first if self._keeps_initial else Validation(math.inf, math.inf, first.metrics)
        progress.best, self._best_state = _plain(initial), _snapshot(self._module)
        if self._hyper.find_learning_rate:
            self._find_rate()

    def _find_rate(self) -> None:
        """Tests rates, and takes the one suggested where an epoch is long enough to trust it."""
        hyper, progress = self._hyper, self._progress
        test = lr_finder.find(self._trainee, self._plan, hyper, device=self._device, events=self._events)
        is_used = test.suggested is not None and lr_finder.is_worth_using(self._trainee, hyper)
        progress.rate_test = {**test.summary, "is_used": is_used}
        if test.suggested is None:
            self._events.log(f"No learning rate stood out: {hyper.learning_rate:.2g} is kept.")
        elif not is_used:
            self._events.log(
                f"A learning rate of {test.suggested:.2g} is suggested, but epochs are too short to trust it: "
                f"{hyper.learning_rate:.2g} is kept."
            )
        else:
            progress.learning_rate = test.suggested
            self._stepper.scale_peaks(test.suggested / hyper.learning_rate)
            self._events.log(f"The learning rate is {test.suggested:.2g}, as the test suggests.")

    def _epoch(self) -> None:
        trainee, hyper, progress = self._trainee, self._hyper, self._progress
        self._stepper.train_mode()
        first = progress.batch
        for number, batch in enumerate(trainee.batches(progress.epoch, start=first), start=first + 1):
            self._stop_if_asked(number)
            progress.losses.append(self._stepper.backward(batch, place=(progress.epoch, number)))
            if not math.isfinite(progress.losses[-1]):
                return  # the validation will tell, and send the run back
            if number % hyper.accumulation == 0 or number == trainee.steps:
                self._update()
                progress.batch = number
                if time.monotonic() - self._saved_at > self._interval:
                    self._save()
            self._tell(number)

    def _tell(self, number: int) -> None:
        """Tells the progress in items. The rate counts from the stage's beginning, validations included: the time
        left is the items left over it."""
        done = self._items_done(self._progress.epoch, number)
        rate = (done - self._done_before) / max(1e-9, time.monotonic() - self._begun_at)
        self._events.progress("tune", round(done), self._trainee.items * self._hyper.epochs, rate=rate)

    def _items_done(self, epoch: int, batches: int) -> float:
        trainee = self._trainee
        return (epoch - 1 + batches / trainee.steps) * trainee.items

    def _stop_if_asked(self, number: int) -> None:
        """Raises Stopped where that is asked for; a pause keeps the work up to the last update first, unless
        batches that count towards the next one lie behind it."""
        if runtime.pause_requested() and self._progress.batch == number - 1:
            self._save()
        runtime.check_stop()

    def _update(self) -> None:
        progress = self._progress
        share = optimizers.share_at(progress.updates, self._updates_in_all, self._hyper)
        self._stepper.step(progress.damping * share)
        progress.updates += 1
        if self._average is not None:
            _move_average(self._average, self._module, updates=progress.updates)

    def _judge(self) -> Validation:
        """Validates the epoch: keeps the best, and takes a diverged run back to it."""
        progress = self._progress
        validation = self._validate(self._average or self._module)
        self._report(validation)
        best = progress.best["loss"]
        limit = DIVERGED_FACTOR * max(best, _LOSS_FLOOR)
        if not math.isfinite(validation.loss) or (math.isfinite(best) and validation.loss > limit):
            self._events.log("The loss diverged: back to the best epoch, at half the rate.", level="warning")
            self._module.load_state_dict(self._best_state)
            self._stepper.optimizer.state.clear()
            progress.damping *= 0.5
        elif validation.objective < progress.best["objective"]:
            progress.best, progress.best_epoch = _plain(validation), progress.epoch
            self._best_state = _snapshot(self._average or self._module)
        progress.history.append(_plain(validation))
        return validation

    def _validate(self, module: nn.Module) -> Validation:
        """Scores on the first process, whose word the others take: they have the same weights."""
        own = self._trainee.validate(module) if collective.rank() == 0 else None
        validation = collective.from_first(own)
        assert validation is not None  # noqa: S101 - the first has always scored
        return validation

    def _report(self, validation: Validation) -> None:
        events, epoch, losses = self._events, self._progress.epoch, self._progress.losses
        events.metric("loss", "train", epoch, sum(losses) / max(1, len(losses)))
        events.metric("loss", "validation", epoch, validation.loss)
        for name, value in validation.metrics.items():
            events.metric(name, "validation", epoch, value)
        rate = max(float(group["lr"]) for group in self._stepper.optimizer.param_groups)
        events.metric("learning_rate", "train", epoch, rate)

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        state = {
            "module": self._module.state_dict(),
            "average": self._average.state_dict() if self._average else None,
            "stepper": self._stepper.state(),
            "best_state": self._best_state,
            "progress": {name: getattr(self._progress, name) for name in Progress.__dataclass_fields__},
        }
        self._checkpoints.save(state, step=self._progress.updates)
        self._events.emit(Kind.CHECKPOINT, step=self._progress.updates)

    def _restore(self) -> None:
        state = collective.from_first(self._checkpoints.load(self._events))
        if state is None:
            return
        if _shapes(state["module"]) != _shapes(self._module.state_dict()):  # cut off elsewhere, on another machine
            self._events.log("The checkpoint is of another part of the network: starting again.", level="warning")
            return
        self._module.load_state_dict(state["module"])
        if self._average is not None and state["average"] is not None:
            self._average.load_state_dict(state["average"])
        self._stepper.load_state(state["stepper"])
        self._best_state, self._progress = state["best_state"], Progress(**state["progress"])
        self._events.log(f"Going on from epoch {self._progress.epoch}, step {self._progress.updates}.")


def _move_average(average: nn.Module, module: nn.Module, *, updates: int) -> None:
    """Moves the average towards the module; counters and other whole numbers are copied."""
    decay = min(EMA_DECAY, (1 + updates) / (EMA_START + updates))
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def _plain(validation: Validation) -> dict[str, Any]:
    return {"objective": validation.objective, "loss": validation.loss, "metrics": dict(validation.metrics)}
