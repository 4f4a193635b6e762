"""Hugging Face's image folders with boxes: a `metadata.jsonl` for all images, or one in each split's folder, whose lines
have `file_name` and `objects: {bbox: [[x, y, width, height], ...], categories: [...]}` in pixels, as COCO's boxes."""

from __future__ import annotations

from typing import Any

from finetuning.engine.archives import Archive, is_metadata
from finetuning.engine.intake.annotations import (
    MAX_BOXES,
    MAX_JSON_BYTES,
    Annotations,
    Box,
    Faults,
    ImageNames,
    is_box,
)
from finetuning.engine.problems import reject
from finetuning.engine.tables import FILE_COLUMNS, json_lines, plain, value_of
from finetuning.engine.zip_directory import Entry

_CATEGORIES = ("categories", "category", "label", "labels")


def read(archive: Archive) -> Annotations | None:
    """Returns what the lines with `objects` say; None where no metadata file has one."""
    found, faults = Annotations("imagefolder"), Faults()
    names = ImageNames(archive.contents.images)
    for entry in filter(is_metadata, archive.contents.tables):
        if entry.size > MAX_JSON_BYTES:
            raise reject("bad_json", f"An annotation file is over {MAX_JSON_BYTES >> 20} MiB.", [entry.name])
        rows, broken = json_lines(archive.read(entry), entry.name)
        if not any("objects" in row for _, row in rows):
            continue
        found.used.add(entry.name)
        for place in broken:
            faults.add("bad_json", place)
        for line, row in rows:
            _read_line(f"{entry.name} line {line}", row, entry, names, found, faults)
    if sum(map(len, found.boxes.values())) > MAX_BOXES:
        raise reject("bad_json", f"The annotation files have over {MAX_BOXES:,} boxes.", found.used)
    faults.raise_any()
    return found if found.used else None


def _read_line(
    place: str, row: dict[str, Any], entry: Entry, names: ImageNames, found: Annotations, faults: Faults
) -> None:
    file = plain(value_of(row, FILE_COLUMNS))
    image = names.find(file, *entry.parts[:-1]) if file else None
    objects = row.get("objects")
    boxes = objects.get("bbox") if isinstance(objects, dict) else None
    categories = value_of(objects, _CATEGORIES) if isinstance(objects, dict) else None
    if image is None:
        faults.add("missing_image", f"{place}: {file or 'no file_name'}")
    elif image.name in found.boxes:
        faults.add("duplicate_annotation", f"{place}: {file} is listed before")
    elif not isinstance(boxes, list) or not isinstance(categories, list):
        faults.add("bad_json", f"{place}: objects needs the lists bbox and categories")
    elif len(boxes) != len(categories):
        faults.add("bad_json", f"{place}: {len(boxes):,} boxes, but {len(categories):,} categories")
    else:
        found.boxes[image.name] = []
        for number, (box, category) in enumerate(zip(boxes, categories, strict=True), start=1):
            label = plain(category)
            if not label:
                faults.add("bad_class", f"{place}: category {number} is no name and no whole number")
            elif not is_box(box):
                faults.add("bad_box", f"{place}: bbox {number} must be four numbers")
            else:
                found.boxes[image.name].append(Box.of_corner_and_size(label, box, f"{place}: bbox {number}"))
