"""Digit scenes: handwritten digits of scikit-learn on photographs that it ships, with exact boxes and masks.

Deterministic by seed. Each scene's digits come from one part of the 1,797, so that no digit of a test scene
was ever seen in training.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from finetuning.engine.palettes import Classes

LABELS = tuple("0123456789")
SIDE = 192
# Which split is made of which digits, and how large a share of the scenes it has.
PARTS = {"train": (0.7, slice(0, 1200)), "val": (0.15, slice(1200, 1450)), "test": (0.15, slice(1450, 1797))}
SIZES = (24, 57)  # pixels of a digit's square, before its empty margin is cut off
_MOST = 5  # digits in a scene
_INK = 0.35  # of the full stroke: what counts as the digit
_TRIES = 20
_MID_GREY = 128


@dataclass(frozen=True, slots=True)
class Scene:
    """`image` RGB; `boxes` (label, left, top, right, bottom) in pixels; `classes` (H, W): 0 the background,
    1 + d the digit d."""

    image: Image.Image
    boxes: tuple[tuple[int, int, int, int, int], ...]
    classes: Classes


def scenes(
    count: int, *, seed: int = 0, side: int = SIDE, part: slice = slice(None), sizes: tuple[int, int] = SIZES
) -> Iterator[Scene]:
    """Yields `count` scenes of 1 to 5 digits, drawn from the `part` of the digits; `sizes` bound their squares, in
    pixels of a scene with sides of `SIDE`."""
    digits, rng = load_digits(), np.random.default_rng(seed)
    order = np.random.default_rng(0).permutation(len(digits.target))[part]
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for _ in range(count):
        yield _scene(digits.images[order], digits.target[order], photographs, side, sizes, rng)


def by_split(count: int, *, side: int = SIDE, sizes: tuple[int, int] = SIZES) -> Iterator[tuple[str, list[Scene]]]:
    """Yields each split's name and its scenes, `count` in all: no digit is in two splits."""
    for seed, (split, (share, part)) in enumerate(PARTS.items()):
        yield split, list(scenes(round(share * count), seed=seed, side=side, part=part, sizes=sizes))


def _scene(
    strokes: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int64],
    photographs: list[Image.Image],
    side: int,
    sizes: tuple[int, int],
    rng: np.random.Generator,
) -> Scene:
    canvas = np.asarray(_ground(photographs[rng.integers(len(photographs))], side, rng), dtype=np.float32).copy()
    classes = np.zeros((side, side), np.uint8)
    boxes: list[tuple[int, int, int, int, int]] = []
    for _ in range(int(rng.integers(1, _MOST + 1))):
        at = int(rng.integers(len(labels)))
        alpha = _glyph(strokes[at], round(int(rng.integers(*sizes)) * side / SIDE))
        height, width = alpha.shape
        for _ in range(_TRIES):
            left, top = int(rng.integers(side - width)), int(rng.integers(side - height))
            box = (int(labels[at]), left, top, left + width, top + height)
            if not any(_touch(box, other) for other in boxes):
                break
        else:
            continue
        area = (slice(top, top + height), slice(left, left + width))
        shade = 255.0 if canvas[area].mean() < _MID_GREY else 0.0
        color = np.abs(shade - rng.uniform(0, 60, 3)).astype(np.float32)
        canvas[area] = canvas[area] * (1 - alpha[..., None]) + color * alpha[..., None]
        classes[area][alpha > _INK] = 1 + labels[at]
        boxes.append(box)
    return Scene(Image.fromarray(canvas.round().astype(np.uint8)), tuple(boxes), classes)


def _ground(photograph: Image.Image, side: int, rng: np.random.Generator) -> Image.Image:
    size = int(rng.integers(side, min(photograph.size)))
    left, top = (int(rng.integers(limit - size + 1)) for limit in photograph.size)
    return photograph.crop((left, top, left + size, top + size)).resize((side, side), Image.Resampling.BILINEAR)


def _glyph(strokes: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float32]:
    """Returns the digit's opacity (H, W), cut to where there is ink."""
    grey = Image.fromarray((strokes * (255 / 16)).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    alpha: npt.NDArray[np.float32] = np.asarray(grey, dtype=np.float32) / np.float32(255)
    rows, columns = np.flatnonzero((alpha > _INK).any(1)), np.flatnonzero((alpha > _INK).any(0))
    return alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _touch(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    _, left, top, right, bottom = one
    return left < other[3] and other[1] < right and top < other[4] and other[2] < bottom


def coco(made: Sequence[Scene], names: Sequence[str]) -> bytes:
    """Returns the scenes' COCO file; the images are called `names`."""
    annotations = [
        {
            "image_id": at,
            "category_id": label + 1,
            "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top),
            "iscrowd": 0,
        }
        for at, scene in enumerate(made)
        for label, left, top, right, bottom in scene.boxes
    ]
    return json.dumps(
        {
            "images": [
                {"id": at, "file_name": name, "width": scene.image.width, "height": scene.image.height}
                for at, (name, scene) in enumerate(zip(names, made, strict=True))
            ],
            "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations)],
            "categories": [{"id": at + 1, "name": label} for at, label in enumerate(LABELS)],
        }
    ).encode()
