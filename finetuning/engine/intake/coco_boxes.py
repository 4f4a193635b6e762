"""COCO's instances: one JSON, or one for each split."""

from __future__ import annotations

from collections import Counter
from typing import Any

from finetuning.engine.archives import Archive
from finetuning.engine.intake.annotations import (
    MAX_BOXES,
    Annotations,
    Box,
    Faults,
    ImageNames,
    is_box,
    read_json,
    split_of,
    stem_of,
)
from finetuning.engine.problems import reject
from finetuning.engine.spec import Split
from finetuning.engine.zip_directory import Entry


def read(archive: Archive) -> Annotations | None:
    """Returns what the JSON files with images, annotations and categories say; None without one."""
    documents: list[tuple[Entry, dict[str, Any]]] = []
    for entry in archive.contents.documents:
        if entry.suffix == ".json":
            document = read_json(archive, entry)
            if isinstance(document, dict) and {"images", "annotations", "categories"} & set(document):
                documents.append((entry, document))
    if not documents:
        return None
    found, faults = Annotations("coco"), Faults()
    names = ImageNames(archive.contents.images)
    for entry, document in documents:
        split = _split_of(entry) if len(documents) > 1 else None
        _read_one(entry, document, names, found, faults, split=split)
    faults.raise_any()
    return found


def _split_of(entry: Entry) -> Split | None:
    """`annotations/instances_train2017.json`, `train.json`, `train/_annotations.coco.json`."""
    words = stem_of(entry.parts[-1]).replace("-", "_").replace(".", "_").split("_")
    return split_of(words) or split_of(reversed(entry.parts[:-1]))


def _read_one(
    entry: Entry,
    document: dict[str, Any],
    names: ImageNames,
    found: Annotations,
    faults: Faults,
    *,
    split: Split | None,
) -> None:
    file = entry.name
    if not all(isinstance(document.get(key), list) for key in ("images", "annotations", "categories")):
        faults.add("bad_json", f"{file}: images, annotations and categories must be lists")
        return
    if len(document["annotations"]) > MAX_BOXES:
        raise reject("bad_json", f"An annotation file has over {MAX_BOXES:,} annotations.", [file])
    found.used.add(file)
    classes = _classes(document["categories"], file, faults)
    images = _images(document["images"], entry, names, found, faults, split=split)
    seen: set[Any] = set()
    for number, row in enumerate(document["annotations"]):
        own = row.get("id") if isinstance(row, dict) else None
        place = f"{file}: annotation {number + 1} of the list" if own is None else f"{file}: annotation {own}"
        if wrong := _fault(row, images, classes, seen):
            faults.add(wrong[0], f"{place}: {wrong[1]}")
        elif row.get("iscrowd") == 1:
            found.left_out["crowd_boxes"] += 1
        elif (image := images[row["image_id"]]) is not None:
            found.boxes[image].append(Box.of_corner_and_size(classes[row["category_id"]], row["bbox"], place))
        if _is_id(own):
            seen.add(own)


def _fault(row: Any, images: dict[Any, str | None], classes: dict[Any, str], seen: set[Any]) -> tuple[str, str] | None:
    """Returns the code and the words for what is wrong with one annotation, or None."""
    if not isinstance(row, dict) or not _is_id(row.get("image_id")) or not isinstance(row.get("bbox"), list):
        return "bad_json", "needs image_id, category_id and bbox"
    if "id" in row and (not _is_id(row["id"]) or row["id"] in seen):
        return "duplicate_annotation", "this id occurs before"
    if row["image_id"] not in images:
        return "missing_image", f"image_id {row['image_id']}"
    if not _is_id(row.get("category_id")) or row["category_id"] not in classes:
        return "bad_class", f"category_id {row.get('category_id')}"
    if not is_box(row["bbox"]):
        return "bad_box", "bbox must be four numbers"
    return None


def _classes(categories: list[Any], file: str, faults: Faults) -> dict[Any, str]:
    classes: dict[Any, str] = {}
    for row in categories:
        if not isinstance(row, dict) or not _is_id(row.get("id")) or not isinstance(row.get("name"), str):
            faults.add("bad_json", f"{file}: a category needs id and name")
        elif row["id"] in classes:
            faults.add("bad_class", f"{file}: category {row['id']} is listed twice")
        else:
            classes[row["id"]] = row["name"].strip()
    twice = [name for name, times in Counter(classes.values()).items() if times > 1]
    for name in twice:
        faults.add("bad_class", f"{file}: {name} is the name of two categories")
    return classes


def _images(
    rows: list[Any], entry: Entry, names: ImageNames, found: Annotations, faults: Faults, *, split: Split | None
) -> dict[Any, str | None]:
    """Returns the image's name in the zip by its id; None where it is missing there."""
    images: dict[Any, str | None] = {}
    for row in rows:
        if not isinstance(row, dict) or not _is_id(row.get("id")) or not isinstance(row.get("file_name"), str):
            faults.add("bad_json", f"{entry.name}: an image needs id and file_name")
            continue
        place = f"{entry.name}: image {row['id']}"
        image = names.find(row["file_name"], *entry.parts[:-1])
        if row["id"] in images:
            faults.add("duplicate_annotation", place)
        elif image is None:
            images[row["id"]] = None
            faults.add("missing_image", f"{place}: {row['file_name']}")
        elif image.name in found.boxes:
            faults.add("duplicate_annotation", f"{place}: {row['file_name']} is listed twice")
        else:
            images[row["id"]] = image.name
            found.boxes[image.name] = []
            if split is not None:
                found.splits[image.name] = split
            if _is_size(row.get("width")) and _is_size(row.get("height")):
                found.sizes[image.name] = (int(row["width"]), int(row["height"]))
    return images


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
