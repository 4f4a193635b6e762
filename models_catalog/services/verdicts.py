"""What the engine says of a release, read before it is stored: its words come out of a vendor's files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_LABEL_CHARACTERS = 200
_SHOWN_LABELS = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the files were accepted, and the fields of the release that follow from it."""

    accepted: bool
    fields: dict[str, Any]


def read(result: dict[str, Any]) -> Verdict:
    """Returns the verdict; labels that no database or page can hold turn it into a refusal
    (`config_invalid`)."""
    report, problems = result.get("report", {}), result.get("problems", [])
    accepted = result.get("status") == "accepted"
    if accepted and (bad := [label for label in report.get("labels") or [] if not _is_label(label)]):
        accepted, report, problems = False, {}, [_bad_labels(bad)]
    fields: dict[str, Any] = {"report": {"problems": problems, **report}}
    if accepted:
        shape = report.get("input") or {}
        fields |= {
            "parameters": report.get("parameters"),
            "gflops": report.get("gflops"),
            "labels": report.get("labels") or [],
            "preprocessing": shape,
            "input_size": shape.get("size"),
        }
    return Verdict(accepted, storable(fields))


def _is_label(label: object) -> bool:
    return isinstance(label, str) and len(label) <= MAX_LABEL_CHARACTERS and storable(label) == label


def _bad_labels(labels: list[object]) -> dict[str, Any]:
    return {
        "code": "config_invalid",
        "message": f"A label is text of at most {MAX_LABEL_CHARACTERS} characters without NUL. Mend config.json.",
        "items": [ascii(label)[:80] for label in labels[:_SHOWN_LABELS]],
    }


def storable(value: Any) -> Any:
    """Returns the JSON value without what PostgreSQL refuses in text: NUL and halves of surrogate pairs."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode(errors="replace").decode()
    if isinstance(value, dict):
        return {storable(key): storable(entry) for key, entry in value.items()}
    return [storable(entry) for entry in value] if isinstance(value, list | tuple) else value
