"""The learning-rate range test (Smith 2017, arXiv 1506.01186, section 3.3): one short sweep from a rate that
changes nothing to one that diverges, and the rate that its curve suggests."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from finetuning.engine import runtime
from finetuning.engine.events import EventWriter
from finetuning.engine.hyper import Hyper
from finetuning.engine.stepping import Stepper
from finetuning.engine.strategies import Plan
from finetuning.engine.trainee import Trainee

LOWEST, HIGHEST, STEPS = 1e-7, 1.0, 100
SMOOTHING = 0.9  # of the exponential average over steps: a window of about ten, 0.7 decades
DIVERGED_FACTOR = 4.0  # a smoothed loss above this multiple of the lowest one ends the sweep
MIN_FALL = 0.05  # share of the loss at its start that a valley has to fall by; less is noise
MIN_STEPS_AN_EPOCH = 20  # with fewer, the sweep is most of a training, and what it saw no sample of one
METRIC = "loss_by_rate"


@dataclass(frozen=True, slots=True)
class RateTest:
    """`losses` are smoothed, one for each rate that was tried; `suggested` is None where nothing fell clearly."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    has_diverged: bool
    suggested: float | None

    @property
    def summary(self) -> dict[str, Any]:
        return {
            "suggested": self.suggested,
            "rule": "valley",
            "lowest": self.rates[0],
            "highest": self.rates[-1],
            "steps": len(self.rates),
            "has_diverged": self.has_diverged,
        }


def find(trainee: Trainee, plan: Plan, hyper: Hyper, *, device: torch.device, events: EventWriter) -> RateTest:
    """Sweeps the peak rate of the body from `LOWEST` to `HIGHEST`, with the proportions of the plan's groups,
    through training batches; stops where the loss diverges. The module is left as it was, bit for bit, and so is
    the plan; the test is a function of the seed, so that a run that is started again sees the same."""
    events.stage("learning_rate", "Testing learning rates")
    module = trainee.module
    before = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    batches = _endless(trainee)
    try:
        rates, losses, has_diverged = _sweep(trainee, plan, hyper, batches, device=device, events=events)
    finally:
        batches.close()
        module.load_state_dict(before)
        module.zero_grad(set_to_none=True)
    return RateTest(tuple(rates), tuple(losses), has_diverged, valley(rates, losses))


def is_worth_using(trainee: Trainee, hyper: Hyper) -> bool:
    """Whether an epoch has enough steps that the suggestion may replace the rate that was asked for."""
    return trainee.steps // hyper.accumulation >= MIN_STEPS_AN_EPOCH


def _sweep(
    trainee: Trainee,
    plan: Plan,
    hyper: Hyper,
    batches: Iterator[Any],
    *,
    device: torch.device,
    events: EventWriter,
) -> tuple[list[float], list[float], bool]:
    stepper = Stepper(trainee, plan, hyper, device=device)
    stepper.train_mode()
    rates, losses, average = list[float](), list[float](), 0.0
    for step in range(STEPS):
        runtime.check_stop()
        rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
        parts = [
            stepper.backward(next(batches), place=(0, step, part))  # epoch 0: no batch of the training itself
            for part in range(hyper.accumulation)
        ]
        average = SMOOTHING * average + (1 - SMOOTHING) * sum(parts) / len(parts)
        smoothed = average / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(smoothed):
            return rates, losses, True
        rates.append(rate)
        losses.append(smoothed)
        events.metric(METRIC, "train", rate, smoothed)
        events.progress("learning_rate", step + 1, STEPS)
        if smoothed > DIVERGED_FACTOR * min(losses):
            return rates, losses, True
        stepper.step(rate / hyper.learning_rate)
    return rates, losses, False


def _endless(trainee: Trainee) -> Generator[Any, None, None]:
    epoch = 0
    while True:
        epoch += 1
        yield from trainee.batches(epoch, start=0)


def valley(rates: Sequence[float], losses: Sequence[float]) -> float | None:
    """Returns the rate at the middle of the longest falling subsequence of the losses, or None where it falls by
    less than `MIN_FALL` of its start. On the logarithmic sweep the middle lies well above the rates that change
    nothing and well below the minimum, where training is about to diverge (the rule called valley in fastai's
    learning-rate finder, which takes about the same point)."""
    if not losses:
        return None
    lengths, starts = [1] * len(losses), list(range(len(losses)))
    for at, loss in enumerate(losses):
        for earlier in range(at):
            if losses[earlier] > loss and lengths[earlier] + 1 >= lengths[at]:  # the later start of equals
                lengths[at], starts[at] = lengths[earlier] + 1, starts[earlier]
    end = max(range(len(losses)), key=lambda at: (lengths[at], -at))
    start = starts[end]
    if losses[start] - losses[end] < MIN_FALL * losses[start]:
        return None
    return rates[(start + end) // 2]
