"""The head's regularisation where there are too few validation items to choose it by."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from finetuning.engine import heads, probes
from finetuning.engine.evaluation.intervals import numbered
from finetuning.engine.heads import Samples

WIDTH, SIGNAL = 60, 0.25


def drawn(items: int, *, seed: int) -> Samples:
    """Two classes that overlap: of `WIDTH` noisy features each tells a little."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(items) % 2
    noise = torch.randn(items, WIDTH, generator=generator)
    return Samples(noise + SIGNAL * (2 * labels[:, None] - 1), labels)


@pytest.fixture(scope="module")
def path() -> tuple[list[heads.Point], Samples]:
    """A path whose two validation items happen to agree with the weakest regularisation."""
    train = drawn(200, seed=0)
    weakest = heads.fit(train, 2, heads.REGULARIZATIONS[-1])
    pool = drawn(4_000, seed=1)
    sure = weakest.logits(pool.features).softmax(1)[torch.arange(4_000), pool.labels].topk(2).indices
    points = list(heads.regularization_path(train, Samples(pool.features[sure], pool.labels[sure]), 2))
    return points, train


def test_folds_of_the_training_items_outvote_two_lucky_validation_items(
    path: tuple[list[heads.Point], Samples],
) -> None:
    points, train = path
    fresh = drawn(20_000, seed=2)

    by_luck = heads.choose(points)
    by_folds = probes.by_folds(points, train, numbered([""] * 200), 2)

    assert by_folds.regularization < by_luck.regularization / 10
    assert heads.score(by_folds.head, fresh)[0] < heads.score(by_luck.head, fresh)[0] - 0.05


def test_copies_of_an_item_do_not_vouch_for_each_other() -> None:
    once = drawn(40, seed=3)
    train = Samples(
        once.features.repeat(5, 1), torch.randint(2, (40,), generator=torch.Generator().manual_seed(0)).repeat(5)
    )
    points = list(heads.regularization_path(train, drawn(2, seed=4), 2))
    groups = np.tile(np.arange(40), 5)

    grouped = probes.by_folds(points, train, groups, 2)
    alone = probes.by_folds(points, train, np.arange(200), 2)

    assert grouped.regularization < alone.regularization


def test_a_class_with_a_single_group_leaves_the_choice_to_validation(path: tuple[list[heads.Point], Samples]) -> None:
    points, train = path

    assert probes.by_folds(points, train, np.zeros(200, np.int64), 2) is heads.choose(points)
