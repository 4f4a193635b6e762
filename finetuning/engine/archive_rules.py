"""What the directory of an archive may say: names, kinds of file, sizes. No file is read here."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable
from unicodedata import normalize

from finetuning.engine.problems import Rejected, is_printable, reject
from finetuning.engine.spec import ArchiveLimits
from finetuning.engine.zip_directory import DEFLATED, ENCRYPTED, REPARSE_POINT, STORED, Entry

_SMALL_BYTES = 2**20  # below it a high ratio is a blank image, not a bomb
_DRIVE = re.compile(r"^[A-Za-z]:")


def check_entries(entries: list[Entry], limits: ArchiveLimits) -> None:
    """Checks what the directory says of each file, without reading any. Raises Rejected."""
    _check_names(entries, limits)
    refuse(
        "links_not_allowed",
        "The zip holds links or device files. Replace each link by the file that it points to.",
        [entry for entry in entries if _is_special(entry)],
    )
    refuse(
        "encrypted_zip",
        "The zip is protected by a password. Make one without.",
        [entry for entry in entries if entry.flags & ENCRYPTED],
    )
    refuse(
        "unsupported_compression",
        "The zip is compressed in an unusual way. Make it again with the usual method (deflate).",
        [entry for entry in entries if entry.method not in {STORED, DEFLATED}],
    )
    refuse(
        "zip_inconsistent",
        "The zip contradicts itself about the size of its files. Make it again.",
        [
            entry
            for entry in entries
            if (entry.method == STORED and entry.compressed != entry.size) or (entry.is_directory and entry.size)
        ],
    )
    _check_sizes(entries, limits)
    _check_twins(entries)


def _check_names(entries: list[Entry], limits: ArchiveLimits) -> None:
    refuse(
        "bad_name",
        "Some names hold control or invisible characters. Rename these files.",
        [entry for entry in entries if not entry.parts or not is_printable(entry.name)],
    )
    refuse(
        "unsafe_path",
        "Some names point outside the zip. Zip the folder itself, with relative paths.",
        [entry for entry in entries if _is_unsafe(entry.name)],
    )
    refuse(
        "name_too_long",
        f"Some names are over {limits.max_name_bytes} bytes long or more than {limits.max_depth} folders "
        "deep. Shorten them.",
        [
            entry
            for entry in entries
            if len(entry.parts) > limits.max_depth + 1
            or any(len(part.encode()) > limits.max_name_bytes for part in entry.parts)
        ],
    )


def _is_unsafe(name: str) -> bool:
    return name.startswith("/") or "\\" in name or bool(_DRIVE.match(name)) or ".." in name.split("/")


def _is_special(entry: Entry) -> bool:
    kind = stat.S_IFMT(entry.mode)
    return kind not in {0, stat.S_IFREG, stat.S_IFDIR} or bool(entry.attributes & REPARSE_POINT)


def _check_sizes(entries: list[Entry], limits: ArchiveLimits) -> None:
    total = sum(entry.size for entry in entries)
    packed = sum(entry.compressed for entry in entries)
    bombs = [
        entry for entry in entries if entry.size > _SMALL_BYTES and entry.size > limits.max_ratio * entry.compressed
    ]
    if bombs or total > limits.max_total_bytes or (total > _SMALL_BYTES and total > limits.max_ratio * packed):
        raise reject(
            "zip_bomb",
            f"Unpacked, the zip would be {total / 2**20:,.0f} MiB or more than {limits.max_ratio:.0f} times "
            f"its size; the limit is {limits.max_total_bytes / 2**20:,.0f} MiB. Upload fewer files.",
            (entry.name for entry in bombs),
        )
    refuse(
        "file_too_large",
        f"Some files are over {limits.max_file_bytes / 2**20:.0f} MiB. Save these images smaller.",
        [entry for entry in entries if entry.size > limits.max_file_bytes],
    )


def _check_twins(entries: list[Entry]) -> None:
    """Refuses names that one disk or another takes for the same."""
    seen: dict[str, Entry] = {}
    files: dict[str, Entry] = {}
    for entry in entries:
        key = normalize("NFC", "/".join(entry.parts).casefold())
        if key in seen:
            raise _twins(seen[key], entry)
        seen[key] = entry
        if not entry.is_directory:
            files[key] = entry
    for key, entry in seen.items():
        parts = key.split("/")
        for depth in range(1, len(parts)):
            if twin := files.get("/".join(parts[:depth])):
                raise _twins(twin, entry)


def refuse(code: str, message: str, entries: Iterable[Entry]) -> None:
    if names := [entry.name for entry in entries]:
        raise reject(code, message, names)


def _twins(first: Entry, second: Entry) -> Rejected:
    return reject(
        "duplicate_name",
        "Two names are the same, or differ only in case or accents' encoding. Rename one.",
        [first.name, second.name],
    )
