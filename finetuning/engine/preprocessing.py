"""From an RGB picture to the network's input, as the release says."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms
from torchvision.transforms.v2 import functional

from finetuning.engine.spec import Preprocessing


def interpolation(spec: Preprocessing) -> InterpolationMode:
    return InterpolationMode(spec.interpolation)


def to_tensor(image: Image.Image, spec: Preprocessing) -> Tensor:
    """Returns the normalised (3, H, W) float32 tensor of an RGB picture of any size, its channels side by side in
    memory as the picture's are."""
    scaled: Tensor = functional.to_dtype(functional.pil_to_tensor(image), scale=True)
    # torchvision's `normalize`, but on rows of 3 W numbers: three at a time, as the channels lie, take five times as long.
    mean, std = _of_a_row(spec, image.width)
    scaled.permute(1, 2, 0).view(image.height, -1).sub_(mean).div_(std)
    return scaled


@functools.lru_cache
def _of_a_row(spec: Preprocessing, width: int) -> tuple[Tensor, Tensor]:
    """Returns mean and std, each (3 W,), of a row of pixels whose channels lie side by side."""
    return torch.tensor(spec.mean).repeat(width), torch.tensor(spec.std).repeat(width)


def short_side(spec: Preprocessing) -> int:
    """Returns to how many pixels the short side is resized before the center is cut out."""
    return math.floor(spec.size / spec.crop_fraction)


@functools.cache
def transform(spec: Preprocessing) -> Callable[[Image.Image], Tensor]:
    """Returns the evaluation transform: PIL RGB -> (3, size, size) float32; the same as timm's."""
    resize = transforms.Resize(short_side(spec), interpolation(spec))
    crop = transforms.Compose([resize, transforms.CenterCrop(spec.size)])
    return lambda image: to_tensor(crop(image), spec)
