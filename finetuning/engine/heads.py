"""Linear heads on fixed features: logistic regression along a path of regularisation, multinomial, or of one yes or no
for each class where items show any number of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from finetuning.engine.labelling import ONE_CLASS, Labelling

# 11 values, log-spaced, of scikit-learn's C: the inverse weight of the squared norm against the summed loss.
REGULARIZATIONS: tuple[float, ...] = tuple(10.0**power for power in range(-5, 6))
_MAX_ITERATIONS = 150
_MAX_FINAL_ITERATIONS = 500
# On the largest entry of the gradient of the mean loss. Float32 serves what only has to be compared: on 1,000 images
# it changes the loss of a fit by less than 1e-4 and takes a third of the time.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5}
_PATIENCE = 2  # the path ends after so many points without a lower validation loss
_STD_FLOOR = 1e-4  # a feature that hardly moves in training must not be blown up at prediction
_DOUBLE_UP_TO = 16_000_000  # entries; beyond 128 MB of float64 the fit runs in float32


@dataclass(frozen=True, slots=True)
class LinearHead:
    """`weight` (C, D) and `bias` (C,), float32, on raw features: standardisation is folded in."""

    weight: Tensor
    bias: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Returns (N, C) for features (N, D)."""
        return functional.linear(features.float(), self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Samples:
    """`features` (N, D), `labels` as `labelling` has them, (N,) int64 or (N, C). `views` tells how many of the N rows show the same image: each
    row then counts for 1 / `views` of an image, so that C keeps its meaning."""

    features: Tensor
    labels: Tensor
    views: int = 1
    labelling: Labelling = ONE_CLASS


@dataclass(frozen=True, slots=True)
class Point:
    """One place on the path; losses are means in nats, scores the labelling's metric."""

    regularization: float
    head: LinearHead
    train_loss: float
    train_score: float
    validation_loss: float
    validation_score: float


class Scale:
    """Standardises features: mean 0, variance 1 / D, so that a whole row has unit norm on average and C means
    the same for every width D."""

    def __init__(self, features: Tensor) -> None:
        self.mean = features.mean(dim=0)
        self.factor = features.std(dim=0).clamp(min=_STD_FLOOR).mul(features.shape[1] ** 0.5).reciprocal()

    def apply(self, features: Tensor) -> Tensor:
        return (features - self.mean).mul_(self.factor)  # in place: a table may be hundreds of megabytes

    def fold(self, weight: Tensor, bias: Tensor) -> LinearHead:
        """Returns the head on raw features that equals `weight`, `bias` on standardised ones."""
        raw = weight * self.factor
        return LinearHead(raw.float(), (bias - raw @ self.mean).float())


def regularization_path(train: Samples, validation: Samples, classes: int) -> Iterator[Point]:
    """Yields fits from the strongest regularisation to the weakest, each started from the one before. Ends
    early once the validation loss keeps rising: the weakest fits cost the most and overfit."""
    features = train.features.float()
    scale = Scale(features)
    rows = scale.apply(features)
    weight, bias = _start(train, classes, rows)
    lowest, since = float("inf"), 0
    for regularization in REGULARIZATIONS:
        weight, bias = _minimise(replace(train, features=rows), weight, bias, regularization, _MAX_ITERATIONS)
        point = _point(regularization, scale.fold(weight, bias), train, validation)
        yield point
        lowest, since = (point.validation_loss, 0) if point.validation_loss < lowest else (lowest, since + 1)
        if since == _PATIENCE:
            return


def choose(path: list[Point]) -> Point:
    """Returns the point with the lowest validation loss."""
    return min(path, key=lambda point: point.validation_loss)


def fit(samples: Samples, classes: int, regularization: float, *, dtype: torch.dtype = torch.float64) -> LinearHead:
    """Returns the head for one regularisation, fitted to convergence in `dtype`, or in float32 where the features
    would take too much memory."""
    features = samples.features.to(dtype if samples.features.numel() <= _DOUBLE_UP_TO else torch.float32)
    scale = Scale(features)
    rows = scale.apply(features)
    weight, bias = _start(samples, classes, rows)
    weight, bias = _minimise(replace(samples, features=rows), weight, bias, regularization, _MAX_FINAL_ITERATIONS)
    return scale.fold(weight, bias)


def score(head: LinearHead, samples: Samples) -> tuple[float, float]:
    """Returns the mean loss in nats and the labelling's metric."""
    logits = head.logits(samples.features)
    loss = samples.labelling.loss(logits, samples.labels)
    return float(loss), samples.labelling.score(logits, samples.labels)


def _start(samples: Samples, classes: int, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns zero weights and the prior: the answer for infinite regularisation."""
    prior = samples.labelling.prior(samples.labels, classes)
    return rows.new_zeros(classes, rows.shape[1]), prior.to(rows.dtype)


def _minimise(
    samples: Samples, weight: Tensor, bias: Tensor, regularization: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Minimises the mean loss + |W|^2 / (2 C n) by L-BFGS, n in images; the bias is free."""
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    penalty = samples.views / (2 * regularization * len(samples.labels))
    columns = samples.features.T
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=iterations,
        tolerance_grad=_TOLERANCE[weight.dtype],
        tolerance_change=1e-9,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        # (C, N): a few classes against many features multiply twice as fast this way round, forward and backward.
        logits = torch.addmm(bias[:, None], weight, columns).T
        loss = samples.labelling.loss(logits, samples.labels) + penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def _point(regularization: float, head: LinearHead, train: Samples, validation: Samples) -> Point:
    train_loss, train_score = score(head, train)
    validation_loss, validation_score = score(head, validation)
    return Point(
        regularization=regularization,
        head=head,
        train_loss=train_loss,
        train_score=train_score,
        validation_loss=validation_loss,
        validation_score=validation_score,
    )
