"""An image of any shape on the network's square input, and its mask with it, pixel for pixel.

The image keeps its aspect: it is scaled to fit, and what is left of the square is filled with the mean (zeros
after normalization) and with IGNORED in the mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from finetuning.engine import augment, preprocessing
from finetuning.engine.hyper import Augmentation, Hyper
from finetuning.engine.packs import Item
from finetuning.engine.palettes import IGNORED, Classes
from finetuning.engine.spec import Preprocessing

# Largest change of scale of each level, down and up alike.
ZOOM = {Augmentation.LIGHT: 1.25, Augmentation.MEDIUM: 1.5, Augmentation.STRONG: 2.0}
_CLASSES_AT_ONCE = 16  # bounds the memory of enlarging the logits of one image
_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Placement:
    """`box` (left, top, right, bottom) of the image lies at `at` (left, top) on the square, `size` (width,
    height) there. All in pixels."""

    box: tuple[float, float, float, float]
    at: tuple[int, int]
    size: tuple[int, int]


def fitted(size: tuple[int, int], side: int) -> Placement:
    """Returns the whole image of (width, height) in the square's top left corner."""
    factor = side / max(size)
    scaled = (max(1, round(size[0] * factor)), max(1, round(size[1] * factor)))
    return Placement((0.0, 0.0, float(size[0]), float(size[1])), (0, 0), scaled)


def drawn(size: tuple[int, int], side: int, zoom: float, draw: torch.Generator) -> Placement:
    """Returns a random part at a random scale, `zoom` at most: a crop where it is larger than the square, a
    random place on it where it is smaller."""
    scale, *places = torch.rand(5, generator=draw).tolist()
    factor = side / max(size) * math.exp((2 * scale - 1) * math.log(zoom))
    box, at, shown = [0.0, 0.0], [0, 0], [0, 0]
    ends = [0.0, 0.0]
    for axis in range(2):
        shown[axis] = max(1, min(side, round(size[axis] * factor)))
        kept = min(float(size[axis]), shown[axis] / factor)
        box[axis] = places[axis] * (size[axis] - kept)
        ends[axis] = min(float(size[axis]), box[axis] + kept)
        at[axis] = int(places[axis + 2] * (side - shown[axis] + 1))
    return Placement((box[0], box[1], ends[0], ends[1]), (at[0], at[1]), (shown[0], shown[1]))


def placed(image: Image.Image, mask: Image.Image | None, where: Placement, spec: Preprocessing) -> Pair:
    """Returns (image (3, S, S) float32, classes (S, S) uint8); without a mask all of them are IGNORED."""
    left, top = where.at
    width, height = where.size
    pixels = torch.zeros(3, spec.size, spec.size)
    view = image.resize(where.size, _RESAMPLING[spec.interpolation], box=where.box)
    pixels[:, top : top + height, left : left + width] = preprocessing.to_tensor(view, spec)
    classes = torch.full((spec.size, spec.size), IGNORED, dtype=torch.uint8)
    if mask is not None:
        small = mask.resize(where.size, Image.Resampling.NEAREST, box=where.box)
        classes[top : top + height, left : left + width] = torch.from_numpy(np.array(small))
    return pixels, classes


def evaluation_view(image: Image.Image, mask: Image.Image | None, spec: Preprocessing) -> Pair:
    return placed(image, mask, fitted(image.size, spec.size), spec)


def training_view(spec: Preprocessing, hyper: Hyper, *, epoch: int) -> Callable[[Item, Image.Image, Image.Image], Pair]:
    """Returns the joint transform of one epoch: a function of (seed, epoch, item) alone."""

    def apply(item: Item, image: Image.Image, mask: Image.Image) -> Pair:
        if hyper.augmentation is Augmentation.NONE:
            return evaluation_view(image, mask, spec)
        draw = augment.generator(hyper.seed, epoch, item.index)
        where = drawn(image.size, spec.size, ZOOM[hyper.augmentation], draw)
        mirrored, light, contrast, color = torch.rand(4, generator=draw).tolist()
        if hyper.augmentation is not Augmentation.LIGHT:
            image = augment.recolored(image, light, contrast, color)
        pixels, classes = placed(image, mask, where, spec)
        if hyper.horizontal_flip and mirrored < 0.5:
            return pixels.flip(-1), classes.flip(-1)
        return pixels, classes

    return apply


@torch.inference_mode()
def classes_on(logits: Tensor, size: tuple[int, int]) -> Classes:
    """Returns the class of each pixel of an image of (width, height) from the logits (C, S, S) of its
    evaluation view, as (H, W) uint8."""
    where = fitted(size, logits.shape[-1])
    shown = logits[None, :, : where.size[1], : where.size[0]].float()
    best = torch.full((size[1], size[0]), -math.inf)
    classes = torch.zeros(size[1], size[0], dtype=torch.uint8)
    for first in range(0, shown.shape[1], _CLASSES_AT_ONCE):
        chunk = shown[:, first : first + _CLASSES_AT_ONCE]
        values, places = functional.interpolate(chunk, (size[1], size[0]), mode="bilinear")[0].max(0)
        wins = values > best
        best[wins] = values[wins]
        classes[wins] = (places[wins] + first).to(torch.uint8)
    return classes.numpy()
