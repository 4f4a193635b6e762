"""Data sets as repositories: `main` is the newest version, each version a tag, each revision a digest of its files.

The files are the upload as it came, what the check says of it, and a card. Packs are the trainer's and never leave."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import PurePath

from django.db.models import Prefetch, QuerySet
from rest_framework.request import Request

from finetuning.engine.spec import CARD_FILE
from finetuning.hub import cards
from finetuning.models import Dataset, DatasetVersion
from finetuning.services.datasets import parse_uid
from marketplace import storage
from marketplace.accounts.models.people import NAME_PATTERN
from models_catalog.hub.base import ErrorCode, HubError, no_repository
from models_catalog.hub.trees import Revision, no_entry, no_revision

MAIN = "main"
REPORT, INDEX = "report.json", "index.jsonl"
_NAME = re.compile(NAME_PATTERN)
_PREFIX = re.compile(r"[0-9a-f]{7,40}")
_MAX_NAME_BYTES = 200  # disks take 255 in one name, and clients append to it


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a version: a blob, or a `text` that is written here."""

    path: str
    sha256: str
    bytes: int
    text: str | None = None


@dataclass(frozen=True, slots=True)
class DataRepository:
    """A data set at a version."""

    dataset: Dataset
    version: DatasetVersion
    files: list[DataFile]

    @property
    def revision(self) -> Revision:
        """The same files are the same revision; each version has another card."""
        named = "\n".join(f"{file.sha256} {file.path}" for file in self.files)
        digest = hashlib.sha256(f"{self.dataset.uid}\n{named}".encode()).hexdigest()
        return Revision(digest, tag_of(self.version), self.version.created_at)

    def file(self, path: str) -> DataFile:
        """Returns the file. Raises HubError (EntryNotFound)."""
        for file in self.files:
            if file.path == path:
                return file
        raise no_entry(self.revision.sha)


def tag_of(version: DatasetVersion) -> str:
    return f"v{version.number}"


def id_of(dataset: Dataset) -> str:
    """Returns `namespace/name`, with the data set's id in the place of a name that the clients refuse."""
    return f"{dataset.owner.name}/{dataset.name if _NAME.fullmatch(dataset.name) else dataset.uid}"


def readable(request: Request) -> QuerySet[Dataset]:
    """Returns what the user may read, with its versions."""
    versions = DatasetVersion.objects.select_related("terms").order_by("-number")
    rows = Dataset.objects.visible_to(request.user)
    return rows.select_related("owner", "terms").prefetch_related(Prefetch("versions", versions))


def dataset_of(request: Request, namespace: str, name: str) -> Dataset:
    """Returns the data set by its name or its id. Raises HubError (RepoNotFound), the same for what is another's."""
    rows = readable(request).filter(owner__name__iexact=namespace)
    uid = parse_uid(name)
    found = rows.filter(name=name).first() or (rows.filter(uid=uid).first() if uid else None)
    if found is None:
        raise no_repository(request)
    return found


def repository(request: Request, namespace: str, name: str, revision: str = MAIN) -> DataRepository:
    """Returns the data set at a revision: `main`, a version (`v1`), or a digest, of which seven digits do.
    Raises HubError (RepoNotFound, RevisionNotFound)."""
    dataset = dataset_of(request, namespace, name)
    every = history(dataset)
    if not every:
        text = f"This data set has no version: it is {dataset.get_status_display().lower()}. See its page."
        raise HubError(404, ErrorCode.REVISION, text)
    wanted = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
    if wanted == MAIN:
        return every[0]
    for found in every:
        if tag_of(found.version) == wanted:
            return found
        if _PREFIX.fullmatch(wanted) and found.revision.digest.startswith(wanted):
            return found
    raise no_revision(revision)


def history(dataset: Dataset) -> list[DataRepository]:
    """Returns every version, newest first. There is one for each license that was stated: few."""
    return [at_version(dataset, version) for version in dataset.versions.all()]


def at_version(dataset: Dataset, version: DatasetVersion) -> DataRepository:
    return DataRepository(dataset, version, _files(dataset, version))


def _files(dataset: Dataset, version: DatasetVersion) -> list[DataFile]:
    report = json.dumps(version.report, ensure_ascii=False, sort_keys=True, indent=1)
    upload = _upload_name(dataset)
    card = cards.write(dataset, version, upload=upload, index=INDEX, report=REPORT)
    files = [
        _written(CARD_FILE, card),
        _written(REPORT, report),
        DataFile(INDEX, version.index_sha256, storage.size_of(version.index_sha256) or 0),
        DataFile(upload, dataset.upload_sha256, dataset.upload_bytes),
    ]
    return sorted(files, key=lambda file: file.path)


def _written(path: str, text: str) -> DataFile:
    content = text.encode()
    return DataFile(path, hashlib.sha256(content).hexdigest(), len(content), text)


def _upload_name(dataset: Dataset) -> str:
    """Returns the upload's own name as far as it is one file's, anywhere and beside the others."""
    given = dataset.upload_name.replace("\\", "/").rpartition("/")[2]
    name = "".join(letter for letter in given if letter.isprintable() and letter not in '<>:"|?*').strip(" .")
    while len(name.encode()) > _MAX_NAME_BYTES:
        name = name[1:]
    taken = {CARD_FILE.lower(), REPORT, INDEX}
    return f"upload{PurePath(name).suffix}" if not name or name.lower() in taken else name
