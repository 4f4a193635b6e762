"""The card of a data set's version: what the check found and which file is what, under the Hub's front matter."""

from __future__ import annotations

from typing import Any

from finetuning.models import Dataset, DatasetVersion
from models_catalog import cards
from models_catalog.kinds import HUB_TASKS
from models_catalog.presets import OWN_DATA

_NOT_THE_HUBS = frozenset({"other", OWN_DATA.license_id})  # licenses that the Hub's list does not name


def front_matter(dataset: Dataset, version: DatasetVersion) -> dict[str, Any]:
    terms = version.terms or OWN_DATA  # uploads from before the question are the owner's own
    license_id = terms.license_id.lower()
    is_named_there = license_id not in _NOT_THE_HUBS
    data = {
        "pretty_name": " ".join(dataset.name.split()),
        "license": license_id if is_named_there else "other",
        "task_categories": [HUB_TASKS.get(dataset.task, dataset.task)],
    }
    return data if is_named_there else {**data, "license_name": terms.name}


def write(dataset: Dataset, version: DatasetVersion, *, upload: str, index: str, report: str) -> str:
    """Returns the text of README.md; the same version has the same text."""
    front, terms = front_matter(dataset, version), version.terms or OWN_DATA
    what = f"{dataset.get_task_display()}: {version.images:,} items, {len(version.labels):,} classes."
    which = f"Version {version.number}, of {version.created_at:%Y-%m-%d}."
    return cards.write(
        front,
        f"# {front['pretty_name']}\n\n{what} {which} License, as the owner states it: {terms.name}.\n\n"
        f"- `{upload}`: the upload as it came.\n"
        f"- `{index}`: a line for each item that was kept: its place in the upload, its label, its split.\n"
        f"- `{report}`: what the check found.",
    )
