"""Tiny uploads of each task, and what the real engine makes of them: the packs, a run, its evaluation."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mask_scenes
import torch
from archives_factory import encoded, zip_of
from PIL import Image, ImageDraw
from shapes_factory import ARCHITECTURE, shape, write_release
from texts_factory import csv_of, run_verb, sentences, tiny_encoder

from finetuning.engine import evaluate, inspect, spec, train
from finetuning.engine.spec import Augmentation, Framework, Hyper, Strategy, Task, WeightsSpec

SIDE = 64


@dataclass(frozen=True, slots=True)
class Inspected:
    """One upload and what `inspect` makes of it; `directory` holds a run directory for each verb."""

    task: Task
    upload: bytes
    filename: str
    inspection: dict[str, Any]
    directory: Path

    @property
    def leaked(self) -> list[dict[str, Any]]:
        leakage: list[dict[str, Any]] = self.inspection["report"]["leakage"]
        return leakage

    def items(self) -> list[dict[str, Any]]:
        lines = (self.directory / "inspect/outputs/index.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def outputs(self, verb: str) -> dict[str, Path]:
        """Returns the files below `outputs/` of a verb."""
        root = self.directory / verb / spec.OUTPUTS_DIR
        return {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}


@dataclass(frozen=True, slots=True)
class EngineRun(Inspected):
    """The same with a run and its evaluation."""

    training: dict[str, Any]
    evaluation: dict[str, Any]


def image_folders(each: int = 24) -> bytes:
    """Class folders of shapes; two images occur twice, one of them in another split of its own; and some of the
    squares are called discs."""
    files = {
        f"{split}/{label}/{number}.png": encoded(shape(label, 1000 * place + number))
        for place, label in enumerate(("disc", "square", "stripe"))
        for number in range(each)
        for split in [("train", "train", "train", "validation", "test", "test")[number % 6]]
    }
    files |= {f"train/disc/square{number}.png": encoded(shape("square", 5000 + number)) for number in range(3)}
    files["train/disc/copy.png"] = files["train/disc/0.png"]
    files["test/square/leak.png"] = files["train/square/0.png"]
    return zip_of(files)


def boxed_scenes(count: int = 40) -> bytes:
    """YOLO: one or two shapes on each image, a box of no area on the first."""
    files = {"classes.txt": b"disc\nsquare\n"}
    for number in range(count):
        image, rows = boxed_scene(number)
        files[f"images/{number}.png"] = encoded(image)
        files[f"labels/{number}.txt"] = "\n".join(rows).encode()
    return zip_of(files)


def boxed_scene(number: int) -> tuple[Image.Image, list[str]]:
    rng = random.Random(number)
    image = Image.new("RGB", (2 * SIDE, SIDE), (rng.randrange(40),) * 3)
    pen, rows = ImageDraw.Draw(image), []
    for column in rng.sample((0, 1), rng.randint(1, 2)):
        label, size = rng.randrange(2), rng.randrange(22, 50)
        left, top = SIDE * column + rng.randrange(SIDE - size), rng.randrange(SIDE - size)
        draw = pen.rectangle if label else pen.ellipse
        draw((left, top, left + size, top + size), fill=(30, 30, 230) if label else (230, 30, 30))
        middle = ((left + size / 2) / (2 * SIDE), (top + size / 2) / SIDE)
        rows.append(f"{label} {middle[0]} {middle[1]} {size / (2 * SIDE)} {size / SIDE}")
    return image, rows


def masked_scenes(count: int = 30) -> bytes:
    """Image and mask pairs of digits on photographs."""
    files = {"classes.txt": "\n".join(mask_scenes.LABELS).encode()}
    for number in range(count):
        image, classes = mask_scenes.scene(number, SIDE)
        files[f"images/{number}.png"] = encoded(image)
        files[f"masks/{number}.png"] = encoded(Image.fromarray(classes))
    return zip_of(files)


def labelled_texts(each: int = 80) -> bytes:
    """A CSV; the first text occurs twice, once under a label of its own that is wrong."""
    rows = sentences(each)
    return csv_of([*rows, (rows[0][0], "sailing"), (rows[1][0], rows[1][1])])


UPLOADS: dict[Task, tuple[Callable[[], bytes], str]] = {
    Task.IMAGE_CLASSIFICATION: (image_folders, "shapes.zip"),
    Task.OBJECT_DETECTION: (boxed_scenes, "boxes.zip"),
    Task.SEMANTIC_SEGMENTATION: (masked_scenes, "masks.zip"),
    Task.TEXT_CLASSIFICATION: (labelled_texts, "texts.csv"),
}


def inspected(task: Task, upload: bytes, filename: str, directory: Path) -> Inspected:
    """Runs inspect in this process."""
    order = spec.InspectSpec(task=task, salt="a")
    return Inspected(
        task, upload, filename, _verb(inspect, directory / "inspect", order, {"upload": upload}), directory
    )


def made(task: Task, directory: Path, *, epochs: int = 2, content: bytes = b"") -> EngineRun:
    """Runs inspect, train (full) and evaluate in this process, on a tiny network with random weights."""
    build, filename = UPLOADS[task]
    upload = content or build()
    torch.set_num_threads(1)
    is_text = task is Task.TEXT_CLASSIFICATION
    bought = tiny_encoder(directory / "bought") if is_text else write_release(_folder(directory / "bought"))
    found = inspected(task, upload, filename, directory)
    labels = tuple(found.inspection["report"]["labels"])
    packs = directory / "inspect/outputs"
    hyper = Hyper(epochs=epochs, batch_size=8, learning_rate=2e-3, augmentation=Augmentation.NONE)
    training = _verb(
        train,
        directory / "train",
        spec.TrainSpec(
            weights=weights_of(task, "inputs/release"),
            task=task,
            strategy=Strategy.FULL,
            labels=labels,
            hyper=hyper,
            threads=1,
        ),
        {"release": bought, "train.pack": packs / "train.pack"},
    )
    evaluation = _verb(
        evaluate,
        directory / "evaluate",
        spec.EvaluateSpec(
            strategy=Strategy.FULL,
            base=weights_of(task, "inputs/base"),
            tuned=weights_of(task, "inputs/train/release", tuned=True),
            labels=labels,
            leaked=tuple(entry["test"] for entry in found.leaked),
            threads=1,
        ),
        {"base": bought, "train": directory / "train/outputs", "test.pack": packs / "test.pack"},
    )
    return EngineRun(task, upload, filename, found.inspection, directory, training, evaluation["evaluation"])


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def _verb(module: Any, run_dir: Path, order: spec.Spec, inputs: dict[str, Path | bytes]) -> dict[str, Any]:
    folder = _folder(run_dir / "inputs")
    for name, content in inputs.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            (folder / name).symlink_to(content)
    return run_verb(module, order, run_dir)


def weights_of(task: Task, directory: str, *, tuned: bool = False) -> WeightsSpec:
    if task is Task.TEXT_CLASSIFICATION:
        return WeightsSpec(task=task, framework=Framework.TRANSFORMERS, architecture="BertModel", directory=directory)
    bought = task if tuned else Task.IMAGE_CLASSIFICATION
    return WeightsSpec(task=bought, framework=Framework.TIMM, architecture=ARCHITECTURE, directory=directory)
