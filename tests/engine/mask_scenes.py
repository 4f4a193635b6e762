"""Scenes of real handwritten digits on real photographs, with the class of every pixel: scikit-learn's digits on
crops of its two sample photographs. Deterministic: a scene is a function of its number alone."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

SIDE = 192
BACKGROUND = "background"
LABELS = (BACKGROUND, *map(str, range(10)))
_DIGITS = (2, 5)  # of a scene
_SIZES = (40, 80)  # pixels, before the scene's own scale
_INK = 0.45  # of full ink: the digit's edge after enlarging
_CLOSEST = 60  # of 255: the least difference of ink and ground, so that people see every digit
_TRIES = 20

Bytes = npt.NDArray[np.uint8]


@cache
def _sources() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], tuple[Image.Image, ...]]:
    digits = load_digits()
    photographs = tuple(Image.fromarray(picture) for picture in load_sample_images().images)
    return digits.images / 16.0, digits.target, photographs


def scene(number: int, side: int = SIDE) -> tuple[Image.Image, Bytes]:
    """Returns the image (RGB) and its classes (side, side): 0 the background, 1 + d the digit d."""
    rng = np.random.default_rng((20_240, number))
    images, targets, photographs = _sources()
    ground = _ground(photographs[int(rng.integers(len(photographs)))], side, rng)
    classes = np.zeros((side, side), np.uint8)
    for _ in range(int(rng.integers(_DIGITS[0], _DIGITS[1] + 1))):
        chosen = int(rng.integers(len(images)))
        size = int(rng.integers(_SIZES[0], _SIZES[1] + 1) * side / SIDE)
        for _ in range(_TRIES):
            top, left = (int(value) for value in rng.integers(0, side - size, 2))
            area = (slice(top, top + size), slice(left, left + size))
            if not classes[area].any():
                _paint(ground[area], classes[area], images[chosen], int(targets[chosen]), rng)
                break
    return Image.fromarray(ground), classes


def _ground(photograph: Image.Image, side: int, rng: np.random.Generator) -> Bytes:
    size = int(rng.integers(side, min(photograph.size) + 1))
    left, top = (int(rng.integers(0, full - size + 1)) for full in photograph.size)
    crop = photograph.crop((left, top, left + size, top + size)).resize((side, side), Image.Resampling.BILINEAR)
    return np.array(crop)


def _paint(ground: Bytes, classes: Bytes, digit: npt.NDArray[np.float64], label: int, rng: np.random.Generator) -> None:
    """Draws the digit over both views in place, in a color that stands out from the ground."""
    grey = Image.fromarray((digit * 255).astype(np.uint8))
    large = np.asarray(grey.resize(classes.shape[::-1], Image.Resampling.BICUBIC)) / 255.0
    ink = large > _INK
    if not ink.any():
        return
    mean = ground[ink].mean(0)
    color = rng.integers(0, 256, 3)
    for _ in range(_TRIES):
        if abs(color - mean).mean() >= _CLOSEST:
            break
        color = rng.integers(0, 256, 3)
    ground[ink] = color
    classes[ink] = 1 + label
