"""Random views of a training image. The randomness is stateless: a view depends on the seed, the epoch and
the item alone, so neither the number of threads nor a resumed run can change it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from finetuning.engine import preprocessing
from finetuning.engine.hyper import Augmentation
from finetuning.engine.packs import Item
from finetuning.engine.spec import Preprocessing

LIGHT_AREA = (0.6, 1.0)  # share of the image that a crop keeps
LIGHT_RATIO = (3 / 4, 4 / 3)
COLOR_FACTOR = (0.7, 1.3)
LARGEST_ANGLE = 15.0  # degrees


def generator(seed: int, epoch: int, index: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{epoch}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def transform(
    spec: Preprocessing, level: Augmentation, *, seed: int, epoch: int, flip: bool
) -> Callable[[Item, Image.Image], Tensor]:
    """Returns the transform of one epoch. Light: a random crop of 60 to 100% of the area, mirrored where that
    is allowed. Medium and strong: its brightness, contrast, colour and angle change too."""

    def apply(item: Item, image: Image.Image) -> Tensor:
        draw = generator(seed, epoch, item.index)
        top, left, height, width = _crop(image, draw)
        view = functional.resized_crop(
            image, top, left, height, width, [spec.size, spec.size], preprocessing.interpolation(spec)
        )
        if flip and torch.rand(1, generator=draw).item() < 0.5:
            view = functional.hflip(view)
        if level in (Augmentation.MEDIUM, Augmentation.STRONG):
            view = _changed(view, draw)
        return preprocessing.to_tensor(view, spec)

    return apply


def _changed(view: Image.Image, draw: torch.Generator) -> Image.Image:
    light, contrast, color, angle = torch.rand(4, generator=draw).tolist()
    view = recolored(view, light, contrast, color)
    turned: Image.Image = functional.rotate(view, (2 * angle - 1) * LARGEST_ANGLE, InterpolationMode.BILINEAR)
    return turned


def recolored(view: Image.Image, light: float, contrast: float, color: float) -> Image.Image:
    """Returns the view with its brightness, contrast and saturation changed; the draws are in [0, 1)."""
    low, high = COLOR_FACTOR
    view = functional.adjust_brightness(view, low + light * (high - low))
    view = functional.adjust_contrast(view, low + contrast * (high - low))
    changed: Image.Image = functional.adjust_saturation(view, low + color * (high - low))
    return changed


def _crop(image: Image.Image, draw: torch.Generator) -> tuple[int, int, int, int]:
    area, ratio, down, right = torch.rand(4, generator=draw).tolist()
    kept = (LIGHT_AREA[0] + area * (LIGHT_AREA[1] - LIGHT_AREA[0])) * image.width * image.height
    low, high = math.log(LIGHT_RATIO[0]), math.log(LIGHT_RATIO[1])
    aspect = math.exp(low + ratio * (high - low))
    width = min(image.width, max(1, round(math.sqrt(kept * aspect))))
    height = min(image.height, max(1, round(math.sqrt(kept / aspect))))
    return int(down * (image.height - height + 1)), int(right * (image.width - width + 1)), height, width
