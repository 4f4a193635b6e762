"""Losses and metrics of pixel-wise classes against brute force and other people's implementations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score
from torch import Tensor
from torchmetrics.functional.classification import multiclass_jaccard_index

from finetuning.engine import losses
from finetuning.engine.evaluation import pixels, segmenter
from finetuning.engine.evaluation.segmenter import Scored
from finetuning.engine.hyper import Loss

IGNORED = 255


def drawn(seed: int, classes: int = 4, side: int = 5) -> tuple[Tensor, Tensor]:
    """Returns probabilities (2, C, S, S), and classes with some ignored; the last class does not occur."""
    generator = torch.Generator().manual_seed(seed)
    shares = torch.randn(2, classes, side, side, generator=generator, dtype=torch.float64).softmax(1)
    truth = torch.randint(0, classes - 1, (2, side, side), generator=generator)
    truth[torch.rand(2, side, side, generator=generator) < 0.2] = IGNORED
    return shares, truth


@pytest.mark.parametrize("seed", range(3))
def test_dice_equals_the_sum_over_single_pixels(seed: int) -> None:
    shares, truth = drawn(seed)

    scores = []
    for position in range(3):
        overlap = total = 0.0
        for n, y, x in itertools.product(range(2), range(5), range(5)):
            if truth[n, y, x] != IGNORED:
                is_it = float(truth[n, y, x] == position)
                overlap += is_it * float(shares[n, position, y, x])
                total += is_it + float(shares[n, position, y, x])
        scores.append(2 * overlap / total)

    assert float(losses.dice(shares, truth, ignore_index=IGNORED)) == pytest.approx(1 - np.mean(scores))


def jaccard_loss(wrong: frozenset[int], truth: list[bool]) -> float:
    """Returns 1 - IoU of a class where the pixels `wrong` are predicted wrongly: the set function."""
    positives = {at for at, is_it in enumerate(truth) if is_it}
    predicted = positives ^ wrong
    union = positives | predicted
    return 1 - len(positives & predicted) / len(union) if union else 0.0


def lovasz_extension(errors: list[float], truth: list[bool]) -> float:
    """Returns the Lovász extension as the integral over thresholds of the set of larger errors."""
    levels = sorted({0.0, *errors})
    total = 0.0
    for low, high in itertools.pairwise(levels):
        above = frozenset(at for at, error in enumerate(errors) if error >= high)
        total += (high - low) * jaccard_loss(above, truth)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_lovasz_equals_the_integral_over_thresholds(seed: int) -> None:
    shares, truth = drawn(seed, side=3)
    counted = truth != IGNORED

    expected = []
    for position in truth[counted].unique().tolist():
        is_it = (truth[counted] == position).tolist()
        errors = (torch.tensor(is_it).double() - shares[:, position][counted]).abs().tolist()
        expected.append(lovasz_extension(errors, is_it))

    found = losses.lovasz_softmax(shares, truth, ignore_index=IGNORED)
    assert float(found) == pytest.approx(np.mean(expected), abs=1e-6)


@pytest.mark.parametrize("loss", [kind for kind in Loss if kind not in {Loss.AUTO, Loss.CLASS_BALANCED}])
def test_ignored_pixels_change_no_loss_and_get_no_gradient(loss: Loss) -> None:
    shares, truth = drawn(0)
    logits = shares.log().float().requires_grad_()
    criterion = losses.segmentation(loss, torch.tensor([50.0, 30.0, 15.0, 5.0]), ignore_index=IGNORED)

    value = criterion(logits, truth)
    value.backward()

    assert math.isfinite(value.item())
    ignored = (truth == IGNORED)[:, None].expand_as(logits)
    assert logits.grad is not None
    assert not logits.grad[ignored].any()
    assert logits.grad[~ignored].any()


def test_a_mask_that_is_all_ignored_gives_a_dice_and_lovasz_of_zero() -> None:
    shares, truth = drawn(0)
    nothing = torch.full_like(truth, IGNORED)

    assert float(losses.dice(shares, nothing, ignore_index=IGNORED)) == 0
    assert float(losses.lovasz_softmax(shares, nothing, ignore_index=IGNORED)) == 0


@pytest.mark.parametrize("classes", [2, 5, 11])
def test_miou_equals_torchmetrics_and_sklearn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    truth = rng.integers(0, classes, (6, 20, 20))
    predicted = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, classes, truth.shape))
    truth[rng.random(truth.shape) < 0.1] = IGNORED
    counted = truth != IGNORED

    tally = pixels.Tally.of(
        [pixels.confusion(one, other, classes) for one, other in zip(truth, predicted, strict=True)]
    )

    theirs = multiclass_jaccard_index(
        torch.from_numpy(predicted), torch.from_numpy(truth), classes, ignore_index=IGNORED, average="macro"
    )
    assert float(tally.summed().miou) == pytest.approx(float(theirs), abs=1e-6)
    assert float(tally.summed().miou) == pytest.approx(
        jaccard_score(truth[counted], predicted[counted], average="macro")
    )


def scored(seed: int, right: float, images: int = 40) -> Scored:
    rng = np.random.default_rng(seed)
    confusions = []
    for _ in range(images):
        truth = rng.integers(0, 3, 200)
        predicted = np.where(rng.random(200) < right, truth, rng.integers(0, 3, 200))
        confusions.append(pixels.confusion(truth, predicted, 3))
    return Scored(list(range(images)), [str(at) for at in range(images)], confusions)


def test_a_better_segmenter_is_called_better_and_an_equal_one_is_not() -> None:
    good, same, poor = scored(0, 0.9), scored(1, 0.9), scored(2, 0.6)

    better = segmenter.report(good, {"bought_with_probe": poor}, labels="abc", seed=0)
    equal = segmenter.report(good, {"bought_with_probe": same}, labels="abc", seed=0)

    assert better["verdict_code"] == "better"
    assert better["comparison"]["difference"]["low"] > 0
    assert equal["verdict_code"] == "no_measurable_gain"
    assert "shows differences from" in equal["verdict"]
    assert better["metrics"]["miou"]["low"] < better["metrics"]["miou"]["value"] < better["metrics"]["miou"]["high"]


def test_copies_of_one_image_count_as_one_in_the_interval() -> None:
    alone = scored(0, 0.7, images=12)
    copied = Scored(alone.indices * 5, alone.groups * 5, alone.confusions * 5)

    one, five = (
        segmenter.report(one, {"majority": segmenter.majority(one, 0)}, labels="abc", seed=0)["metrics"]["miou"]
        for one in (alone, copied)
    )

    assert five == pytest.approx(one)
