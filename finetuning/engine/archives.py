"""What an uploaded zip may hold, and its files' bytes. Nothing is extracted: names stay data."""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from finetuning.engine.archive_rules import check_entries, refuse
from finetuning.engine.problems import Rejected, reject
from finetuning.engine.spec import ArchiveLimits
from finetuning.engine.zip_directory import (
    LOCAL,
    STORED,
    ByteFile,
    Entry,
    check_layout,
    read_directory,
)

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
TABLE_SUFFIX = ".csv"
METADATA_NAME = "metadata.jsonl"  # of Hugging Face's image folders, one for all images or one for each split
DOCUMENTS = "documents"
TEXT_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})
# What people leave beside their images.
_DOCUMENTS = frozenset({".txt", ".md", ".rst", ".json", ".yaml", ".yml", ".tsv", ".xml", ".log"})
_DOCUMENT_NAMES = frozenset({"readme", "license", "licence", "copying", "changelog"})
_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst", ".jar"})
GZIP_MAGIC = b"\x1f\x8b\x08"
ARCHIVE_MAGIC = (
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"Rar!\x1a\x07",
    b"7z\xbc\xaf\x27\x1c",
    GZIP_MAGIC,
)
_CLUTTER = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})

_CHUNK_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Contents:
    """What the archive holds that matters, and what was left out: `{kind: count}`. The `documents` (text, JSON, XML,
    YAML) are among the skipped; some tasks read a list of classes or annotations of them. `arrays` are files of many
    images each."""

    images: tuple[Entry, ...]
    tables: tuple[Entry, ...]
    skipped: dict[str, int]
    documents: tuple[Entry, ...] = ()
    arrays: tuple[Entry, ...] = ()


class Archive:
    """An opened, fully checked zip. `read` may be called from several threads.

    Raises Rejected with the code of the first rule broken; the rules are in `docs/engine.md`.
    """

    def __init__(
        self, path: Path, limits: ArchiveLimits, *, sort: Callable[[list[Entry]], Contents] | None = None
    ) -> None:
        """`sort` says which files matter to the task; without one, images and their table."""
        self._file = ByteFile(path)
        try:
            entries, directory = read_directory(self._file, limits)
            check_entries(entries, limits)
            check_layout(self._file, entries, directory)
            self.contents = (sort or sort_out)(entries)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, entry: Entry, *, may_be_gzip: bool = False) -> bytes:
        """Returns the entry's bytes, never more than it declares. Raises Rejected: `corrupt_member`,
        `zip_inconsistent`, `nested_archive`."""
        header = LOCAL.unpack(self._file.at(entry.offset, LOCAL.size))
        start = entry.offset + LOCAL.size + header[9] + header[10]
        content = self._file.at(start, entry.compressed) if entry.method == STORED else self._inflate(entry, start)
        if len(content) != entry.size:
            raise reject(
                "zip_inconsistent",
                "A file in the zip is not as long as it says.",
                [entry.name],
            )
        if zlib.crc32(content) != entry.crc:
            raise _corrupt(entry)
        if content.startswith(ARCHIVE_MAGIC) and not (may_be_gzip and content.startswith(GZIP_MAGIC)):
            raise _nested([entry.name])
        return content

    def _inflate(self, entry: Entry, start: int) -> bytes:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        chunks: list[bytes] = []
        room, taken = (
            entry.size + 1,
            0,
        )  # one more than declared shows a lie without following it
        while room > 0 and not inflater.eof and taken < entry.compressed:
            block = self._file.at(start + taken, min(_CHUNK_BYTES, entry.compressed - taken))
            taken += len(block)
            try:
                while room > 0 and block:
                    chunks.append(inflater.decompress(block, room))
                    room -= len(chunks[-1])
                    block = inflater.unconsumed_tail
            except zlib.error as error:
                raise _corrupt(entry) from error
        if room > 0 and (not inflater.eof or inflater.unused_data or taken < entry.compressed):
            raise _corrupt(entry)
        return b"".join(chunks)


def sort_out(entries: list[Entry]) -> Contents:
    """Returns images and tables, and counts what is left out. Raises Rejected: `nested_archive`,
    `file_type`, `zip_empty`."""
    kept, skipped, documents = _without_clutter(entries, _DOCUMENTS)
    readable = IMAGE_SUFFIXES | {TABLE_SUFFIX}
    refuse(
        "file_type",
        "Some files are neither JPEG, PNG or WebP images nor a CSV table. Convert or remove them.",
        [entry for entry in kept if entry.suffix not in readable and not is_metadata(entry)],
    )
    images = tuple(entry for entry in kept if entry.suffix in IMAGE_SUFFIXES)
    if not images:
        hidden = f" ({sum(skipped.values())} hidden or other files were skipped)" if skipped else ""
        raise reject(
            "zip_empty",
            f"The zip holds no JPEG, PNG or WebP images{hidden}. Zip a folder of images.",
        )
    tables = tuple(entry for entry in kept if entry.suffix == TABLE_SUFFIX or is_metadata(entry))
    return Contents(images, tables, dict(sorted(skipped.items())), tuple(documents))


def is_metadata(entry: Entry) -> bool:
    return entry.parts[-1].casefold() == METADATA_NAME


def sort_out_arrays(entries: list[Entry], is_array: Callable[[str], object]) -> Contents:
    """Returns the files of many images each, told by their name, and counts what is left out; without one, what
    `sort_out` does. Raises Rejected: `mixed_formats` where there are images of their own too."""
    files = [entry for entry in entries if not entry.is_directory]
    arrays = [entry for entry in files if is_array(entry.parts[-1])]
    if not arrays:
        return sort_out(entries)
    kept, skipped, documents = _without_clutter([entry for entry in files if entry not in arrays], _DOCUMENTS)
    if kept:
        message = "The zip holds arrays of images and other files. Keep one of the two."
        raise reject("mixed_formats", message, [entry.name for entry in (*arrays, *kept)])
    return Contents((), (), dict(sorted(skipped.items())), tuple(documents), tuple(arrays))


def sort_out_texts(entries: list[Entry]) -> Contents:
    """Returns the tables of texts, and counts what is left out. Raises Rejected: `nested_archive`,
    `file_type`, `zip_empty`."""
    kept, skipped, _ = _without_clutter(entries, _DOCUMENTS - TEXT_SUFFIXES)
    refuse(
        "file_type",
        "Some files are no tables of texts. Save them as CSV UTF-8, TSV or JSON Lines, or remove them.",
        [entry for entry in kept if entry.suffix not in TEXT_SUFFIXES],
    )
    if not kept:
        raise reject("zip_empty", "The zip holds no CSV, TSV or JSON Lines file. Put one with your texts into it.")
    return Contents((), tuple(kept), dict(sorted(skipped.items())))


def _without_clutter(entries: list[Entry], documents: frozenset[str]) -> tuple[list[Entry], Counter[str], list[Entry]]:
    """Returns the files that someone meant to upload, counts of the others by kind, and those of them that are
    documents. Rejects archives."""
    skipped: Counter[str] = Counter()
    kept: list[Entry] = []
    beside: list[Entry] = []
    for entry in (entry for entry in entries if not entry.is_directory):
        kind = _clutter(entry, documents)
        if kind:
            skipped[kind] += 1
            if kind == DOCUMENTS:
                beside.append(entry)
        else:
            kept.append(entry)
    if nested := [entry.name for entry in kept if entry.suffix in _ARCHIVES]:
        raise _nested(nested)
    return kept, skipped, beside


def _clutter(entry: Entry, documents: frozenset[str]) -> str:
    """Returns the kind of a file that no one meant to upload, or an empty string."""
    name, folders = entry.parts[-1], entry.parts[:-1]
    if "__MACOSX" in folders:
        return "__MACOSX"
    if name == ".DS_Store":
        return ".DS_Store"
    if name.casefold() in _CLUTTER:
        return "Thumbs.db" if name.casefold() == "thumbs.db" else "system files"
    if any(folder.startswith(".") for folder in folders):
        return "hidden folders"
    if name.startswith("."):
        return "hidden files"
    stem = os.path.splitext(name)[0].casefold()
    if entry.suffix in documents or (not entry.suffix and stem in _DOCUMENT_NAMES):
        return DOCUMENTS
    return ""


def _corrupt(entry: Entry) -> Rejected:
    return reject(
        "corrupt_member",
        "A file in the zip is damaged. Make the zip again.",
        [entry.name],
    )


def _nested(names: Iterable[str]) -> Rejected:
    return reject(
        "nested_archive",
        "The zip holds other archives. Unpack them first, then zip the images.",
        names,
    )
