"""Rates, optimisers, clipping, accumulation, averaged weights and stages' rates do what the spec says, on one weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from finetuning.engine import loop, optimizers, strategies
from finetuning.engine.checkpoints import Checkpoints
from finetuning.engine.events import EventWriter
from finetuning.engine.hyper import Hyper, Optimizer, Schedule, Strategy
from finetuning.engine.stepping import Stepper
from finetuning.engine.trainee import Validation

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        (Schedule.CONSTANT, [1, 1, 1, 1, 1]),
        (Schedule.LINEAR, [1, 0.75, 0.5, 0.25, 0]),
        (Schedule.COSINE, [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0]),
        (Schedule.ONE_CYCLE, [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 1e-4]),
        (Schedule.STEP, [1, 1, 1, 0.1, 0.01]),  # at 60% and 85% of the steps
    ],
)
def test_a_schedule_falls_from_the_peak_as_its_name_says(schedule: Schedule, shares: list[float]) -> None:
    hyper = Hyper(schedule=schedule, warm_up=0.0)

    assert [optimizers.share_at(step, 100, hyper) for step in (0, 25, 50, 75, 100)] == pytest.approx(shares)


def test_warm_up_rises_in_a_straight_line_to_the_peak() -> None:
    hyper = Hyper(schedule=Schedule.CONSTANT, warm_up=0.1)

    assert [optimizers.share_at(step, 40, hyper) for step in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])


class Line:
    """One weight w per batch of targets, loss = mean (w - target) ** 2: its gradient is 2 (w - mean)."""

    norm_min_batch = 0

    def __init__(self, batches: list[Tensor], start: float = 0.0) -> None:
        self.module = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.module.weight, start)
        self.given, self.items, self.steps = batches, 1000, len(batches)

    @property
    def value(self) -> float:
        return float(self.module.weight.detach())

    def batches(self, epoch: int, *, start: int) -> Iterator[Tensor]:
        yield from self.given[start:]

    def loss(self, batch: Tensor) -> Tensor:
        return ((self.module.weight - batch) ** 2).mean()

    def weight(self, batch: Tensor) -> float:
        return float(len(batch))

    def validate(self, module: nn.Module) -> Validation:
        loss = float((module.weight - 1.0).detach() ** 2)
        return Validation(loss, loss, {"accuracy": 0.0})


def plan_of(line: Line, rate: float) -> strategies.Plan:
    group = {"params": list(line.module.parameters()), "lr": rate, "peak": rate, "weight_decay": 0.0}
    return strategies.Plan([group], [], 0)


def stepped(line: Line, hyper: Hyper, *, rate: float = 0.1, accumulated: int = 1) -> Line:
    stepper = Stepper(line, plan_of(line, rate), hyper, device=CPU)
    stepper.train_mode()
    for at in range(0, len(line.given), accumulated):
        for batch in line.given[at : at + accumulated]:
            stepper.backward(batch, place=(1, at))
        stepper.step(1.0)
    return line


@pytest.mark.parametrize(
    ("optimizer", "values"),
    [
        # By hand: gradients at w are 2 (w - 1), so -2 first. Adam's first steps are the rate itself, whatever the gradient.
        (Optimizer.ADAM, [0.1]),
        (Optimizer.ADAMW, [0.1]),
        (Optimizer.SGD, [0.38]),  # Nesterov: 0.1 * (2 + 0.9 * 2)
    ],
)
def test_an_optimiser_takes_the_step_that_is_worked_out_by_hand(optimizer: Optimizer, values: list[float]) -> None:
    line = stepped(Line([torch.ones(2)]), Hyper(optimizer=optimizer, clip_norm=0.0))

    assert line.value == pytest.approx(values[0], rel=1e-4)


def test_a_clipped_gradient_has_the_norm_that_was_asked_for() -> None:
    sgd: dict[str, Any] = {"optimizer": Optimizer.SGD}
    free = stepped(Line([torch.full((2,), 100.0)]), Hyper(**sgd, clip_norm=0.0))
    clipped = stepped(Line([torch.full((2,), 100.0)]), Hyper(**sgd, clip_norm=1.0))

    assert free.value == pytest.approx(0.1 * 1.9 * 200)
    assert clipped.value == pytest.approx(0.1 * 1.9 * 1.0, rel=1e-4)


def test_two_accumulated_batches_move_the_weight_as_one_of_both() -> None:
    sgd: dict[str, Any] = {"optimizer": Optimizer.SGD, "clip_norm": 0.0}
    apart = stepped(Line([torch.ones(2), 3 * torch.ones(2)]), Hyper(**sgd, accumulation=2), accumulated=2)
    together = stepped(Line([torch.tensor([1.0, 1.0, 3.0, 3.0])]), Hyper(**sgd))

    assert apart.value == pytest.approx(together.value)


def test_averaged_weights_are_the_exponential_mean_of_those_that_learn(tmp_path: Path) -> None:
    line = Line([torch.ones(2)] * 4)
    hyper = Hyper(epochs=1, learning_rate=0.05, schedule=Schedule.CONSTANT, warm_up=0.0, average_weights=True)
    seen, average = [], 0.0
    for count in range(1, 5):
        seen.append(stepped(Line([torch.ones(2)] * count), hyper, rate=0.05).value)
        decay = min(0.999, (1 + count) / (10 + count))  # early steps weigh less: they are far from where it ends
        average = decay * average + (1 - decay) * seen[-1]
    with EventWriter(tmp_path / "events.jsonl") as events:
        checkpoints = Checkpoints(tmp_path / "checkpoints", identity="line")
        plan = plan_of(line, 0.05)
        loop.Run(line, plan, hyper, device=CPU, events=events, checkpoints=checkpoints, keep_initial=False).fit()

    assert line.value == pytest.approx(average, rel=1e-5)
    assert line.value < 0.9 * seen[-1]


def test_stages_learn_the_slower_the_nearer_they_are_to_the_stem() -> None:
    module = nn.Sequential(*(nn.Linear(2, 2) for _ in range(4)))
    stages = [(name, [module[at]]) for at, name in enumerate(("stem", "middle", "last", strategies.HEAD))]
    hyper = Hyper(learning_rate=1e-3, stage_decay=0.5, weight_decay=0.05)

    plan = strategies.plan(module, stages, Strategy.FULL, hyper, fresh_head=True)

    rates = {id(parameter): group["peak"] for group in plan.groups for parameter in group["params"]}
    assert [rates[id(layer.weight)] for layer in module] == pytest.approx([1.25e-4, 2.5e-4, 5e-4, 1e-2])
    decays = {id(parameter): group["weight_decay"] for group in plan.groups for parameter in group["params"]}
    assert {decays[id(layer.weight)] for layer in module} == {0.05}
    assert {decays[id(layer.bias)] for layer in module} == {0.0}
