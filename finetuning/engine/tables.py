"""Reads the CSV that names each image's label, as spreadsheets and notebooks write it."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from finetuning.engine.problems import reject
from finetuning.engine.spec import Split

FILE_COLUMNS = ("file", "filename", "file_name", "image", "path", "image_path")
LABEL_COLUMNS = ("label", "class", "target", "category")
SPLIT_COLUMNS = ("split", "subset", "set")
DELIMITERS = ",;\t|"
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
    """One data row. `line` counts from 1, as an editor shows it; `split` is empty where none is given."""

    line: int
    file: str
    label: str
    split: str


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
        if file is None or label is None:
            return None
        rows = []
        for row in _rows(reader, file, label, position_of(columns, SPLIT_COLUMNS)):
            rows.append(row)
            if len(rows) > max_rows:
                raise reject("too_many_rows", f"The table has more than {max_rows:,} rows.", [name])
    except csv.Error as error:
        raise reject(
            "bad_csv",
            f"The table cannot be read at line {reader.line_num} ({error}). Save it again as CSV.",
            [name],
        ) from error
    return rows


def read_metadata(content: bytes, name: str, *, max_rows: int) -> list[Row] | None:
    """Returns the rows of an image folder's `metadata.jsonl`: a JSON object a line, its columns named as a table's;
    None where no line names a file and a label. Raises Rejected: `encoding`, `bad_json`, `too_many_rows`."""
    found, faults = json_lines(content, name)
    if len(found) > max_rows:
        raise reject("too_many_rows", f"The table has more than {max_rows:,} rows. Upload fewer images.", [name])
    if faults:
        message = f"{len(faults):,} lines are not a JSON object each. Write one object a line."
        raise reject("bad_json", message, faults)
    if not any(value_of(entries, LABEL_COLUMNS) is not None for _, entries in found):
        return None
    return [
        Row(line, *(plain(value_of(entries, names)) for names in (FILE_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS)))
        for line, entries in found
    ]


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


def _rows(reader: Iterator[list[str]], file: int, label: int, split: int | None) -> Iterator[Row]:
    for number, cells in enumerate(reader, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        padded = [*(cell.strip() for cell in cells), *[""] * (max(file, label, split or 0) + 1)]
        yield Row(number, padded[file], padded[label], padded[split] if split is not None else "")


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
