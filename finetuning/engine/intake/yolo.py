"""YOLO's text files: one for each image, a box a line as shares of the image's sides, and the classes' names."""

from __future__ import annotations

import math
from typing import Any

import yaml

from finetuning.engine.archives import Archive
from finetuning.engine.intake.annotations import Annotations, Box, Faults, ImageNames, read_text, stem_of
from finetuning.engine.problems import reject
from finetuning.engine.zip_directory import Entry

_NAME_LISTS = frozenset({"classes.txt", "labels.txt", "names.txt"})
_YAML = frozenset({".yaml", ".yml"})
_LABELS, _IMAGES = "labels", "images"


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few of them make a document of gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not read")
        return super().compose_node(parent, index)


def read(archive: Archive) -> Annotations | None:
    """Returns what the label files say; None where no text file belongs to an image."""
    names = ImageNames(archive.contents.images)
    lists = [entry for entry in archive.contents.documents if entry.parts[-1].casefold() in _NAME_LISTS]
    pairs = [
        (entry, image)
        for entry in archive.contents.documents
        if entry.suffix == ".txt" and entry not in lists and (image := _image_of(entry, names)) is not None
    ]
    lost = [
        entry
        for entry in archive.contents.documents
        if entry.suffix == ".txt"
        and _LABELS in entry.parts[:-1]
        and entry not in lists
        and _image_of(entry, names) is None
    ]
    if not pairs and not lost:
        return None
    found, faults = Annotations("yolo"), Faults()
    classes = _classes(archive, lists, found, faults)
    for entry in lost:
        faults.add("missing_image", f"{entry.name}: no image of this name")
    for entry, image in pairs:
        _read_one(archive, entry, image, classes, found, faults)
    faults.raise_any()
    for image in archive.contents.images:
        if image.name not in found.boxes:
            found.boxes[image.name] = []
            found.unannotated.add(image.name)
    return found


def _image_of(entry: Entry, names: ImageNames) -> Entry | None:
    """`labels/train/1.txt` belongs to `images/train/1.jpg`; a file beside its image to that."""
    folders = [_IMAGES if part == _LABELS else part for part in entry.parts[:-1]]
    return names.with_stem(stem_of(entry.parts[-1]), *folders)


def _classes(archive: Archive, lists: list[Entry], found: Annotations, faults: Faults) -> list[str]:
    """Returns the names by number, from a YAML with `names` or a list of lines. Raises Rejected (`no_classes`)."""
    for entry in (entry for entry in archive.contents.documents if entry.suffix in _YAML):
        text = read_text(archive, entry)
        try:
            document = yaml.load(text or "", Loader=_PlainLoader)  # noqa: S506 - a SafeLoader, without aliases
        except (yaml.YAMLError, ValueError, RecursionError):
            faults.add("bad_yaml", entry.name)
            continue
        names = document.get("names") if isinstance(document, dict) else None
        if isinstance(names, dict) and set(names) == set(range(len(names))):
            names = [names[at] for at in range(len(names))]
        if isinstance(names, list) and names:
            found.used.add(entry.name)
            return _unique([str(name).strip() for name in names], entry, faults)
    for entry in lists:
        if text := read_text(archive, entry):
            found.used.add(entry.name)
            return _unique([line.strip() for line in text.splitlines() if line.strip()], entry, faults)
    faults.raise_any()
    raise reject(
        "no_classes", "The zip names no classes. Add classes.txt with one name a line, or data.yaml with names."
    )


def _unique(names: list[str], entry: Entry, faults: Faults) -> list[str]:
    for name in {name for name in names if names.count(name) > 1}:
        faults.add("bad_class", f"{entry.name}: {name} is listed twice")
    return names


def _read_one(
    archive: Archive, entry: Entry, image: Entry, classes: list[str], found: Annotations, faults: Faults
) -> None:
    text = read_text(archive, entry)
    found.used.add(entry.name)
    if image.name in found.boxes:
        faults.add("duplicate_annotation", f"{entry.name}: {image.name} has two label files")
        return
    found.boxes[image.name] = []
    if text is None:
        faults.add("bad_line", f"{entry.name}: not a text file of UTF-8")
        return
    for number, line in enumerate(text.splitlines(), start=1):
        fields, place = line.split(), f"{entry.name} line {number}"
        if not fields:
            continue
        values = _numbers(fields)
        if values is None or len(values) != 5:
            faults.add("bad_line", place)
        elif not values[0].is_integer() or not 0 <= values[0] < len(classes):
            faults.add("bad_class", f"{place}: class {fields[0]} of {len(classes)}")
        else:
            _, x, y, width, height = values
            edges = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            found.boxes[image.name].append(Box(classes[int(values[0])], edges, place, is_relative=True))


def _numbers(fields: list[str]) -> list[float] | None:
    try:
        values = [float(value) for value in fields]
    except ValueError:
        return None
    # NaN in a coordinate is a bad box, named with the others; a class number must be one.
    return values if values and math.isfinite(values[0]) else None
