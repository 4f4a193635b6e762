"""The classes of a segmentation as its owner names them: classes.txt or classes.csv."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field

from finetuning.engine.datasets import is_label
from finetuning.engine.palettes import IGNORED
from finetuning.engine.problems import Rejected, reject
from finetuning.engine.spec import ArchiveLimits
from finetuning.engine.tables import DELIMITERS, decode_text

FILE_NAMES = ("classes.txt", "classes.csv")
# Rows of these names are no class: their pixels do not count.
_IGNORED_NAMES = frozenset({"ignore", "ignored", "void", "unlabeled", "unlabelled", "don't care"})
_HEADER_WORDS = frozenset({"id", "index", "class", "name", "label", "r", "g", "b", "red", "green", "blue"})
Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ClassList:
    """`names` by the id of the masks' pixels; `ids` by color, IGNORED for the colors that do not count."""

    names: dict[int, str]
    ids: dict[Color, int] = field(default_factory=dict)


def read(content: bytes, file: str, limits: ArchiveLimits) -> ClassList:
    """Returns the classes of `name`, `id,name`, `name,r,g,b` or `id,name,r,g,b` in each row, with or without a
    header. Raises Rejected: `encoding`, `bad_classes`."""
    text = decode_text(content, file)
    delimiter = max(DELIMITERS, key=text.count)
    faults: list[str] = []
    names: dict[int, str] = {}
    colors: dict[Color, int] = {}
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise _bad([f"{file}: {error}"]) from error
    for line, cells in enumerate(rows, start=1):
        row = [cell.strip() for cell in cells]
        if not any(row) or (not names and not colors and _is_header(row)):
            continue
        try:
            number, name, color = _parse(row, after=len(names))
            _check(number, name, color, names, colors, limits)
        except ValueError as error:
            faults.append(f"line {line}: {error}")
            continue
        if number != IGNORED:
            names[number] = name
        if color is not None:
            colors[color] = number
    if colors and len(colors) < len(names):
        faults.append("some rows have a color and others none")
    if not names and not faults:
        faults.append("no class")
    if faults:
        raise _bad(faults)
    return ClassList(dict(sorted(names.items())), colors)


def unnamed(ids: set[int]) -> ClassList:
    """Returns classes for the ids that occur in masks which nothing names."""
    return ClassList({number: f"class_{number}" for number in sorted(ids)})


def _is_header(row: list[str]) -> bool:
    return len(row) > 1 and all(cell.casefold() in _HEADER_WORDS for cell in row if cell)


def _parse(row: list[str], *, after: int) -> tuple[int, str, Color | None]:
    """Returns id, name and color of one row; without an id it is the number of classes before."""
    color: Color | None = None
    if len(row) >= 4:
        row, given = row[:-3], row[-3:]
        if not all(cell.isascii() and cell.isdigit() and int(cell) <= 255 for cell in given):
            raise ValueError("colors are three numbers from 0 to 255")
        color = (int(given[0]), int(given[1]), int(given[2]))
    if len(row) == 1:
        number, name = after, row[0]
    elif len(row) == 2 and row[0].isascii() and row[0].isdigit():
        number, name = int(row[0][:9]), row[1]
    else:
        raise ValueError("use name, or id,name, or name,r,g,b")
    return (IGNORED if name.casefold() in _IGNORED_NAMES else number), name, color


def _check(
    number: int, name: str, color: Color | None, names: dict[int, str], colors: dict[Color, int], limits: ArchiveLimits
) -> None:
    if number > IGNORED:
        raise ValueError(f"ids go from 0 to {IGNORED - 1}; {IGNORED} means ignore")
    if not is_label(name) or len(name) > limits.max_label_characters:
        raise ValueError(f"a class needs a printable name of 1 to {limits.max_label_characters} characters")
    if number in names:
        raise ValueError(f"the id {number} is given twice")
    if name in names.values():
        raise ValueError(f"the name {name} is given twice")
    if color in colors:
        raise ValueError(f"the color {color} is given twice")


def _bad(faults: list[str]) -> Rejected:
    return reject("bad_classes", "The list of classes cannot be read. Put one class into each line.", faults)
