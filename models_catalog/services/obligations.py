"""What must go along with a release: license texts, notices, credit, a statement of changes and an ML-BOM.

The documents are the same bytes for every reader: an ancestor that is not in the catalog any more is told by its
digest and license alone. They are no files of the release, whose manifest they do not change (docs/adr/0017).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import count

from django.http import Http404

from marketplace import storage
from marketplace.archives import Archive, Entry, layout
from models_catalog.family import ancestors_and_edges
from models_catalog.models import LineageEdge, Release
from models_catalog.models.lineage import Relation
from models_catalog.plain_words import in_plain_words
from models_catalog.presets import OWN_DATA
from models_catalog.services import mlbom
from models_catalog.terms import Terms

FOLDER = "OBLIGATIONS"  # in an archive of the release, where its own files keep their paths
BOM_FILE = "ml-bom.cdx.json"
CREDIT_FILE = "ATTRIBUTION.txt"
_NOTICE_NAMES = ("NOTICE", "NOTICE.txt", "NOTICE.md")
_LICENSE_NAMES = ("LICENSE", "LICENSE.txt", "LICENSE.md")
MAX_NOTICE_BYTES = 2**20  # of one vendor's file; more of it is left out, and said


@dataclass(frozen=True, slots=True)
class Document:
    path: str
    content: bytes
    title: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def bytes(self) -> int:
        return len(self.content)

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def content_type(self) -> str:
        """Plain text whatever the vendor wrote into it: nothing of it is ever rendered."""
        is_bom = self.path == BOM_FILE
        return "application/vnd.cyclonedx+json; version=1.6" if is_bom else "text/plain; charset=utf-8"


def documents(release: Release) -> list[Document]:
    """Returns the documents of a release that was published. Reads the lineage, and the notices and license files
    that vendors gave. Raises Unavailable (`file_missing`)."""
    ancestors, edges = ancestors_and_edges(release)
    chain = [release, *ancestors]
    bom = mlbom.bom(release, ancestors=ancestors, edges=edges, at=_date(release))
    return [
        _document("README.md", _overview(release, ancestors), "What you must do, in plain words"),
        _document(CREDIT_FILE, _attribution(chain, _data(edges)), "The credit to show"),
        _document("NOTICE.txt", _notices(chain), "Notices of this model and of all that it comes from"),
        _document("CHANGES.md", _changes(release, chain, edges), "What was changed"),
        *_license_texts(chain, _data(edges)),
        Document(BOM_FILE, bom, "ML-BOM (CycloneDX 1.6)"),
    ]


def _data(edges: list[LineageEdge]) -> dict[str, tuple[str, Terms]]:
    """The data of the lineage by digest, with name and terms. An owner's own data ask for nothing."""
    return {
        edge.dataset_sha256: (edge.dataset_name, edge.terms.value)
        for edge in edges
        if edge.dataset_sha256 and edge.terms is not None and edge.terms.license_id != OWN_DATA.license_id
    }


def document(release: Release, path: str) -> Document:
    """Returns one of them, or raises Http404."""
    found = next((item for item in documents(release) if item.path == path), None)
    if found is None:
        raise Http404
    return found


def _document(path: str, text: str, title: str) -> Document:
    return Document(path, f"{text.strip()}\n".encode(), title)


def name_of(row: Release, release: Release) -> str:
    """The release by name; an ancestor that is not in the catalog any more by its digest."""
    known = row.pk == release.pk or row.is_live
    return str(row) if known else f"a private model ({row.manifest_sha256[:12]})"


def _overview(release: Release, ancestors: list[Release]) -> str:
    plain = in_plain_words(release.terms.value)
    lines = [
        f"# Obligations of {release}",
        "",
        f"Revision {release.manifest_sha256}, under “{release.terms.name}”.",
        "",
        "## You must",
        *(f"- {duty}" for duty in plain.must or ["Nothing beyond the license's text"]),
        "",
        "## You may not",
        *(f"- {limit}" for limit in plain.may_not or ["Nothing more than the license's text says"]),
        "",
        "## It comes from",
        *(
            [f"- {name_of(row, release)}, under “{row.terms.name}” ({row.manifest_sha256})" for row in ancestors]
            or ["- no other model of this catalog"]
        ),
        "",
        "## In this folder",
        "- ATTRIBUTION.txt: the credit to show",
        "- NOTICE.txt: notices to keep",
        "- CHANGES.md: what was changed",
        "- licenses/: each license's text, once",
        f"- {BOM_FILE}: all of this for programs, as a CycloneDX ML-BOM",
    ]
    return "\n".join(lines)


def _attribution(chain: list[Release], data: dict[str, tuple[str, Terms]]) -> str:
    """One line for the release, each ancestor and licensed data, and the credits that their terms word; each line
    once."""
    release = chain[0]
    lines: dict[str, None] = {}
    for row in chain:
        if row.pk == release.pk or row.is_live:
            vendor = row.listing.namespace.name
            lines[f"{row.listing.title} ({row}) by {vendor}, licensed under {row.terms.name}."] = None
        else:
            lines[f"A model with the digest {row.manifest_sha256}, licensed under {row.terms.name}."] = None
    for name, terms in data.values():
        lines[f"The data “{name}”, licensed under {terms.name}."] = None
    for terms in (*(row.terms.value for row in chain), *(terms for _, terms in data.values())):
        lines |= dict.fromkeys(line.strip() for line in terms.attribution_text.splitlines() if line.strip())
    return "\n".join(lines)


def _notices(chain: list[Release]) -> str:
    """The NOTICE files along the chain, the release's own first; the same text once."""
    parts: dict[str, str] = {}
    for row in chain:
        for sha256, path, size in _given(row, _NOTICE_NAMES):
            if sha256 not in parts:
                parts[sha256] = f"== {path} of {name_of(row, chain[0])} ==\n\n{_text_of(sha256, size)}"
    return "\n\n".join(parts.values()) or "Neither this model nor any that it comes from has a NOTICE file."


def _given(row: Release, names: tuple[str, ...]) -> list[tuple[str, str, int]]:
    return [(file.sha256, file.path, file.bytes) for file in row.artifacts.all() if file.path in names]


def _text_of(sha256: str, size: int) -> str:
    with storage.open_blob(sha256) as content:
        text = content.read(MAX_NOTICE_BYTES).decode("utf-8", errors="replace").strip()
    return text if size <= MAX_NOTICE_BYTES else f"{text}\n\n[cut here: the file has {size} bytes]"


def _changes(release: Release, chain: list[Release], edges: list[LineageEdge]) -> str:
    rows = {row.pk: row for row in chain}
    lines = [f"# Changes in {release}", ""]
    own = [edge for edge in edges if edge.child_id == release.pk]
    for edge in own:
        if edge.parent_id is None:
            lines.append(f"- Trained on the dataset “{edge.dataset_name}” ({edge.dataset_sha256}).")
        else:
            lines.append(f"- {_RELATIONS[Relation(edge.relation)]} {name_of(rows[edge.parent_id], release)}.")
            lines += [f"  - {line}" for line in _differences(release, rows[edge.parent_id])]
    if not own:
        lines.append("This release was made from no other model of this catalog: it is the original.")
    if release.notes:
        lines += ["", f"The vendor says: {release.notes}"]
    return "\n".join(lines)


_RELATIONS = {
    Relation.FINETUNE: "Fine-tuned from",
    Relation.ADAPTER: "An adapter of",
    Relation.MERGE: "Merged from",
    Relation.QUANTIZED: "Quantized from",
    Relation.DISTILLED: "Distilled from",
    Relation.COPY: "The same weights as",
}


def _differences(release: Release, parent: Release) -> list[str]:
    """What became of the parent's files, by their digests."""
    mine = {file.path: file.sha256 for file in release.artifacts.all()}
    theirs = {file.path: file.sha256 for file in parent.artifacts.all()}
    groups = {
        "unchanged": [path for path in mine if theirs.get(path) == mine[path]],
        "changed": [path for path in mine if path in theirs and theirs[path] != mine[path]],
        "added": [path for path in mine if path not in theirs],
    }
    return [f"{word}: {', '.join(sorted(paths))}" for word, paths in groups.items() if paths]


def _license_texts(chain: list[Release], data: dict[str, tuple[str, Terms]]) -> list[Document]:
    """The texts of the terms and the LICENSE files that vendors gave; the same text once, by its SHA-256."""
    found: dict[str, Document] = {}
    for row in chain:
        _keep_terms(found, row.terms.value)
        for sha256, path, size in _given(row, _LICENSE_NAMES):
            _keep(found, _text_of(sha256, size), sha256, "LICENSE", f"{path} of {name_of(row, chain[0])}")
    for _, terms in data.values():
        _keep_terms(found, terms)
    return list(found.values())


def _keep_terms(found: dict[str, Document], terms: Terms) -> None:
    name = terms.spdx_id or terms.license_id if terms.license_id != "other" else terms.name
    _keep(found, terms.text, terms.text_sha256, name, terms.name)


def _keep(found: dict[str, Document], text: str, sha256: str, name: str, title: str) -> None:
    if not text.strip() or sha256 in found:
        return
    stem = re.sub(r"[^A-Za-z0-9.\-]+", "-", name).strip("-.")[:60] or "license"
    taken = {document.path for document in found.values()}
    path = f"licenses/{stem}.txt"
    found[sha256] = _document(path if path not in taken else f"licenses/{stem}-{sha256[:8]}.txt", text, title)


def bundle(release: Release) -> Archive:
    """Returns the documents as one zip."""
    return layout(_entries(release, folder=""), at=_date(release))


def everything(release: Release) -> Archive:
    """Returns all files of the release as they are, and the documents in a folder beside them, as one zip."""
    files = {file.path: storage.Blob(file.sha256, file.bytes) for file in release.artifacts.all()}
    return beside(files, release, at=_date(release))


def beside(files: Mapping[str, storage.Blob], release: Release, *, at: datetime) -> Archive:
    """Returns `files`, the release's or what was made from it, with the release's documents in a folder, as one zip."""
    entries = [Entry(path, blob.bytes, blob_sha256=blob.sha256) for path, blob in files.items()]
    return layout([*entries, *_entries(release, folder=f"{_folder(files)}/")], at=at)


def _folder(paths: Iterable[str]) -> str:
    """Returns a folder that none of the files lies in, so that none passes for a document of this site."""
    taken = {path.partition("/")[0].lower() for path in paths}
    names = (FOLDER if number == 1 else f"{FOLDER}-{number}" for number in count(1))
    return next(name for name in names if name.lower() not in taken)


def _entries(release: Release, *, folder: str) -> list[Entry]:
    return [Entry(f"{folder}{entry.path}", entry.bytes, entry.content) for entry in documents(release)]


def _date(release: Release) -> datetime:
    return release.published_at or release.created_at


def zip_name(release: Release, *what: str) -> str:
    """Returns the file name of an archive of the release."""
    return "-".join([release.listing.namespace.name, release.listing.name, release.version, *what]) + ".zip"
