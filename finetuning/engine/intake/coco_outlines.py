"""Uploads of images with COCO annotations: outlines in JSON."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from finetuning.engine.archives import DOCUMENTS, Archive
from finetuning.engine.datasets import Names, Sample, is_label
from finetuning.engine.intake.annotations import read_json
from finetuning.engine.intake.class_lists import ClassList
from finetuning.engine.intake.mask_pairs import Layout
from finetuning.engine.intake.masks import Drawing, Polygon
from finetuning.engine.palettes import IGNORED
from finetuning.engine.problems import Problem, Rejected, reject
from finetuning.engine.spec import ArchiveLimits, Split
from finetuning.engine.tables import SPLIT_OF_WORD
from finetuning.engine.zip_directory import Entry

BACKGROUND = "background"
_MAX_ENTRIES = 1_000_000  # annotations of one file: COCO's own training set has 860,000
_MAX_POINTS = 20_000  # numbers of one outline
_SLACK = 1.0  # pixels that an outline may lie outside, as tools round
_WORDS = re.compile(r"[a-z]+")
_MESSAGES = {
    "missing_image": "annotated images are not in the zip. Add the images or remove their entries",
    "bad_class": "annotations name a category that the file does not define. Add it to categories, or mend the annotations",
    "bad_polygon": "annotations are no outline. Give each lists of at least three points of finite numbers",
    "polygon_outside": "outlines lie outside of their image. Cut them at its edges, or annotate the images as uploaded",
    "rle_unsupported": "annotations are run-length encoded. Export them as polygons, or as mask files",
    "unlabelled": "images are in no annotation file. List them, with no annotations where all is background",
    "duplicate_image": "images are listed twice. Keep one entry for each",
}


@dataclass(slots=True)
class _Found:
    samples: dict[str, Sample] = field(default_factory=dict)
    drawings: dict[str, Drawing] = field(default_factory=dict)
    categories: dict[str, int] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def fault(self, code: str, item: str) -> None:
        self.faults.setdefault(code, []).append(item)


def documents_in(archive: Archive) -> list[tuple[Entry, dict[str, Any]]]:
    """Returns the archive's COCO files, parsed. Raises Rejected (`bad_json`)."""
    read = [(entry, read_json(archive, entry)) for entry in archive.contents.documents if entry.suffix == ".json"]
    return [
        (entry, document)
        for entry, document in read
        if isinstance(document, dict) and {"images", "annotations", "categories"} <= set(document)
    ]


def arrange(archive: Archive, documents: list[tuple[Entry, dict[str, Any]]], limits: ArchiveLimits) -> Layout:
    """Returns the images with the outlines of their annotations. Raises Rejected."""
    found = _Found()
    images = archive.contents.images
    names = Names(images, 0)
    _number(documents, found, limits)
    for entry, document in documents:
        _read(entry, document, names, found)
    for image in images:
        if image.name not in found.samples:
            found.fault("unlabelled", image.name)
    if found.faults:
        raise Rejected(*_problems(found.faults))
    samples = sorted(found.samples.values(), key=lambda sample: sample.entry.parts)
    splits = {sample.split for sample in samples}
    if None in splits or len(splits) == 1:
        samples = [Sample(sample.entry, "", None) for sample in samples]
    skipped = Counter(archive.contents.skipped)
    skipped[DOCUMENTS] -= len(documents)
    return Layout(
        samples=tuple(samples),
        sources=dict(found.drawings),
        classes=ClassList({number: name for name, number in found.categories.items()}),
        skipped={kind: count for kind, count in sorted(skipped.items()) if count},
        unannotated=sum(not drawing.polygons for drawing in found.drawings.values()),
    )


def _number(documents: list[tuple[Entry, dict[str, Any]]], found: _Found, limits: ArchiveLimits) -> None:
    """Gives every category a class, by its id in the files, after the background. Raises Rejected."""
    given: dict[int, str] = {}
    for entry, document in documents:
        for category in _list(document, "categories", entry):
            number, name = category.get("id"), category.get("name")
            if type(number) is not int or not isinstance(name, str) or not is_label(name):
                raise reject("bad_classes", "Every category needs a whole id and a printable name.", [entry.name])
            if len(name) > limits.max_label_characters or given.setdefault(number, name) != name:
                raise reject("bad_classes", "A category's name is too long, or its id has two names.", [name])
    found.categories[BACKGROUND] = 0
    for _, name in sorted(given.items()):
        found.categories.setdefault(name, len(found.categories))
    if len(found.categories) > IGNORED:
        raise reject("bad_classes", f"There are more than {IGNORED - 1} categories.")


def _list(document: dict[str, Any], key: str, entry: Entry) -> list[dict[str, Any]]:
    rows = document[key]
    if not isinstance(rows, list) or len(rows) > _MAX_ENTRIES or not all(isinstance(row, dict) for row in rows):
        advice = f"{key} must be a list of at most {_MAX_ENTRIES:,} objects. Export the annotations as COCO again."
        raise reject("bad_json", advice, [entry.name])
    return rows


def _read(entry: Entry, document: dict[str, Any], names: Names, found: _Found) -> None:
    split = _split_of(entry)
    class_of = {row["id"]: found.categories[row["name"]] for row in document["categories"]}
    polygons: dict[Any, list[Polygon]] = {}
    listed: dict[Any, tuple[Entry, tuple[int, int]]] = {}
    folder = "/".join(entry.parts[:-1])
    for row in _list(document, "images", entry):
        file, size = row.get("file_name"), (row.get("width"), row.get("height"))
        image = names.find(f"{folder}/{file}") or names.find(file) if isinstance(file, str) else None
        if image is None or not all(type(side) is int and 0 < side < 2**16 for side in size):
            found.fault("missing_image", f"{entry.name}: {file}")
        elif image.name in found.samples or _key(row.get("id")) in listed:
            found.fault("duplicate_image", f"{entry.name}: {file}")
        else:
            listed[_key(row.get("id"))] = image, (int(row["width"]), int(row["height"]))
            found.samples[image.name] = Sample(image, "", split)
    for row in _list(document, "annotations", entry):
        place = f"{entry.name}: annotation {row.get('id')}"
        if _key(row.get("image_id")) not in listed:
            found.fault("missing_image", f"{place} of image {row.get('image_id')}")
        elif _key(row.get("category_id")) not in class_of:
            found.fault("bad_class", f"{place}: category {row.get('category_id')}")
        else:
            key = _key(row["image_id"])
            outlines = _outlines(row.get("segmentation"), listed[key][1], found, place)
            polygons.setdefault(key, []).extend(Polygon(class_of[row["category_id"]], outline) for outline in outlines)
    for key, (image, size) in listed.items():
        found.drawings[image.name] = Drawing(size, tuple(polygons.get(key, ())))


def _key(value: Any) -> Any:
    return value if type(value) in (int, str) else None


def _outlines(value: Any, size: tuple[int, int], found: _Found, place: str) -> list[tuple[float, ...]]:
    if isinstance(value, dict):
        found.fault("rle_unsupported", place)
        return []
    outlines = []
    listed: list[Any] = value if isinstance(value, list) and value else [None]
    for outline in listed:
        if not _is_outline(outline):
            found.fault("bad_polygon", place)
        elif not all(-_SLACK <= number <= size[at % 2] + _SLACK for at, number in enumerate(outline)):
            found.fault("polygon_outside", place)
        else:
            outlines.append(tuple(float(number) for number in outline))
    return outlines


def _is_outline(value: Any) -> TypeGuard[list[float]]:
    return (
        isinstance(value, list)
        and 6 <= len(value) <= _MAX_POINTS
        and len(value) % 2 == 0
        and all(type(number) in (int, float) and math.isfinite(number) for number in value)
    )


def _split_of(entry: Entry) -> Split | None:
    """Returns the split that the file's folders or name tell: train/_annotations.coco.json,
    annotations/instances_val2017.json."""
    words = [word for part in entry.parts for word in _WORDS.findall(part.casefold())]
    return next((SPLIT_OF_WORD[word] for word in reversed(words) if word in SPLIT_OF_WORD), None)


def _problems(faults: dict[str, list[str]]) -> list[Problem]:
    return [reject(code, f"{len(items):,} {_MESSAGES[code]}.", items).problems[0] for code, items in faults.items()]
