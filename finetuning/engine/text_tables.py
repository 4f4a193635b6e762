"""Reads labelled texts from CSV, TSV or JSON Lines. A cell is data, whatever it begins with."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from unicodedata import normalize

from finetuning.engine.problems import Rejected, reject
from finetuning.engine.spec import ArchiveLimits
from finetuning.engine.tables import (
    DELIMITERS,
    LABEL_COLUMNS,
    LABELS_COLUMN,
    SPLIT_COLUMNS,
    decode_text,
    label_set,
    label_sets,
    plain,
    position_of,
)

COLUMNS: dict[str, tuple[str, ...]] = {
    "text": ("text", "sentence", "review", "content", "document", "message", "comment", "tweet", "utterance"),
    "label": (*LABEL_COLUMNS, "sentiment", "intent"),
    "split": SPLIT_COLUMNS,
    "group": ("group", "group_id"),
}
COLUMN_ADVICE = (
    "Name one column text and one label, or labels where a text may have any number; split and group may be added."
)


@dataclass(frozen=True, slots=True)
class TextRow:
    """`line` counts from 1, as an editor shows it, at the row's start. `split` and `group` may be empty. `labels` are
    those of a row that may have any number of them, sorted; None of others."""

    line: int
    text: str
    label: str
    split: str = ""
    group: str = ""
    labels: tuple[str, ...] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return (self.label,) if self.labels is None else self.labels


@dataclass(slots=True)
class TextTable:
    """`faults` holds what is wrong with single rows, by code; `ignored` names columns of no use."""

    rows: list[TextRow] = field(default_factory=list)
    faults: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    def fault(self, code: str, line: int, what: str) -> None:
        self.faults.setdefault(code, []).append((line, what))


def read_texts(content: bytes, name: str, limits: ArchiveLimits) -> TextTable:
    """Returns the rows of a file and the faults of single rows (`bad_json`, `duplicate_key`, `bad_text`, `bad_row`,
    `row_too_large`, those of LABEL_SET_FAULTS). Rejects what cannot be read at all: `empty_file`, `encoding`,
    `not_json_lines`, `bad_csv`, `missing_columns`, `too_many_rows`."""
    document = decode_text(content, name)
    start = document.lstrip()[:1]
    if not start:
        raise reject("empty_file", "The file is empty. Upload a CSV, TSV or JSON Lines file with your texts.", [name])
    if start == "[":
        raise reject("not_json_lines", "The file is one JSON list. Write one JSON object a line instead.", [name])
    return _json_lines(document, name, limits) if start == "{" else _delimited(document, name, limits)


def _delimited(document: str, name: str, limits: ArchiveLimits) -> TextTable:
    csv.field_size_limit(limits.max_row_bytes)  # the library's own limit is 128 KiB
    first = document.lstrip("\r\n").partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    header = [cell.strip().casefold() for cell in next(iter(csv.reader([first], delimiter=delimiter)), [])]
    places = {kind: position_of(header, names) for kind, names in COLUMNS.items()}
    is_multi = places["label"] is None and LABELS_COLUMN in header
    if is_multi:
        places["label"] = header.index(LABELS_COLUMN)
    if places["text"] is None and places["label"] is None:
        return _headless(document, name, limits)
    missing = [kind for kind in ("text", "label") if places[kind] is None]
    if missing:
        raise _no_columns(missing, header)
    table = TextTable(
        ignored=tuple(cell for at, cell in enumerate(header) if at not in places.values()),
    )
    cells_of = _cells(document, delimiter, name, limits)
    next(cells_of)
    for line, cells in cells_of:
        kept = cells[: len(header)] if not any(cell.strip() for cell in cells[len(header) :]) else cells
        if len(kept) != len(header):
            table.fault("bad_row", line, f"{len(cells)} cells where the header has {len(header)}")
            continue
        values = {kind: kept[at].strip() if at is not None else "" for kind, at in places.items()}
        table.rows.append(_row(line, values))
    if is_multi:
        _part_labels(table)
    return table


def _part_labels(table: TextTable) -> None:
    """Gives every row of a table the labels in its cell; those where that cannot be done become faults."""
    rows, table.rows = table.rows, []
    for row, (labels, fault) in zip(rows, label_sets([row.label for row in rows]), strict=True):
        if fault:
            table.fault(fault[0], row.line, fault[1])
        else:
            table.rows.append(replace(row, labels=labels))


def _headless(document: str, name: str, limits: ArchiveLimits) -> TextTable:
    """Returns the rows of a file without a header: two columns in every row, of which one repeats a few short
    values, the first row's among them. Anything less clear is rejected."""
    for delimiter in DELIMITERS:
        try:
            rows = list(_cells(document, delimiter, name, limits))
        except Rejected as error:
            if error.problems[0].code != "bad_csv":
                raise
            continue
        if not rows or any(len(cells) != 2 for _, cells in rows):
            continue
        columns = [[cells[at].strip() for _, cells in rows] for at in (0, 1)]
        labels = [at for at in (0, 1) if _are_labels(columns[at], limits)]
        if len(labels) == 1:
            at = labels[0]
            return TextTable(
                [TextRow(line, cells[1 - at].strip(), normalize("NFC", cells[at].strip())) for line, cells in rows]
            )
    raise _no_columns(["text", "label"], document.partition("\n")[0].split(",")[:8])


def _are_labels(values: list[str], limits: ArchiveLimits) -> bool:
    counts = Counter(values)
    return (
        len(counts) * 2 <= len(values)
        and counts[values[0]] > 1
        and max(len(value) for value in counts) <= limits.max_label_characters
    )


def _cells(document: str, delimiter: str, name: str, limits: ArchiveLimits) -> Iterator[tuple[int, list[str]]]:
    """Yields (line, cells) of every row that is not blank."""
    reader = csv.reader(io.StringIO(document, newline=""), delimiter=delimiter, strict=True)
    count, line = 0, 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
                count += 1
                if count > limits.max_texts + 1:
                    raise _too_many(name, limits)
            line = reader.line_num + 1
    except csv.Error as error:
        if "field larger" in str(error):
            raise _too_large(line, limits) from error
        message = f"The table cannot be read from line {line} on ({error}). Save it again as CSV."
        raise reject("bad_csv", message, [f"line {line}"]) from error


def _json_lines(document: str, name: str, limits: ArchiveLimits) -> TextTable:
    table = TextTable()
    ignored: dict[str, None] = {}
    for line, raw in enumerate(document.split("\n"), start=1):  # U+2028 may stand in a JSON text
        if not raw.strip():
            continue
        if len(raw) > limits.max_row_bytes:
            raise _too_large(line, limits)
        try:
            entries = json.loads(raw, object_pairs_hook=_unique, parse_constant=_refuse_constant)
        except _DuplicateKeyError as error:
            table.fault("duplicate_key", line, str(error))
            continue
        except (ValueError, RecursionError):
            table.fault("bad_json", line, "not JSON, or nested too deep")
            continue
        if not isinstance(entries, dict):
            table.fault("bad_json", line, "not an object")
        else:
            _add(table, line, entries, ignored)
        if len(table.rows) > limits.max_texts:
            raise _too_many(name, limits)
    table.ignored = tuple(ignored)
    return table


def _add(table: TextTable, line: int, entries: dict[str, Any], ignored: dict[str, None]) -> None:
    keys = list(entries)
    names = [key.strip().casefold() for key in keys]
    columns = {**COLUMNS, "label": (*COLUMNS["label"], LABELS_COLUMN)}
    places = {kind: position_of(names, accepted) for kind, accepted in columns.items()}
    missing = [kind for kind in ("text", "label") if places[kind] is None]
    if missing:
        table.fault("missing_columns", line, f"no {' and no '.join(missing)}")
        return
    ignored.update(dict.fromkeys(key for at, key in enumerate(keys) if at not in places.values()))
    values = {kind: entries[keys[at]] if at is not None else "" for kind, at in places.items()}
    labels = None
    if isinstance(values["label"], list):
        labels, fault = label_set([plain(entry) for entry in values["label"]])
        if fault:
            table.fault(fault[0], line, fault[1])
            return
        values["label"] = ";".join(labels)
    if not isinstance(values["text"], str) or any(isinstance(values[kind], list | dict) for kind in values):
        table.fault("bad_text", line, "the text must be a string, the others strings or numbers")
        return
    strings = {kind: _plain(value) for kind, value in values.items()}
    try:
        "".join(strings.values()).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        table.fault("bad_text", line, "half of a surrogate pair")
        return
    table.rows.append(_row(line, strings, labels))


def _row(line: int, values: dict[str, str], labels: tuple[str, ...] | None = None) -> TextRow:
    return TextRow(line, values["text"], normalize("NFC", values["label"]), values["split"], values["group"], labels)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    return "" if value is None else json.dumps(value)


class _DuplicateKeyError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(key for key, _ in pairs)
    if len(counts) < len(pairs):
        raise _DuplicateKeyError(f"{counts.most_common(1)[0][0]!r} stands there twice")
    return dict(pairs)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _no_columns(missing: list[str], found: list[str]) -> Exception:
    return reject("missing_columns", f"There is no column for {' and '.join(missing)}. {COLUMN_ADVICE}", found)


def _too_many(name: str, limits: ArchiveLimits) -> Exception:
    return reject("too_many_rows", f"There are more than {limits.max_texts:,} rows. Upload fewer.", [name])


def _too_large(line: int, limits: ArchiveLimits) -> Exception:
    message = f"A row is larger than {limits.max_row_bytes >> 20} MiB: is a quotation mark missing?"
    return reject("row_too_large", message, [f"line {line}"])
