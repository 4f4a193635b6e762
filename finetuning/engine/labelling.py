"""How items and classes go together: one class each, or any number of classes each (multi-label). What depends on it in
training stands here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from finetuning.engine import losses
from finetuning.engine.evaluation import label_ranking
from finetuning.engine.hyper import Hyper
from finetuning.engine.losses import Criterion
from finetuning.engine.packs import Item

FEWEST_SHOWN = 0.5  # items that a class is taken to be shown by, and not shown by: no prior is certain


class Labelling(Protocol):
    """`truth` of items is (N,) int64 class positions or (N, C) float32 of 0 and 1; the other functions take it."""

    metric: str  # the validation's share of 1, of which more is better
    is_multi: bool

    def truth(self, items: Sequence[Item], classes: int) -> Tensor: ...

    def counts(self, truth: Tensor, classes: int) -> list[int]:
        """Returns how many items show each class."""

    def prior(self, truth: Tensor, classes: int) -> Tensor:
        """Returns the logits (C,) that say how frequent each class is: the answer of a head that reads nothing."""

    def loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Returns the mean negative log-likelihood of an item's labels, in nats."""

    def score(self, logits: Tensor, truth: Tensor) -> float:
        """Returns the `metric`."""

    def criterion(self, hyper: Hyper, truth: Tensor, classes: int) -> Criterion:
        """Returns what training minimises; `truth` is that of the training items."""

    def weight(self, hyper: Hyper, truth: Tensor, counts: Tensor) -> float:
        """Returns what the criterion's mean over these items divides by; `counts` (C,) are of the training items."""


class _OneClass:
    metric = "accuracy"
    is_multi = False

    def truth(self, items: Sequence[Item], classes: int) -> Tensor:
        return torch.tensor([item.label for item in items], dtype=torch.int64)

    def counts(self, truth: Tensor, classes: int) -> list[int]:
        found: list[int] = torch.bincount(truth, minlength=classes).tolist()
        return found

    def prior(self, truth: Tensor, classes: int) -> Tensor:
        counts = torch.bincount(truth, minlength=classes).clamp(min=1).double()
        return (counts / counts.sum()).log()

    def loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        return functional.cross_entropy(logits, truth)

    def score(self, logits: Tensor, truth: Tensor) -> float:
        return float((logits.argmax(dim=1) == truth).float().mean())

    def criterion(self, hyper: Hyper, truth: Tensor, classes: int) -> Criterion:
        return losses.classification(hyper, torch.tensor(self.counts(truth, classes)))

    def weight(self, hyper: Hyper, truth: Tensor, counts: Tensor) -> float:
        return losses.weight_of(truth, losses.class_weights(hyper.loss, counts))


class _AnyClasses:
    metric = "macro_average_precision"
    is_multi = True

    def truth(self, items: Sequence[Item], classes: int) -> Tensor:
        table = torch.zeros(len(items), classes)
        for row, item in zip(table, items, strict=True):
            row[list(item.labels)] = 1
        return table

    def counts(self, truth: Tensor, classes: int) -> list[int]:
        found: list[int] = truth.sum(0).long().tolist()
        return found

    def prior(self, truth: Tensor, classes: int) -> Tensor:
        return truth.double().sum(0).clamp(FEWEST_SHOWN, len(truth) - FEWEST_SHOWN).div(len(truth)).logit()

    def loss(self, logits: Tensor, truth: Tensor) -> Tensor:
        return losses.binary(logits, truth)

    def score(self, logits: Tensor, truth: Tensor) -> float:
        return label_ranking.macro(logits.double().numpy(), truth.numpy() > 0)

    def criterion(self, hyper: Hyper, truth: Tensor, classes: int) -> Criterion:
        return losses.label_sets(hyper, torch.tensor(self.counts(truth, classes)), len(truth))

    def weight(self, hyper: Hyper, truth: Tensor, counts: Tensor) -> float:
        return float(len(truth))


ONE_CLASS: Labelling = _OneClass()
ANY_CLASSES: Labelling = _AnyClasses()


def labelling_of(items: Iterable[Item]) -> Labelling:
    """Returns how a pack's items are labelled: where none has a class of its own, with any number of classes."""
    return ONE_CLASS if any(item.label >= 0 for item in items) else ANY_CLASSES


def thresholds(logits: Tensor, truth: Tensor) -> tuple[float, ...]:
    """Returns for each class of logits (N, C) the probability, two digits, from which answering it has the best F1
    on these items; a half for a class that none of them shows."""
    shares, shown = logits.double().sigmoid().numpy(), truth.numpy() > 0
    return tuple(label_ranking.best_threshold(shares[:, at], shown[:, at]) for at in range(shares.shape[1]))


def decided(shares: Tensor, limits: Sequence[float]) -> Tensor:
    """Returns (..., C) bool: which classes are answered at these thresholds (C,)."""
    return shares >= torch.from_numpy(np.array(limits, np.float32))
