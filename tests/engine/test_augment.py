"""Views of a training image: a function of the seed, the epoch and the item, mirrored only where that is harmless."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from finetuning.engine import augment
from finetuning.engine.hyper import Augmentation
from finetuning.engine.packs import Item
from finetuning.engine.spec import Preprocessing, Split

SPEC = Preprocessing(size=32)
LEVELS = (Augmentation.LIGHT, Augmentation.MEDIUM, Augmentation.STRONG)


def item(index: int) -> Item:
    return Item(
        index=index, file="", name="", split=Split.TRAIN, width=64, height=64, sha256="", pixel_sha256="", phash=""
    )


def half_bright() -> Image.Image:
    """Dark on the left, bright on the right."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, 32:] = 220
    return Image.fromarray(pixels)


def view(
    index: int, *, seed: int = 0, epoch: int = 1, level: Augmentation = Augmentation.LIGHT, flip: bool = False
) -> torch.Tensor:
    return augment.transform(SPEC, level, seed=seed, epoch=epoch, flip=flip)(item(index), half_bright())


@pytest.mark.parametrize("level", LEVELS)
def test_a_view_depends_on_seed_epoch_and_item_and_on_nothing_else(level: Augmentation) -> None:
    first = view(3, level=level)
    torch.manual_seed(99)  # what else is drawn meanwhile does not matter
    view(4, level=level)

    assert torch.equal(view(3, level=level), first)
    assert not torch.equal(view(4, level=level), first)
    assert not torch.equal(view(3, level=level, epoch=2), first)
    assert not torch.equal(view(3, level=level, seed=1), first)


@pytest.mark.parametrize("level", LEVELS)
def test_images_are_mirrored_half_of_the_time_where_that_is_harmless_and_else_never(level: Augmentation) -> None:
    def mirrored(flip: bool) -> int:
        views = [view(index, level=level, flip=flip) for index in range(1, 101)]
        return sum(bool(one[..., :8].mean() > one[..., -8:].mean()) for one in views)

    assert mirrored(flip=False) == 0
    assert 30 < mirrored(flip=True) < 70


def test_only_medium_and_strong_change_the_colours() -> None:
    def brightest(level: Augmentation) -> set[float]:
        return {round(float(view(index, level=level).max()), 3) for index in range(1, 21)}

    assert len(brightest(Augmentation.LIGHT)) == 1
    assert len(brightest(Augmentation.MEDIUM)) > 10
