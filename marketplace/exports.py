"""Tables that leave the site as files, streamed a line at a time."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

# What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def safe_cell(value: object) -> str:
    """Returns the value as text that no spreadsheet runs: what looks like a formula gets a quote in front."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) and not isinstance(value, int | float) else text


def csv_lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yields the lines of a CSV file (RFC 4180)."""
    yield _csv_line(header)
    for row in rows:
        yield _csv_line([safe_cell(value) for value in row])


def _csv_line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def json_lines(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yields one JSON object a line."""
    return (json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
