"""A data set and its history as the Hub's documents. The clients parse the keys that stand here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetuning.hub.cards import front_matter
from finetuning.hub.repositories import MAIN, DataRepository, id_of, tag_of
from models_catalog.hub.trees import date


def dataset(found: DataRepository, *, card: bool = True) -> dict[str, Any]:
    """Returns the document of one data set, without its files. Nobody but its owner's members ever gets it."""
    row, version, front = found.dataset, found.version, front_matter(found.dataset, found.version)
    document = {
        "_id": f"{row.pk:024x}",
        "id": id_of(row),
        "author": row.owner.name,
        "sha": found.revision.sha,
        "createdAt": date(row.created_at),
        "lastModified": date(version.created_at),
        "private": True,
        "gated": False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "description": f"{row.get_task_display()}, {version.images:,} items",
        "tags": [f"task_categories:{front['task_categories'][0]}", f"license:{front['license']}"],
    }
    return {**document, "cardData": front} if card else document


def references(history: Sequence[DataRepository]) -> dict[str, Any]:
    """Returns `main` and a tag for each version, newest first."""
    main = [{"name": MAIN, "ref": f"refs/heads/{MAIN}", "targetCommit": found.revision.sha} for found in history[:1]]
    tags = [
        {
            "name": tag_of(found.version),
            "ref": f"refs/tags/{tag_of(found.version)}",
            "targetCommit": found.revision.sha,
        }
        for found in history
    ]
    return {"branches": main, "tags": tags, "converts": [], "pullRequests": []}


def commit(found: DataRepository) -> dict[str, Any]:
    return {
        "id": found.revision.sha,
        "title": f"Version {found.version.number}",
        "message": "",
        "date": date(found.version.created_at),
        "authors": [{"user": found.dataset.owner.name}],
    }
