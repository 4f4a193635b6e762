"""Boxes as an upload gives them, before the images are known to be readable, and the guards for hostile text."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from unicodedata import normalize

import numpy as np

from finetuning.engine.archives import Archive
from finetuning.engine.problems import Problem, Rejected, reject
from finetuning.engine.spec import Split
from finetuning.engine.tables import SPLIT_OF_WORD, unique_names
from finetuning.engine.zip_directory import Entry

MAX_JSON_BYTES = 48 * 2**20  # takes about ten times its size once it is parsed
MAX_TEXT_BYTES = 2**20  # of one XML, YAML or label file
MAX_DEPTH = 10  # COCO with polygons nests five levels
MAX_BOXES = 2_000_000
_LARGEST = 1e12  # of a coordinate: integers beyond floats would not convert
_MAX_LISTED = 1_000  # places of one kind of fault; the count goes on
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_DIGITS = "0123456789"


@dataclass(frozen=True, slots=True)
class Box:
    """`edges` are left, top, right, bottom in pixels of the uploaded image, or shares of its sides where
    `is_relative`; `place` is where the upload says so."""

    label: str
    edges: tuple[float, float, float, float]
    place: str
    is_relative: bool = False

    @classmethod
    def of_corner_and_size(cls, label: str, numbers: Sequence[float], place: str) -> Box:
        """Returns COCO's [x, y, width, height]."""
        left, top, width, height = map(float, numbers)
        return cls(label, (left, top, left + width, top + height), place)


@dataclass(slots=True)
class Annotations:
    """What the annotation files of one format say. `boxes` and `sizes` (width, height) by the image's name in
    the zip; every image named there is a sample, with or without boxes. `left_out` counts what is not used."""

    format: str
    boxes: dict[str, list[Box]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    splits: dict[str, Split] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)  # names of the annotation files
    left_out: Counter[str] = field(default_factory=Counter)
    unannotated: set[str] = field(default_factory=set)  # images that have no annotation file of their own


class Faults:
    """Collects what is wrong, so that one answer names it all."""

    _MESSAGES = {
        "bad_json": "annotation files are not what COCO's format, or an image folder's, says. Mend them or export them again",
        "bad_xml": "annotation files cannot be read as Pascal VOC XML. Export them again",
        "bad_yaml": "description files cannot be read as YAML. Export them again",
        "bad_line": "lines are not `class x y width height` with numbers from 0 to 1. Mend or remove them",
        "bad_class": "boxes or classes name a class that is not listed, or listed twice. Add it to the list of classes",
        "bad_box": "boxes are outside of their image, have no area or are no numbers. Mend or remove them",
        "missing_image": "annotations name an image that is not in the zip. Add the images or remove the entries",
        "duplicate_annotation": "annotation or image numbers occur twice. Give each its own",
        "size_mismatch": "images have another size than their annotations say. Annotate the images as uploaded",
        "bad_split": "images lie in no split folder while others do. Use train, validation and test for all or none",
    }

    def __init__(self) -> None:
        self._places: dict[str, list[str]] = {}
        self.counts: Counter[str] = Counter()

    def add(self, code: str, place: str) -> None:
        self.counts[code] += 1
        places = self._places.setdefault(code, [])
        if len(places) < _MAX_LISTED:
            places.append(place)

    def problems(self) -> list[Problem]:
        return [
            reject(code, f"{self.counts[code]:,} {self._MESSAGES[code]}.", places).problems[0]
            for code, places in self._places.items()
        ]

    def raise_any(self) -> None:
        if self._places:
            raise Rejected(*self.problems())


class ImageNames:
    """The zip's images by their path, its tail, or their bare name, each only where it is unique."""

    def __init__(self, images: Iterable[Entry]) -> None:
        self._found: dict[str, Entry | None] = {}
        self._stems: dict[str, Entry | None] = {}
        for entry in images:
            parts = [key_of(part) for part in entry.parts]
            for start in range(len(parts)):
                _put(self._found, "/".join(parts[start:]), entry)
                _put(self._stems, "/".join([*parts[start:-1], stem_of(parts[-1])]), entry)

    def find(self, name: str, *folders: str) -> Entry | None:
        """Returns the image called `name`, first below `folders`, then anywhere."""
        tail = "/".join(part for part in key_of(name).replace("\\", "/").split("/") if part not in {"", ".", ".."})
        near = "/".join([*map(key_of, folders), tail])
        return self._found.get(near) or self._found.get(tail) or self._found.get(tail.rpartition("/")[2])

    def with_stem(self, stem: str, *folders: str) -> Entry | None:
        near = "/".join([*map(key_of, folders), key_of(stem)])
        return self._stems.get(near) or self._stems.get(key_of(stem))


def is_box(value: Any) -> bool:
    """Whether it is four numbers; NaN passes: it is told with the other boxes that have no area."""
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not abs(value) > _LARGEST


def _put(table: dict[str, Entry | None], key: str, entry: Entry) -> None:
    table[key] = None if key in table and table[key] is not entry else entry


def key_of(name: str) -> str:
    return normalize("NFC", name).casefold()


def stem_of(name: str) -> str:
    return name.rpartition(".")[0] or name


def split_of(words: Iterable[str]) -> Split | None:
    """Returns the split that a folder or file name of these words stands for: `train2017` is training."""
    for word in words:
        if split := SPLIT_OF_WORD.get(key_of(word).rstrip(_DIGITS)):
            return split
    return None


def read_json(archive: Archive, entry: Entry) -> Any:
    """Returns the document. Raises Rejected (`bad_json`) before parsing what is too large or nested too deep."""
    if entry.size > MAX_JSON_BYTES:
        limit = MAX_JSON_BYTES >> 20
        message = f"An annotation file is over {limit} MiB. Upload fewer images, or for boxes leave polygons out."
        raise reject("bad_json", message, [entry.name])
    content = archive.read(entry)
    if _depth(content) > MAX_DEPTH:
        message = f"An annotation file nests over {MAX_DEPTH} levels deep. COCO needs five: export it again."
        raise reject("bad_json", message, [entry.name])
    try:
        return json.loads(content.decode("utf-8-sig"), object_pairs_hook=unique_names)
    except json.JSONDecodeError as error:
        place, reason = f"{entry.name} line {error.lineno}", error.msg
    except UnicodeDecodeError as error:
        line = 1 + content[: error.start].count(b"\n")
        place, reason = f"{entry.name} line {line}", "it is not UTF-8 text"
    except (ValueError, RecursionError) as error:
        place, reason = entry.name, str(error)
    raise reject("bad_json", f"An annotation file is not JSON ({reason}). Export it again.", [place])


def _depth(content: bytes) -> int:
    """Returns the deepest nesting, by its brackets alone: no parser may recurse into it before."""
    brackets = np.frombuffer(_STRING.sub(b"", content), dtype=np.uint8)
    opened = (brackets == ord("[")) | (brackets == ord("{"))
    closed = (brackets == ord("]")) | (brackets == ord("}"))
    marks = np.flatnonzero(opened | closed)
    return int(np.cumsum(np.where(opened[marks], 1, -1)).max(initial=0))


def read_text(archive: Archive, entry: Entry) -> str | None:
    """Returns the text of a small file, or None where it is large or not UTF-8."""
    if entry.size > MAX_TEXT_BYTES:
        return None
    try:
        return archive.read(entry).decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
