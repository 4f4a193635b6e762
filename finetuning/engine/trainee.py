"""What a task gives the training loop, and what it gets judged by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


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
