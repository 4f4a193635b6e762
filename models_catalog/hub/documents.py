"""A listing, its files and its history as the Hub's documents. The clients parse the keys that stand here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from models_catalog.hub.repositories import MAIN
from models_catalog.hub.trees import date
from models_catalog.kinds import HUB_TASKS
from models_catalog.models import Commit, Listing, Release
from models_catalog.models.listings import PUBLISHED_ONCE


def hub_task(task: str) -> str:
    return HUB_TASKS.get(task, task)


def gate(release: Release) -> str:
    """Every file but the card needs a license: given at once (`auto`) or by the vendor (`manual`)."""
    return "manual" if release.terms.manual_approval else "auto"


def card_data(listing: Listing, release: Release, bases: Iterable[str]) -> dict[str, Any]:
    """Returns what the front matter of a card says there, from this site's own columns."""
    terms = release.terms
    data: dict[str, Any] = {
        "license": terms.license_id.lower(),
        "library_name": listing.framework,
        "pipeline_tag": hub_task(listing.task),
    }
    if terms.license_id == "other":
        data["license_name"] = terms.name
    return {**data, "base_model": list(bases)} if bases else data


def tags(listing: Listing, release: Release, bases: Iterable[str]) -> list[str]:
    named = [listing.framework, "safetensors", hub_task(listing.task), f"license:{release.terms.license_id.lower()}"]
    return [*named, *(f"base_model:{base}" for base in bases)]


def model(
    listing: Listing, release: Release, *, bases: list[str], downloads: Mapping[str, int], card: bool = True
) -> dict[str, Any]:
    """Returns the document of one model, without its files. `downloads` has `month` and `all`."""
    published = release.published_at or release.created_at
    document = {
        "_id": f"{listing.pk:024x}",
        "id": str(listing),
        "modelId": str(listing),
        "author": listing.namespace.name,
        "sha": release.sha,
        "createdAt": date(listing.created_at),
        "lastModified": date(published),
        "private": not listing.latest_release_id,
        "disabled": False,
        "gated": gate(release),
        "downloads": downloads.get("month", 0),
        "downloadsAllTime": downloads.get("all", 0),
        "likes": listing.review_count,
        "tags": tags(listing, release, bases),
        "pipeline_tag": hub_task(listing.task),
        "library_name": listing.framework,
    }
    if release.parameters:
        document["safetensors"] = {"parameters": {"F32": release.parameters}, "total": release.parameters}
    return {**document, "cardData": card_data(listing, release, bases)} if card else document


def references(head: Release | None, *, releases: Iterable[Release], drafts: Iterable[Release]) -> dict[str, Any]:
    """Returns `main`, the drafts that the reader may see as branches, and what was published as tags."""
    heads = [(MAIN, head)] if head else []
    heads += [(draft.version, draft) for draft in drafts]
    branches = [{"name": name, "ref": f"refs/heads/{name}", "targetCommit": row.sha} for name, row in heads]
    named = [
        {"name": release.version, "ref": f"refs/tags/{release.version}", "targetCommit": release.sha}
        for release in releases
    ]
    return {"branches": branches, "tags": named, "converts": [], "pullRequests": []}


def commit(release: Release, *, author: str) -> dict[str, Any]:
    at = release.published_at or release.created_at
    return {
        "id": release.sha,
        "title": f"Version {release.version}" + ("" if release.status in PUBLISHED_ONCE else " (draft)"),
        "message": release.notes,
        "date": date(at),
        "authors": [{"user": author}],
    }


def draft_commit(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.revision[:40],
        "title": commit.title,
        "message": commit.description,
        "date": date(commit.made_at),
        "authors": [{"user": commit.author.username}] if commit.author else [],
    }
