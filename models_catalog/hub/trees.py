"""Files at a revision as Hub clients read them, of models here and of data sets in the app above: trees, lists, and the
headers beside a file's bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from django.http import HttpResponse, HttpResponseBase
from rest_framework.request import Request

from models_catalog.hub.base import ErrorCode, HubError, answer

MAX_PATHS = 1000
POINTER_BYTES = 135  # of a Git LFS pointer, which nothing here has: the clients want a number
TRUE = frozenset({"true", "1", "True"})


class File(Protocol):
    @property
    def path(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    @property
    def bytes(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Revision:
    """`digest` has 64 digits, of which the clients see 40; `title` is what the commit is called that made it."""

    digest: str
    title: str
    at: datetime

    @property
    def sha(self) -> str:
        return self.digest[:40]


def date(at: datetime) -> str:
    """Returns the instant as the clients parse it: UTC with a final Z, never an offset."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def split_revision(rest: str) -> tuple[str, str]:
    """Returns (revision, path) of the end of an address: WSGI hands both over decoded. A revision of this site has no
    slash but for `refs/heads/...` and `refs/tags/...`."""
    parts = rest.split("/")
    size = 3 if parts[:2] in (["refs", "heads"], ["refs", "tags"]) else 1
    return "/".join(parts[:size]), "/".join(parts[size:])


def no_revision(revision: str) -> HubError:
    return HubError(404, ErrorCode.REVISION, f"Invalid rev id: {revision}")


def no_entry(sha: str) -> HubError:
    """It names the revision: a client that knows where a file is missing does not ask for it again."""
    return HubError(404, ErrorCode.ENTRY, "Entry not found", X_Repo_Commit=sha)


def siblings(files: Iterable[File], *, blobs: bool) -> list[dict[str, Any]]:
    if not blobs:
        return [{"rfilename": file.path} for file in files]
    return [
        {
            "rfilename": file.path,
            "size": file.bytes,
            "blobId": file.sha256,
            "lfs": {"sha256": file.sha256, "size": file.bytes, "pointerSize": POINTER_BYTES},
        }
        for file in files
    ]


def tree(request: Request, path: str, *, files: Sequence[File], revision: Revision) -> HttpResponse:
    """Answers with files and folders below a path. Raises HubError (EntryNotFound)."""
    asked = request.query_params
    recursive, expand = (asked.get(wish, "") in TRUE for wish in ("recursive", "expand"))
    entries = _entries(files, path.strip("/"), revision=revision, recursive=recursive, expand=expand)
    if entries is None:
        raise no_entry(revision.sha)
    return answer(entries)


def paths(request: Request, *, files: Sequence[File], revision: Revision) -> HttpResponse:
    """Answers with the files and folders that a form or a JSON body names; unknown ones are left out. Raises HubError
    (400)."""
    sent: Any = request.data if isinstance(request.data, dict) else {}  # a form is a dict, too
    wanted = sent.getlist("paths") if hasattr(sent, "getlist") else sent.get("paths", [])
    expand = str(sent.get("expand", "")).lower() == "true"
    if not isinstance(wanted, list) or len(wanted) > MAX_PATHS:
        raise HubError(400, ErrorCode.NONE, f"Send `paths`, at most {MAX_PATHS}.")
    every = _entries(files, "", revision=revision, recursive=True, expand=expand) or []
    asked = {str(path).strip("/") for path in wanted}
    return answer([entry for entry in every if entry["path"] in asked])


def _entries(
    files: Sequence[File], path: str, *, revision: Revision, recursive: bool, expand: bool
) -> list[dict[str, Any]] | None:
    """Returns files and folders below a path, sorted; None where nothing is there."""
    inside = f"{path}/" if path else ""
    rows = [file for file in files if file.path.startswith(inside)]
    if path and not rows:
        return None
    folders: set[str] = set()
    entries = []
    for file in rows:
        steps = file.path[len(inside) :].split("/")[:-1]
        folders.update(inside + "/".join(steps[:depth]) for depth in range(1, len(steps) + 1))
        if recursive or not steps:
            entries.append(_entry(file))
    shown = folders if recursive else {name for name in folders if "/" not in name[len(inside) :]}
    entries += [{"type": "directory", "path": name, "size": 0, "oid": revision.digest} for name in shown]
    beside = {"lastCommit": {"id": revision.sha, "title": revision.title, "date": date(revision.at)}} if expand else {}
    return [{**entry, **beside} for entry in sorted(entries, key=lambda row: str(row["path"]))]


def _entry(file: File) -> dict[str, Any]:
    """Returns a file of a tree. Every file is told as a large one, so that clients check it by its SHA-256."""
    lfs = {"oid": file.sha256, "size": file.bytes, "pointerSize": POINTER_BYTES}
    return {"type": "file", "path": file.path, "size": file.bytes, "oid": file.sha256, "lfs": lfs}


def linked(response: HttpResponseBase, *, file: File, sha: str) -> HttpResponseBase:
    """Returns the answer with what the clients keep a file by: its revision, its digest and its whole size."""
    response["X-Repo-Commit"] = sha
    response["X-Linked-Etag"] = f'"{file.sha256}"'
    response["X-Linked-Size"] = str(file.bytes)
    return response
