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
_DOUBLE_UP_TO = 8_000_000  # entries; beyond 64 MB of float64 the fit runs in float32
_COPIED_UP_TO = 16_000_000  # entries; of a table of over 64 MB no copy is made, however many images there are
_BLOCK_ROWS = 512


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
    """`features` (N, D), `labels` as `labelling` has them, (N,) int64 or (N, C). `views` tells how many of the N rows
    show the same image: each row then counts for 1 / `views` of an image, so that C keeps its meaning. `used` (N,) bool says which rows count;
    None: all."""

    features: Tensor
    labels: Tensor
    views: int = 1
    used: Tensor | None = None
    labelling: Labelling = ONE_CLASS

    def chosen(self, values: Tensor) -> Tensor:
        """Returns the rows of `values` (N, ...) that count."""
        return values if self.used is None else values[self.used]

    def compact(self) -> Samples:
        """Returns the rows that count alone, copied, or these samples where the table is too large for that."""
        if self.used is None or self.features.numel() > _COPIED_UP_TO:
            return self
        return replace(self, features=self.chosen(self.features), labels=self.chosen(self.labels), used=None)


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

    def __init__(self, samples: Samples) -> None:
        features = samples.features
        if samples.used is None:
            self.mean, spread = features.mean(dim=0), features.std(dim=0)
        else:
            self.mean, spread = _moments(features, samples.used)
        self.factor = spread.clamp(min=_STD_FLOOR).mul(features.shape[1] ** 0.5).reciprocal()

    def apply(self, features: Tensor) -> Tensor:
        return (features - self.mean).mul_(self.factor)  # in place: a table may be tens of megabytes

    def fold(self, weight: Tensor, bias: Tensor) -> LinearHead:
        """Returns the head on raw features that equals `weight`, `bias` on standardised ones."""
        raw, shifted = self.on_raw(weight, bias)
        return LinearHead(raw.float(), shifted.float())

    def on_raw(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        raw = weight * self.factor
        return raw, bias - raw @ self.mean


def _moments(features: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """Returns mean and standard deviation of the rows in use, without copying them all."""
    parts = list(zip(features.split(_BLOCK_ROWS), used.split(_BLOCK_ROWS), strict=True))
    count = int(used.sum())
    mean = sum((part[own].sum(dim=0, dtype=torch.float64) for part, own in parts), torch.zeros(())) / count
    squares = sum(((part[own].double() - mean).square().sum(dim=0) for part, own in parts), torch.zeros(()))
    return mean.to(features.dtype), (squares / (count - 1)).sqrt().to(features.dtype)


class Rows:
    """Standardised features to multiply weights with: a copy, or of a large table the table itself, whose scale then
    goes into the weights."""

    def __init__(self, samples: Samples, scale: Scale) -> None:
        is_large = samples.features.numel() > _COPIED_UP_TO
        self._columns = (samples.features if is_large else scale.apply(samples.features)).T
        self._scale = scale if is_large else None

    def logits(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Returns (N, C)."""
        if self._scale is not None:
            weight, bias = self._scale.on_raw(weight, bias)
        # (C, N): a few classes against many features multiply twice as fast this way round, forward and backward.
        return torch.addmm(bias[:, None], weight, self._columns).T


def regularization_path(train: Samples, validation: Samples, classes: int) -> Iterator[Point]:
    """Yields fits from the strongest regularisation to the weakest, each started from the one before. Ends
    early once the validation loss keeps rising: the weakest fits cost the most and overfit."""
    train = replace(train, features=train.features.float())
    scale = Scale(train)
    rows = Rows(train, scale)
    weight, bias = _start(train, classes)
    lowest, since = float("inf"), 0
    for regularization in REGULARIZATIONS:
        weight, bias = _minimise(rows, train, weight, bias, regularization, _MAX_ITERATIONS)
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
    samples = samples.compact()
    features = samples.features.to(dtype if samples.features.numel() <= _DOUBLE_UP_TO else torch.float32)
    samples = replace(samples, features=features)
    scale = Scale(samples)
    weight, bias = _start(samples, classes)
    weight, bias = _minimise(Rows(samples, scale), samples, weight, bias, regularization, _MAX_FINAL_ITERATIONS)
    return scale.fold(weight, bias)


def score(head: LinearHead, samples: Samples) -> tuple[float, float]:
    """Returns the mean loss in nats and the labelling's metric."""
    logits = head.logits(samples.features)
    loss = samples.labelling.loss(logits, samples.labels)
    return float(loss), samples.labelling.score(logits, samples.labels)


def _start(samples: Samples, classes: int) -> tuple[Tensor, Tensor]:
    """Returns zero weights and the prior: the answer for infinite regularisation."""
    features = samples.features
    prior = samples.labelling.prior(samples.chosen(samples.labels), classes)
    return features.new_zeros(classes, features.shape[1]), prior.to(features.dtype)


def _minimise(  # a problem, where to begin, and how far to go
    rows: Rows, samples: Samples, weight: Tensor, bias: Tensor, regularization: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Minimises the mean loss + |W|^2 / (2 C n) by L-BFGS, n in images; the bias is free."""
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    labels = samples.chosen(samples.labels)
    penalty = samples.views / (2 * regularization * len(labels))
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
        logits = samples.chosen(rows.logits(weight, bias))
        loss = samples.labelling.loss(logits, labels) + penalty * weight.square().sum()
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
