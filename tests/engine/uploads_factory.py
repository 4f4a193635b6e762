"""Small uploads for each task whose classes can be learned."""

from __future__ import annotations

import random

import mask_scenes
from archives_factory import encoded, zip_of
from PIL import Image, ImageDraw

SIDE = 64


def boxed(number: int) -> tuple[Image.Image, str]:
    """A red disc or a blue square on a dark ground, and its line of YOLO."""
    rng = random.Random(number)
    image = Image.new("RGB", (SIDE, SIDE), (rng.randrange(40),) * 3)
    label, size = number % 2, rng.randrange(24, 40)
    left, top = rng.randrange(SIDE - size), rng.randrange(SIDE - size)
    pen = ImageDraw.Draw(image)
    draw = pen.rectangle if label else pen.ellipse
    draw((left, top, left + size, top + size), fill=(30, 30, 230) if label else (230, 30, 30))
    return image, f"{label} {(left + size / 2) / SIDE} {(top + size / 2) / SIDE} {size / SIDE} {size / SIDE}"


def boxes() -> bytes:
    """A zip of 40 images with YOLO files."""
    files = {"classes.txt": b"disc\nsquare\n"}
    for number in range(40):
        image, line = boxed(number)
        files |= {f"images/{number}.png": encoded(image), f"labels/{number}.txt": line.encode()}
    return zip_of(files)


def masks() -> bytes:
    """A zip of 30 images with mask files."""
    files = {"classes.txt": "\n".join(mask_scenes.LABELS).encode()}
    for number in range(30):
        image, classes = mask_scenes.scene(number, SIDE)
        files |= {f"images/{number}.png": encoded(image), f"masks/{number}.png": encoded(Image.fromarray(classes))}
    return zip_of(files)
