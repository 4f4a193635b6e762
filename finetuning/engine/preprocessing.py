"""From an RGB picture to the network's input, as the release says."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as transforms
from torchvision.transforms.v2 import functional

from finetuning.engine.spec import Preprocessing


def interpolation(spec: Preprocessing) -> InterpolationMode:
    return InterpolationMode(spec.interpolation)


def to_tensor(image: Image.Image, spec: Preprocessing) -> Tensor:
    """Returns the normalised (3, H, W) float32 tensor of a picture of any size."""
    scaled = functional.to_dtype(functional.pil_to_tensor(image), scale=True)
    normalized: Tensor = functional.normalize(scaled, list(spec.mean), list(spec.std), inplace=True)
    return normalized


def short_side(spec: Preprocessing) -> int:
    """Returns to how many pixels the short side is resized before the center is cut out."""
    return math.floor(spec.size / spec.crop_fraction)


@functools.cache
def transform(spec: Preprocessing) -> Callable[[Image.Image], Tensor]:
    """Returns the evaluation transform: PIL RGB -> (3, size, size) float32; the same as timm's."""
    resize = transforms.Resize(short_side(spec), interpolation(spec))
    crop = transforms.Compose([resize, transforms.CenterCrop(spec.size)])
    return lambda image: to_tensor(crop(image), spec)
