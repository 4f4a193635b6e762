"""Pictures of colored shapes with their boxes or their masks, and a small classifier that can become the backbone of
what finds them."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from archives_factory import encoded
from PIL import Image, ImageDraw

from finetuning.engine import frameworks
from finetuning.engine.spec import Framework, Task, WeightsSpec

ARCHITECTURE = "test_efficientnet"
SIDE = 64
CONFIG = {
    "architecture": ARCHITECTURE,
    "num_classes": 5,
    "label_names": list("abcde"),
    "pretrained_cfg": {"input_size": [3, SIDE, SIDE], "crop_pct": 1.0},
}
BOXED, MASKED = ("disc", "square"), ("ground", "red", "blue")


def backbone(directory: Path) -> Path:
    """Writes the classifier, its weights drawn from a fixed seed."""
    torch.manual_seed(0)
    frameworks.write_release(directory, frameworks.build(Framework.TIMM, ARCHITECTURE, CONFIG))
    return directory


def weights_at(directory: str, task: Task = Task.IMAGE_CLASSIFICATION) -> WeightsSpec:
    return WeightsSpec(task=task, framework=Framework.TIMM, architecture=ARCHITECTURE, directory=directory)


def boxed(seed: int) -> tuple[Image.Image, list[tuple[int, tuple[int, int, int, int]]]]:
    """One or two large shapes, each class in its color, side by side on a dark ground."""
    rng = random.Random(seed)
    image = Image.new("RGB", (SIDE, SIDE), (rng.randrange(40),) * 3)
    pen, boxes = ImageDraw.Draw(image), []
    for column in rng.sample((0, 1), rng.randint(1, 2)):
        label, size = rng.randrange(2), rng.randrange(18, 30)
        left, top = 32 * column + rng.randrange(32 - size + 1), rng.randrange(SIDE - size)
        box = (left, top, left + size, top + size)
        (pen.rectangle if label else pen.ellipse)(box, fill=(30, 30, 230) if label else (230, 30, 30))
        boxes.append((label, box))
    return image, boxes


def masked(number: int) -> tuple[Image.Image, np.ndarray]:
    """Returns an image of two rectangles, each class with its color, and its classes."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 80, (SIDE, SIDE, 3), dtype=np.uint8)
    classes = np.zeros((SIDE, SIDE), np.uint8)
    for label, color in ((1, (230, 20, 20)), (2, (20, 20, 230))):
        top, left = rng.integers(0, SIDE - 24, 2)
        area = (slice(top, top + rng.integers(14, 24)), slice(left, left + rng.integers(14, 24)))
        image[area], classes[area] = color, label
    return Image.fromarray(image), classes


def yolo_upload(count: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {"classes.txt": "\n".join(BOXED).encode()}
    for number in range(count):
        image, boxes = boxed(number)
        files[f"images/{number}.png"] = encoded(image)
        rows = [
            f"{label} {(a + c) / 2 / SIDE} {(b + d) / 2 / SIDE} {(c - a) / SIDE} {(d - b) / SIDE}"
            for label, (a, b, c, d) in boxes
        ]
        files[f"labels/{number}.txt"] = "\n".join(rows).encode()
    return files


def mask_upload(count: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {"classes.txt": "\n".join(MASKED).encode()}
    for number in range(count):
        image, classes = masked(number)
        files[f"images/{number}.png"] = encoded(image)
        files[f"masks/{number}.png"] = encoded(Image.fromarray(classes))
    return files
