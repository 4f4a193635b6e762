"""Pascal VOC: one XML for each image, splits by folders or by the lists of ImageSets/Main."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from finetuning.engine.archives import Archive
from finetuning.engine.intake.annotations import Annotations, Box, Faults, ImageNames, read_text, split_of, stem_of
from finetuning.engine.spec import Split
from finetuning.engine.zip_directory import Entry

# Entities are how an XML of a kilobyte becomes gigabytes, or reads files: annotations need none.
_DECLARATION = re.compile(r"<!\s*(DOCTYPE|ENTITY)", re.IGNORECASE)
_EDGES = ("xmin", "ymin", "xmax", "ymax")
_MAX_DEPTH = 10


def read(archive: Archive) -> Annotations | None:
    """Returns what the XML files say; None without one. `difficult` objects count like the others."""
    entries = [entry for entry in archive.contents.documents if entry.suffix == ".xml"]
    if not entries:
        return None
    found, faults = Annotations("voc"), Faults()
    names = ImageNames(archive.contents.images)
    for entry in entries:
        _read_one(archive, entry, names, found, faults)
    faults.raise_any()
    for image in archive.contents.images:
        if image.name not in found.boxes:
            found.boxes[image.name] = []
            found.unannotated.add(image.name)
    _read_lists(archive, names, found)
    return found


def _read_one(archive: Archive, entry: Entry, names: ImageNames, found: Annotations, faults: Faults) -> None:
    text = read_text(archive, entry)
    root = _parsed(text)
    if text is None or root is None or root.tag != "annotation":
        hint = "declarations and entities are not read" if text and _DECLARATION.search(text) else "not an annotation"
        faults.add("bad_xml", f"{entry.name}: {hint}")
        return
    found.used.add(entry.name)
    named = (root.findtext("filename") or "").strip()
    image = names.with_stem(stem_of(entry.parts[-1]), *_image_folders(entry)) or (names.find(named) if named else None)
    if image is None:
        faults.add("missing_image", f"{entry.name}: {named or stem_of(entry.parts[-1])}")
        return
    if image.name in found.boxes:
        faults.add("duplicate_annotation", f"{entry.name}: {image.name} has two annotation files")
        return
    found.boxes[image.name] = []
    size = [_number(root.findtext(f"size/{side}")) for side in ("width", "height")]
    if all(side is not None and side >= 1 for side in size):
        found.sizes[image.name] = (int(size[0] or 0), int(size[1] or 0))
    for number, row in enumerate(root.iter("object"), start=1):
        place = f"{entry.name}: object {number}"
        label = (row.findtext("name") or "").strip()
        edges = [_number(row.findtext(f"bndbox/{edge}")) for edge in _EDGES]
        left, top, right, bottom = edges
        if not label:
            faults.add("bad_class", f"{place} has no name")
        elif left is None or top is None or right is None or bottom is None:
            faults.add("bad_box", f"{place}: bndbox needs {', '.join(_EDGES)}")
        else:
            found.boxes[image.name].append(Box(label, (left, top, right, bottom), place))


def _parsed(text: str | None) -> ET.Element | None:
    if text is None or _DECLARATION.search(text) or _depth(text) > _MAX_DEPTH:
        return None
    try:
        return ET.fromstring(text)  # noqa: S314 - no declaration and no entity is left in it
    except (ET.ParseError, ValueError, RecursionError):
        return None


def _depth(text: str) -> int:
    deepest = depth = 0
    for mark in re.finditer(r"<(/?)[^<>!?][^<>]*?(/?)>", text):
        depth += -1 if mark[1] else int(not mark[2])
        deepest = max(deepest, depth)
    return deepest


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _image_folders(entry: Entry) -> tuple[str, ...]:
    """Annotations lie beside the images, or in a folder of their own beside the images' folder."""
    *above, last = entry.parts[:-1] or ("",)
    return (*above, "JPEGImages") if last == "Annotations" else tuple(part for part in (*above, last) if part)


def _read_lists(archive: Archive, names: ImageNames, found: Annotations) -> None:
    """Takes the splits of ImageSets/Main/train.txt and its like; trainval says nothing about either."""
    for entry in archive.contents.documents:
        split: Split | None = split_of([stem_of(entry.parts[-1])])
        if entry.suffix != ".txt" or split is None or "ImageSets" not in entry.parts:
            continue
        found.used.add(entry.name)
        for line in (read_text(archive, entry) or "").splitlines():
            image = names.with_stem(line.split()[0]) if line.split() else None
            if image is not None:
                found.splits[image.name] = split
