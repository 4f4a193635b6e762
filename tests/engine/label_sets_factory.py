"""Packs and uploads of images that show any number of shapes, which can be learned."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from archives_factory import encoded
from PIL import Image, ImageDraw
from shapes_factory import LABELS, SIDE

from finetuning.engine.packs import Item, PackWriter
from finetuning.engine.spec import Split

COLORS = {"disc": (230, 30, 30), "square": (30, 30, 230), "stripe": (30, 200, 30)}


def scene(seed: int) -> tuple[Image.Image, tuple[str, ...]]:
    """Returns a dark picture of none to all of the three shapes, each in its color, and which."""
    draw_from = random.Random(seed)
    image = Image.new("RGB", (SIDE, SIDE), (draw_from.randrange(40),) * 3)
    pen, shown = ImageDraw.Draw(image), tuple(label for label in LABELS if draw_from.random() < 0.45)
    for label in shown:
        size = draw_from.randrange(16, 26)
        left, top = draw_from.randrange(SIDE - size), draw_from.randrange(SIDE - size)
        box = (left, top, left + size, top + size)
        if label == "disc":
            pen.ellipse(box, fill=COLORS[label])
        else:
            pen.rectangle(box if label == "square" else (0, top, SIDE, top + 8), fill=COLORS[label])
    return image, shown


def upload(count: int = 60, *, separator: str = ";") -> dict[str, bytes]:
    """Returns the files of a zip with a CSV of labels."""
    lines, files = ["file,labels"], {}
    for number in range(count):
        image, shown = scene(number)
        files[f"images/{number:03d}.png"] = encoded(image)
        lines.append(f"{number:03d}.png,{separator.join(shown)}")
    return {**files, "labels.csv": "\n".join(lines).encode()}


def write_pack(path: Path, counts: dict[Split, int]) -> list[Item]:
    items, contents = [], []
    for split, count in counts.items():
        for number in range(count):
            image, shown = scene(10_000 * list(Split).index(split) + number)
            content = encoded(image)
            digest = hashlib.sha256(content).hexdigest()
            index = len(items) + 1
            items.append(
                Item(
                    index=index,
                    file=f"{index:06d}.png",
                    name=f"{index}.png",
                    label=-1,
                    labels=tuple(LABELS.index(label) for label in shown),
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
