"""The verb `examples`: a data set to try each task with, built from what the installed packages ship."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from finetuning.engine import example_texts, scenes
from finetuning.engine.events import EventWriter
from finetuning.engine.spec import OUTPUTS_DIR, ExamplesSpec, Task

_DIGIT_SIDE = 64  # pixels; the 8 x 8 originals would be enlarged by every network anyway
_JPEG_QUALITY = 90
_DIGITS_CREDIT = (
    "Digits: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,\n"
    "CC BY 4.0, as scikit-learn ships them; enlarged."
)
_PHOTOGRAPHS_CREDIT = (
    "Photographs: danielbuechele and vultilion on Flickr, CC BY 2.0, as scikit-learn ships them; cut and painted on."
)
_DJANGO_CREDIT = "Django's translators (BSD-3-Clause)"
_SNIPPETS_CREDIT = "vaderSentiment 3.3.1 by C. J. Hutto (MIT), film-review snippets with human ratings"
Members = Iterator[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Example:
    """`items` counts images or texts. `credit` says where they come from, and under which license."""

    name: str
    file: str
    task: Task
    title: str
    items: int
    classes: int
    credit: str


def run(spec: ExamplesSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Writes `outputs/FILE` for each example whose sources are there; returns `{examples, missing}`. The same
    packages give the same bytes."""
    outputs = run_dir / OUTPUTS_DIR
    made: list[Example] = []
    missing: list[dict[str, str]] = []
    sources: list[tuple[str, str, Callable[[], list[Example]]]] = [
        ("digits", "", lambda: [_digits(outputs)]),
        ("digit-scenes", "", lambda: _scenes(outputs, spec.scenes)),
        ("languages", spec.catalogs, lambda: _languages(outputs, run_dir / spec.catalogs, spec.mixes)),
        ("film-snippets", spec.snippets, lambda: [_snippets(outputs, run_dir / spec.snippets, spec.texts)]),
    ]
    for name, needed, build in sources:
        if needed and not (run_dir / needed).exists():
            missing.append({"name": name, "needs": needed})
            continue
        events.stage(name, f"Building {name}")
        made += build()
    return {
        "examples": [{**{key: getattr(one, key) for key in one.__slots__}, "task": one.task.value} for one in made],
        "missing": missing,
    }


def _digits(outputs: Path) -> Example:
    digits = load_digits()

    def members() -> Members:
        yield "README.txt", _DIGITS_CREDIT.encode()
        for number, (strokes, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            grey = Image.fromarray((strokes * (255 / 16)).round().astype(np.uint8))
            large = grey.resize((_DIGIT_SIDE, _DIGIT_SIDE), Image.Resampling.BICUBIC)
            yield f"{label}/{number:04d}.png", _encoded(large, "PNG")

    _write(outputs / "digits.zip", members())
    return Example(
        "digits",
        "digits.zip",
        Task.IMAGE_CLASSIFICATION,
        "Handwritten digits",
        len(digits.target),
        len(digits.target_names),
        _DIGITS_CREDIT,
    )


def _scenes(outputs: Path, count: int) -> list[Example]:
    """Writes the same pictures twice: with a COCO file for each split, and with a mask for each picture."""
    credit = f"{_DIGITS_CREDIT}\n{_PHOTOGRAPHS_CREDIT}"
    boxes: list[tuple[str, bytes]] = [("README.txt", credit.encode())]
    masks = [("README.txt", credit.encode()), ("classes.txt", "\n".join(("background", *scenes.LABELS)).encode())]
    total = 0
    for split, made in scenes.by_split(count):
        total += len(made)
        names = [f"{split}/{number:05d}.jpg" for number in range(len(made))]
        pictures = [_encoded(scene.image, "JPEG", quality=_JPEG_QUALITY) for scene in made]
        boxes += [(f"images/{name}", picture) for name, picture in zip(names, pictures, strict=True)]
        boxes.append((f"annotations/instances_{split}.json", scenes.coco(made, names)))
        for name, picture, scene in zip(names, pictures, made, strict=True):
            mask = _encoded(Image.fromarray(scene.classes), "PNG")
            masks += [(f"images/{name}", picture), (f"masks/{name.removesuffix('.jpg')}.png", mask)]
    _write(outputs / "digit-boxes.zip", boxes)
    _write(outputs / "digit-masks.zip", masks)
    classes = len(scenes.LABELS)
    title = "Digits on photographs"
    return [
        Example(
            "digit-boxes", "digit-boxes.zip", Task.OBJECT_DETECTION, f"{title}, with boxes", total, classes, credit
        ),
        Example(
            "digit-masks",
            "digit-masks.zip",
            Task.SEMANTIC_SEGMENTATION,
            f"{title}, with masks",
            total,
            classes + 1,
            credit,
        ),
    ]


def _languages(outputs: Path, catalogs: Path, mixes: int) -> list[Example]:
    """Writes what one language says, and texts in which several languages are mixed."""
    rows = example_texts.languages(catalogs)
    mixed = example_texts.language_mixes(rows, mixes)
    (outputs / "languages.csv").write_bytes(example_texts.table(("text", "label", "group"), rows))
    (outputs / "language-mixes.csv").write_bytes(example_texts.table(("text", "labels", "split"), mixed))
    classes = len({language for _, language, _ in rows})
    return [
        Example(name, f"{name}.csv", Task.TEXT_CLASSIFICATION, title, len(texts), classes, _DJANGO_CREDIT)
        for name, title, texts in (
            ("languages", "Which language is it?", rows),
            ("language-mixes", "Which languages are mixed here?", mixed),
        )
    ]


def _snippets(outputs: Path, distribution: Path, count: int) -> Example:
    rows = example_texts.chosen(example_texts.film_snippets(distribution), count)
    (outputs / "film-snippets.csv").write_bytes(example_texts.table(("text", "label"), rows))
    return Example(
        "film-snippets",
        "film-snippets.csv",
        Task.TEXT_CLASSIFICATION,
        "Film reviews, good or bad",
        len(rows),
        len({label for _, label in rows}),
        _SNIPPETS_CREDIT,
    )


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _write(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Writes a zip without times of day: the same members give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
