"""Reads the CSV that names each image's label, as spreadsheets and notebooks write it."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unicodedata import normalize

from finetuning.engine.problems import reject
from finetuning.engine.spec import Split

FILE_COLUMNS = ("file", "filename", "file_name", "image", "path", "image_path")
LABEL_COLUMNS = ("label", "class", "target", "category")
LABELS_COLUMN = "labels"  # of tables that name any number of classes for each file
LABEL_SEPARATORS = ";|"
_NO_SEPARATORS = ",\t\n"  # in such a cell: what stands between them may be meant as two labels
SPLIT_COLUMNS = ("split", "subset", "set")
DELIMITERS = ",;\t|"
# What may be wrong with the labels of rows that have any number of them, by the code of the fault.
LABEL_SET_FAULTS = {
    "bad_separator": "rows part their labels otherwise than by ; or by |. Write cat;dog or cat|dog, the same way "
    "throughout, and no comma in a label",
    "bad_labels": "lines give one label where others give lists. Write a list in each",
    "empty_label": "rows hold an empty label between others. Remove the separator or write the label",
    "repeated_label": "rows name a label twice. Keep each label once a row",
}
Fault = tuple[str, str]  # a code, and the words that it is about
SPLIT_OF_WORD = {
    "train": Split.TRAIN,
    "training": Split.TRAIN,
    "val": Split.VALIDATION,
    "valid": Split.VALIDATION,
    "validation": Split.VALIDATION,
    "test": Split.TEST,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One data row. `line` counts from 1, as an editor shows it; `split` is empty where none is given. `labels` are
    those of a table that names any number of classes for each file, None of others; `fault` is what is wrong with
    them: a code, and words."""

    line: int
    file: str
    label: str
    split: str
    labels: tuple[str, ...] | None = None
    fault: Fault | None = None


def read_table(content: bytes, name: str, *, max_rows: int) -> list[Row] | None:
    """Returns the rows, or None where the table names no file and label column. Raises Rejected: `encoding`,
    `bad_csv`, `too_many_rows`."""
    text = decode_text(content, name)
    header, _, _ = text.lstrip("\r\n").partition("\n")
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = [cell.strip().casefold() for cell in next(reader, [])]
        file, label = position_of(columns, FILE_COLUMNS), position_of(columns, LABEL_COLUMNS)
        is_multi = label is None and LABELS_COLUMN in columns
        label = columns.index(LABELS_COLUMN) if is_multi else label
        if file is None or label is None:
            return None
        rows: list[Row] = []
        spilled: set[int] = set()
        for row, cells in _rows(reader, file, label, position_of(columns, SPLIT_COLUMNS)):
            if any(cell.strip() for cell in cells[len(columns) :]):  # labels parted by the table's own delimiter
                spilled.add(len(rows))
            rows.append(row)
            if len(rows) > max_rows:
                raise reject("too_many_rows", f"The table has more than {max_rows:,} rows.", [name])
    except csv.Error as error:
        raise reject(
            "bad_csv",
            f"The table cannot be read at line {reader.line_num} ({error}). Save it again as CSV.",
            [name],
        ) from error
    if not is_multi:
        return rows
    return [
        replace(row, labels=labels, fault=("bad_separator", row.label) if at in spilled else fault)
        for at, (row, (labels, fault)) in enumerate(zip(rows, label_sets([row.label for row in rows]), strict=True))
    ]


def read_metadata(content: bytes, name: str, *, max_rows: int) -> list[Row] | None:
    """Returns the rows of an image folder's `metadata.jsonl`: a JSON object a line, its columns named as a table's;
    None where no line names a file and a label. Raises Rejected: `encoding`, `bad_json`, `too_many_rows`."""
    found, faults = json_lines(content, name)
    if len(found) > max_rows:
        raise reject("too_many_rows", f"The table has more than {max_rows:,} rows. Upload fewer images.", [name])
    if faults:
        message = f"{len(faults):,} lines are not a JSON object each. Write one object a line."
        raise reject("bad_json", message, faults)
    given = [value_of(entries, (*LABEL_COLUMNS, LABELS_COLUMN)) for _, entries in found]
    if all(value is None for value in given):
        return None
    is_multi = any(isinstance(value, list) for value in given)
    rows = []
    for (line, entries), value in zip(found, given, strict=True):
        row = Row(line, plain(value_of(entries, FILE_COLUMNS)), plain(value), plain(value_of(entries, SPLIT_COLUMNS)))
        rows.append(_with_list(row, value) if is_multi else row)
    return rows


def _with_list(row: Row, value: Any) -> Row:
    if not isinstance(value, list):
        return replace(row, labels=(), fault=("bad_labels", f"{value!r} is no list"))
    labels, fault = label_set([plain(entry) for entry in value])
    return replace(row, labels=labels, fault=fault)


def label_sets(cells: Sequence[str]) -> list[tuple[tuple[str, ...], Fault | None]]:
    """Returns for each cell of a column `labels` the labels in it, or none and what is wrong with them: they are parted
    by ; or by |, the same one in every cell. An empty cell is an item that shows no class."""
    used = {separator: sum(separator in cell for cell in cells) for separator in LABEL_SEPARATORS}
    rarer = min(used, key=used.__getitem__)
    wrong = {*_NO_SEPARATORS, *(rarer if all(used.values()) else "")}
    found: list[tuple[tuple[str, ...], Fault | None]] = []
    for cell in cells:
        own = [separator for separator in LABEL_SEPARATORS if separator in cell]
        if len(own) > 1 or not wrong.isdisjoint(cell):
            found.append(((), ("bad_separator", cell)))
        else:
            found.append(label_set(cell.split(own[0]) if own else [cell] * bool(cell)))
    return found


def label_set(given: Sequence[str]) -> tuple[tuple[str, ...], Fault | None]:
    """Returns the labels of one item, sorted: each once, none of them empty; or none and what is wrong with them."""
    labels = [normalize("NFC", label.strip()) for label in given]
    if "" in labels:
        return (), ("empty_label", ";".join(labels))
    if twice := sorted(label for label, times in Counter(labels).items() if times > 1):
        return (), ("repeated_label", ", ".join(twice))
    return tuple(sorted(labels)), None


def json_lines(content: bytes, name: str) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """Returns the objects of a JSON Lines file with their lines, from 1, and the places of lines that are none."""
    found: list[tuple[int, dict[str, Any]]] = []
    faults: list[str] = []
    for line, raw in enumerate(decode_text(content, name).split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            entries = json.loads(raw, object_pairs_hook=unique_names)
            if not isinstance(entries, dict):
                raise TypeError("not an object")
            found.append((line, entries))
        except (TypeError, ValueError, RecursionError) as error:
            faults.append(f"{name} line {line}: {error}")
    return found, faults


def value_of(entries: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Returns the value under the first of the names that an object has, upper or lower case; None without."""
    keys = {key.strip().casefold(): key for key in entries}
    return next((entries[keys[name]] for name in names if name in keys), None)


def unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object's entries. Raises ValueError where a name occurs twice: readers differ in which counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def plain(value: Any) -> str:
    """Returns a text or a whole number as text; nothing for what cannot name a class or a file."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if type(value) is int else ""


def _rows(reader: Iterator[list[str]], file: int, label: int, split: int | None) -> Iterator[tuple[Row, list[str]]]:
    """Yields each row with its cells."""
    for number, cells in enumerate(reader, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        padded = [*(cell.strip() for cell in cells), *[""] * (max(file, label, split or 0) + 1)]
        yield Row(number, padded[file], padded[label], padded[split] if split is not None else ""), cells


def position_of(columns: list[str], names: tuple[str, ...]) -> int | None:
    return next((columns.index(name) for name in names if name in columns), None)


def decode_text(content: bytes, name: str) -> str:
    """Returns the text of UTF-8 or UTF-16 bytes, with a byte order mark or without. Rejects (`encoding`)."""
    encoding = "utf-8-sig"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif content[1:2] == b"\0":  # Latin letters in UTF-16 without a byte order mark
        encoding = "utf-16-le"
    elif content[:1] == b"\0":
        encoding = "utf-16-be"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise reject(
            "encoding", f"The table is not UTF-8 text (line {line}). Save it as CSV UTF-8.", [f"{name}: line {line}"]
        ) from error
