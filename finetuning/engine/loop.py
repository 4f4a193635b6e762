"""The one training loop: every task, framework and strategy goes through `fit`."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from finetuning.engine import optimizers, runtime, strategies
from finetuning.engine.checkpoints import Checkpoints, interval_seconds
from finetuning.engine.events import EventWriter
from finetuning.engine.hyper import Hyper, Precision
from finetuning.engine.strategies import Plan

NORM_MIN_ITEMS = 200  # fewer items an epoch make batch statistics worse than the pretrained ones
DIVERGED_FACTOR = 3.0  # a validation loss above this multiple of the best one is a divergence
_LOSS_FLOOR = 0.1  # so that a tiny best loss does not call noise a divergence
EMA_DECAY, EMA_START = 0.999, 10.0  # decay = min(EMA_DECAY, (1 + t) / (EMA_START + t))


@dataclass(frozen=True, slots=True)
class Validation:
    """`objective` is what the best epoch is chosen by, lower is better; `loss` is in the task's unit;
    `metrics` are shares of 1 by name, the first of them the task's own."""

    objective: float
    loss: float
    metrics: dict[str, float]


class Trainee(Protocol):
    """What a task gives the loop."""

    module: nn.Module
    items: int  # training items an epoch
    steps: int  # batches an epoch
    norm_min_batch: int  # items a batch, below which norms keep their statistics

    def batches(self, epoch: int, *, start: int) -> Iterator[Any]:
        """Yields the epoch's batches from number `start` on: a function of (seed, epoch) alone."""

    def loss(self, batch: Any) -> Tensor:
        """Returns the loss of one batch, a scalar."""

    def validate(self, module: nn.Module) -> Validation:
        """Scores the module on the validation items."""


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


@dataclass(frozen=True, slots=True)
class Fitted:
    """The module holds the weights of `best_epoch` (0: as it was given)."""

    best_epoch: int
    epochs: int
    validation: Validation


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
    run = _Run(trainee, plan, hyper, device=device, events=events, checkpoints=checkpoints)
    return run.fit(keep_initial=keep_initial)


class _Run:
    """The state of one `fit`, so that a checkpoint is one call."""

    def __init__(
        self,
        trainee: Trainee,
        plan: Plan,
        hyper: Hyper,
        *,
        device: torch.device,
        events: EventWriter,
        checkpoints: Checkpoints,
    ) -> None:
        self._trainee, self._plan, self._hyper = trainee, plan, hyper
        self._device, self._events, self._checkpoints = device, events, checkpoints
        self._module = trainee.module
        self._optimizer = optimizers.build(plan.groups, hyper)
        self._average = deepcopy(self._module).eval() if hyper.average_weights else None
        self._progress, self._best_state = Progress(), dict[str, Tensor]()
        self._updates_in_all = math.ceil(trainee.steps / hyper.accumulation) * hyper.epochs
        self._saved_at, self._interval = time.monotonic(), interval_seconds()

    def fit(self, *, keep_initial: bool) -> Fitted:
        self._restore()
        progress, hyper = self._progress, self._hyper
        if not progress.best:
            first = self._trainee.validate(self._module)
            initial = first if keep_initial else Validation(math.inf, math.inf, first.metrics)
            progress.best, self._best_state = _plain(initial), _snapshot(self._module)
        self._events.stage("tune", "Training")
        for epoch in range(progress.epoch, hyper.epochs + 1):
            if epoch - 1 - progress.best_epoch >= hyper.patience:
                self._events.log(f"Stopped early: nothing better for {hyper.patience} epochs.")
                break
            self._epoch()
            self._judge()
            progress.losses, progress.batch, progress.epoch = [], 0, epoch + 1
            self._save()
        self._module.load_state_dict(self._best_state)
        return Fitted(progress.best_epoch, progress.epoch - 1, Validation(**progress.best))

    def _epoch(self) -> None:
        trainee, hyper, progress = self._trainee, self._hyper, self._progress
        frozen_norms = hyper.batch_size < trainee.norm_min_batch or trainee.items < NORM_MIN_ITEMS
        strategies.train_mode(self._module, self._plan.frozen, frozen_norms=frozen_norms)
        self._optimizer.zero_grad(set_to_none=True)
        started, first = time.monotonic(), progress.batch
        for number, batch in enumerate(trainee.batches(progress.epoch, start=first), start=first + 1):
            runtime.check_stop()
            torch.manual_seed(seed_of(hyper.seed, progress.epoch, number))  # dropout: a function of the step alone
            with _autocast(self._device, hyper.precision):
                loss = trainee.loss(batch)
            (loss / hyper.accumulation).backward()
            progress.losses.append(loss.item())
            if not math.isfinite(progress.losses[-1]):
                return  # the validation will tell, and send the run back
            if number % hyper.accumulation == 0 or number == trainee.steps:
                self._update()
                progress.batch = number
                if time.monotonic() - self._saved_at > self._interval:
                    self._save()
            done = (progress.epoch - 1) * trainee.steps + number
            rate = (number - first) * trainee.items / trainee.steps / max(1e-9, time.monotonic() - started)
            self._events.progress("tune", done, trainee.steps * hyper.epochs, rate=rate)

    def _update(self) -> None:
        progress, hyper = self._progress, self._hyper
        share = optimizers.share_at(progress.updates, self._updates_in_all, hyper)
        optimizers.set_rates(self._optimizer, progress.damping * share)
        if hyper.clip_norm:
            nn.utils.clip_grad_norm_(self._module.parameters(), hyper.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        progress.updates += 1
        if self._average is not None:
            _move_average(self._average, self._module, updates=progress.updates)

    def _judge(self) -> None:
        """Validates the epoch: keeps the best, and takes a diverged run back to it."""
        progress = self._progress
        validation = self._trainee.validate(self._average or self._module)
        self._report(validation)
        best = progress.best["loss"]
        limit = DIVERGED_FACTOR * max(best, _LOSS_FLOOR)
        if not math.isfinite(validation.loss) or (math.isfinite(best) and validation.loss > limit):
            self._events.log("The loss diverged: back to the best epoch, at half the rate.", level="warning")
            self._module.load_state_dict(self._best_state)
            self._optimizer.state.clear()
            progress.damping *= 0.5
        elif validation.objective < progress.best["objective"]:
            progress.best, progress.best_epoch = _plain(validation), progress.epoch
            self._best_state = _snapshot(self._average or self._module)

    def _report(self, validation: Validation) -> None:
        events, epoch, losses = self._events, self._progress.epoch, self._progress.losses
        events.metric("loss", "train", epoch, sum(losses) / max(1, len(losses)))
        events.metric("loss", "validation", epoch, validation.loss)
        for name, value in validation.metrics.items():
            events.metric(name, "validation", epoch, value)
        rate = max(float(group["lr"]) for group in self._optimizer.param_groups)
        events.metric("learning_rate", "train", epoch, rate)

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        state = {
            "module": self._module.state_dict(),
            "average": self._average.state_dict() if self._average else None,
            "optimizer": self._optimizer.state_dict(),
            "best_state": self._best_state,
            "progress": {name: getattr(self._progress, name) for name in Progress.__dataclass_fields__},
        }
        self._checkpoints.save(state, step=self._progress.updates)

    def _restore(self) -> None:
        state = self._checkpoints.load(self._events)
        if state is None:
            return
        self._module.load_state_dict(state["module"])
        if self._average is not None and state["average"] is not None:
            self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
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


def seed_of(seed: int, *place: int) -> int:
    """Returns a 63-bit seed that is a function of its arguments alone."""
    text = "/".join(map(str, (seed, *place)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    wants = precision is Precision.BFLOAT16 or (precision is Precision.AUTO and device.type == "cuda")
    return torch.autocast(device.type, dtype=torch.bfloat16) if wants else nullcontext()


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def _plain(validation: Validation) -> dict[str, Any]:
    return {"objective": validation.objective, "loss": validation.loss, "metrics": dict(validation.metrics)}
