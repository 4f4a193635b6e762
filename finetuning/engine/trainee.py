"""What a task gives the training loop, and what it gets judged by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from finetuning.engine import augment, collective


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
        """Yields the epoch's batches from number `start` on, of each this process's share, None where that is
        empty: a function of (seed, epoch) alone."""

    def loss(self, batch: Any) -> Tensor:
        """Returns the loss of one batch, a scalar."""

    def weight(self, batch: Any) -> float:
        """Returns what the batch's loss is a mean over (items, pixels, weights of classes): shares of a batch
        count by it."""

    def validate(self, module: nn.Module) -> Validation:
        """Scores the module on the validation items."""


def shares(items: int, size: int, *, seed: int, epoch: int, batches: range) -> list[list[int]]:
    """Returns the positions of the training items in this process's share of each of the epoch's `batches` of
    `size`, in an order that is a function of (seed, epoch) alone."""
    order: Sequence[int] = torch.randperm(items, generator=augment.generator(seed, epoch, 0)).tolist()
    return [collective.share(order[at * size : (at + 1) * size]) for at in batches]
