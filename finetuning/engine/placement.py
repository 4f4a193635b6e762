"""How an image lies on a detector's square canvas, for pixels, for boxes, and back again.

Like every random view here a placement is a function of (seed, epoch, item) alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from finetuning.engine import augment, preprocessing
from finetuning.engine.hyper import Augmentation, Hyper
from finetuning.engine.packs import Item
from finetuning.engine.spec import Preprocessing

STRIDE = 32  # of the coarsest feature map: a canvas is a multiple of it
# How much larger or smaller than the canvas the image may become.
LIGHT_ZOOM, STRONG_ZOOM = (0.8, 1.25), (0.5, 1.5)
MIN_VISIBLE = 0.4  # share of a box's area: with less of it in view, what it shows is anyone's guess
MIN_SIDE = 1.0  # pixels of a box on the canvas


@dataclass(frozen=True, slots=True)
class Placement:
    """Pixel (x, y) of the image lies at (left + x * across, top + y * down) of the canvas, `side` pixels
    square; the image is mirrored first where `flip` says so. `width` and `height` are the image's own."""

    side: int
    width: int
    height: int
    across: float
    down: float
    left: int = 0
    top: int = 0
    flip: bool = False

    def boxes(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Returns image boxes (N, 4) as canvas boxes, cut at its edges, and which of them (N,) can still be
        recognised."""
        placed = boxes.clone()
        if self.flip:
            placed[:, [0, 2]] = self.width - boxes[:, [2, 0]]
        placed = placed * self._scale() + self._offset()
        area = (placed[:, 2:] - placed[:, :2]).prod(1)
        cut = placed.clamp(0, self.side)
        sides = cut[:, 2:] - cut[:, :2]
        return cut, (sides.prod(1) >= MIN_VISIBLE * area) & (sides >= MIN_SIDE).all(1)

    def back(self, boxes: Tensor) -> Tensor:
        """Returns canvas boxes (N, 4) as boxes of the image, cut at its edges."""
        found = (boxes - self._offset()) / self._scale()
        limit = torch.tensor([self.width, self.height, self.width, self.height], dtype=found.dtype)
        return torch.minimum(found.clamp(min=0), limit)

    def _scale(self) -> Tensor:
        return torch.tensor([self.across, self.down, self.across, self.down])

    def _offset(self) -> Tensor:
        return torch.tensor([self.left, self.top, self.left, self.top], dtype=torch.float32)


def side_of(size: int) -> int:
    """Returns the canvas for an input size: the next multiple of the coarsest stride."""
    return -(-size // STRIDE) * STRIDE


def fitted(size: tuple[int, int], side: int) -> Placement:
    """The whole image in the upper left corner, its longer side filling the canvas."""
    return _placed(size, side, 1.0)


def drawn(item: Item, side: int, hyper: Hyper, *, epoch: int) -> Placement:
    """The image zoomed and shifted at random; nothing moves without augmentation."""
    if hyper.augmentation is Augmentation.NONE:
        return fitted(item.size, side)
    generator = augment.generator(hyper.seed, epoch, item.index)
    low, high = STRONG_ZOOM if hyper.augmentation is Augmentation.STRONG else LIGHT_ZOOM
    zoom, right, down, mirror = torch.rand(4, generator=generator).tolist()
    placed = _placed(item.size, side, low * (high / low) ** zoom)
    free = (side - round(item.width * placed.across), side - round(item.height * placed.down))
    left, top = (int(share * room) for share, room in zip((right, down), free, strict=True))
    return Placement(
        side=side,
        width=item.width,
        height=item.height,
        across=placed.across,
        down=placed.down,
        left=left,
        top=top,
        flip=hyper.horizontal_flip and mirror < 0.5,
    )


def _placed(size: tuple[int, int], side: int, zoom: float) -> Placement:
    width, height = size
    scale = zoom * side / max(size)
    # Whole pixels: what is said of the boxes must be exactly what was done to the pixels.
    across, down = max(1, round(width * scale)) / width, max(1, round(height * scale)) / height
    return Placement(side=side, width=width, height=height, across=across, down=down)


def painted(image: Image.Image, at: Placement, spec: Preprocessing) -> Tensor:
    """Returns the canvas (3, side, side) float32, normalised; what the image leaves free is the mean colour."""
    return _pasted(preprocessing.to_tensor(_resized(image, at, spec), spec), at)


def evaluation(spec: Preprocessing) -> Callable[[Item, Image.Image], Tensor]:
    return lambda item, image: painted(image, fitted(item.size, side_of(spec.size)), spec)


def training(spec: Preprocessing, hyper: Hyper, *, epoch: int) -> Callable[[Item, Image.Image], Tensor]:
    """Medium and strong change the colours too."""

    def apply(item: Item, image: Image.Image) -> Tensor:
        at = drawn(item, side_of(spec.size), hyper, epoch=epoch)
        view = _resized(image, at, spec)
        if hyper.augmentation in (Augmentation.MEDIUM, Augmentation.STRONG):
            draw = augment.generator(hyper.seed, epoch, -item.index)
            view = augment.recolored(view, *torch.rand(3, generator=draw).tolist())
        return _pasted(preprocessing.to_tensor(view, spec), at)

    return apply


def _resized(image: Image.Image, at: Placement, spec: Preprocessing) -> Image.Image:
    size = [round(at.height * at.down), round(at.width * at.across)]
    view: Image.Image = functional.resize(image, size, preprocessing.interpolation(spec))
    return functional.hflip(view) if at.flip else view


def _pasted(pixels: Tensor, at: Placement) -> Tensor:
    _, height, width = pixels.shape
    canvas = torch.zeros(3, at.side, at.side)
    left, top = max(0, at.left), max(0, at.top)
    right, bottom = min(at.side, at.left + width), min(at.side, at.top + height)
    canvas[:, top:bottom, left:right] = pixels[:, top - at.top : bottom - at.top, left - at.left : right - at.left]
    return canvas
