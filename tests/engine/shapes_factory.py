"""Packs of shapes that can be learned, and a small release with random weights, without an upload or a process."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import torch
from archives_factory import encoded
from PIL import Image, ImageDraw

from finetuning.engine import frameworks
from finetuning.engine.frameworks.timm_models import build
from finetuning.engine.packs import Item, PackReader, PackWriter
from finetuning.engine.spec import Framework, Split, Task, WeightsSpec

ARCHITECTURE = "test_efficientnet"
LABELS = ("disc", "square", "stripe")
SIDE = 64
# Width and height: smaller and larger than the input, upright, square and odd.
SIZES = ((64, 64), (97, 63), (40, 121), (33, 33), (200, 151), (64, 65))


def shape(label: str, seed: int) -> Image.Image:
    """A shape of random place, size and shade on a dark ground."""
    draw_from = random.Random(seed)
    image = Image.new("RGB", (SIDE, SIDE), tuple(draw_from.randrange(60) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    size = draw_from.randrange(18, 34)
    shade = tuple(draw_from.randrange(120, 256) if name == label else draw_from.randrange(120) for name in LABELS)
    x, y = draw_from.randrange(SIDE - size), draw_from.randrange(SIDE - size)
    if label == "disc":
        pen.ellipse((x, y, x + size, y + size), fill=shade)
    elif label == "square":
        pen.rectangle((x, y, x + size, y + size), fill=shade)
    else:
        pen.rectangle((0, y, SIDE, y + 6), fill=shade)
    return image


def write_pack(
    path: Path,
    counts: dict[Split, int],
    *,
    copies: int = 1,
    flipped: tuple[int, ...] = (),
    draw: Callable[[str, int], Image.Image] = shape,
) -> list[Item]:
    """Writes `counts` images of each class and split as `draw` makes them of a label and a seed, each of them `copies`
    times in one group; the items whose numbers are in `flipped` get the next class's label."""
    items, contents = [], []
    for split, count in counts.items():
        for seed in range(count * len(LABELS)):
            label = seed % len(LABELS)
            content = encoded(draw(LABELS[label], 10_000 * list(Split).index(split) + seed))
            digest = hashlib.sha256(content).hexdigest()
            for _ in range(copies):
                index = len(items) + 1
                items.append(
                    Item(
                        index=index,
                        file=f"{index:06d}.png",
                        name=f"{index}.png",
                        label=(label + (index in flipped)) % len(LABELS),
                        split=split,
                        width=SIDE,
                        height=SIDE,
                        sha256=digest,
                        pixel_sha256=digest,
                        phash="0" * 16,
                        group=digest,
                    )
                )
                contents.append(content)
    with PackWriter(path, items) as pack:
        for item, content in zip(items, contents, strict=True):
            pack.add(item, content)
    return items


def pack_of(path: Path, images: list[Image.Image]) -> PackReader:
    """Writes a pack of test items without labels."""
    items = [
        Item(
            index=index,
            file=f"{index:06d}.png",
            name=f"{index}.png",
            label=0,
            split=Split.TEST,
            width=image.width,
            height=image.height,
            sha256="",
            pixel_sha256="",
            phash="",
        )
        for index, image in enumerate(images, 1)
    ]
    with PackWriter(path, items) as writer:
        for item, image in zip(items, images, strict=True):
            writer.add(item, encoded(image))
    return PackReader(path)


def scenes(count: int = 36) -> list[Image.Image]:
    """Returns shapes in `SIZES`, in turns."""
    return [
        shape(LABELS[seed % len(LABELS)], seed).resize(SIZES[seed % len(SIZES)], Image.Resampling.BICUBIC)
        for seed in range(count)
    ]


def write_release(directory: Path, *, seed: int = 0, crop: float = 1.0) -> Path:
    """Writes a release of five classes whose weights are random: what it knows comes from the fine-tune."""
    torch.manual_seed(seed)
    config = {
        "architecture": ARCHITECTURE,
        "num_classes": 5,
        "label_names": list("abcde"),
        "pretrained_cfg": {"input_size": [3, SIDE, SIDE], "crop_pct": crop},
    }
    frameworks.write_release(directory, build(ARCHITECTURE, config))
    return directory


def weights_at(directory: str) -> WeightsSpec:
    return WeightsSpec(
        task=Task.IMAGE_CLASSIFICATION, framework=Framework.TIMM, architecture=ARCHITECTURE, directory=directory
    )
