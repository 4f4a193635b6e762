"""Losses of classifiers against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from finetuning.engine import losses
from finetuning.engine.hyper import Hyper, Loss

# Two items, two classes: the true class has probability 3/4 for the first, 2/5 for the second.
LOGITS = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), math.log(2.0)]])
LABELS = torch.tensor([0, 1])
COUNTS = torch.tensor([90, 10])
FIRST, SECOND = -math.log(3 / 4), -math.log(2 / 5)


def loss(kind: Loss, **hyper: float) -> float:
    return float(losses.classification(Hyper(loss=kind, **hyper), COUNTS)(LOGITS, LABELS))


def test_cross_entropy_is_the_mean_of_the_negative_logarithms() -> None:
    assert loss(Loss.CROSS_ENTROPY) == pytest.approx((FIRST + SECOND) / 2, rel=1e-6)


def test_smoothing_spreads_a_share_of_each_label_evenly() -> None:
    both = ((FIRST - math.log(1 / 4)) / 2, (SECOND - math.log(3 / 5)) / 2)

    expected = 0.9 * (FIRST + SECOND) / 2 + 0.1 * sum(both) / 2

    assert loss(Loss.CROSS_ENTROPY, label_smoothing=0.1) == pytest.approx(expected, rel=1e-6)


def test_focal_loss_plays_down_what_is_easy() -> None:
    expected = ((1 / 4) ** 2 * FIRST + (3 / 5) ** 2 * SECOND) / 2

    assert loss(Loss.FOCAL) == pytest.approx(expected, rel=1e-6)


def test_weighted_loss_uses_the_inverse_square_root_of_the_counts() -> None:
    first, second = 1 / math.sqrt(90), 1 / math.sqrt(10)

    expected = (first * FIRST + second * SECOND) / (first + second)

    assert loss(Loss.WEIGHTED) == pytest.approx(expected, rel=1e-6)


def test_class_balanced_loss_uses_the_effective_numbers() -> None:
    first, second = ((1 - 0.999) / (1 - 0.999**count) for count in (90, 10))

    expected = (first * FIRST + second * SECOND) / (first + second)

    assert loss(Loss.CLASS_BALANCED) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [Loss.WEIGHTED, Loss.CLASS_BALANCED])
def test_class_weights_have_mean_one_over_the_training_items(kind: Loss) -> None:
    weights = losses.class_weights(kind, COUNTS)

    assert weights is not None
    assert float((weights * COUNTS).sum() / COUNTS.sum()) == pytest.approx(1.0, rel=1e-6)
    assert weights[1] > weights[0]


def test_logit_adjustment_adds_the_log_prior() -> None:
    # Odds 3 : 1 times the prior's 9 : 1, then 3 : 2 times 9 : 1.
    expected = (-math.log(27 / 28) - math.log(2 / 29)) / 2

    assert loss(Loss.LOGIT_ADJUSTED) == pytest.approx(expected, rel=1e-6)
