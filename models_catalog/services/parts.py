"""Pieces of files that Hub clients send, on this disk until they are whole: beside the blobs, under a name that the
sweep takes once nothing has come for a day."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from django.conf import settings

from marketplace import storage
from marketplace.errors import Broken, TooLarge


def folder(key: str, *, user: int) -> Path:
    """Returns where the pieces of one upload lie; whether or not it is there. Only the user comes to it by the key."""
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    return Path(settings.STORAGE_DIR) / f"{_prefix(user)}{name}"


def _prefix(user: int) -> str:
    return f"{storage.INCOMING}hub-{user}-"


def held_bytes(user: int) -> int:
    """Returns how many bytes lie in pieces that the user has sent."""
    return sum(size_of(place) for place in Path(settings.STORAGE_DIR).glob(f"{_prefix(user)}*"))


def keep(stream: storage.Readable, path: Path, *, max_bytes: int, exact: bool = False) -> str:
    """Writes the stream under the name, whole or not at all, and returns its MD5, as S3 tags parts.

    Raises TooLarge (`too_large`), Broken (`upload_broken`) where it is shorter than `exact` asks, StorageFull,
    Unavailable (`storage_failed`)."""
    with storage.storing():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    draft = Path(name)
    try:
        with storage.storing(), os.fdopen(descriptor, "wb") as file:
            tag, size = _copied(stream, file, max_bytes)
        if exact and size != max_bytes:
            raise Broken("upload_broken", f"{size} bytes came of {max_bytes}. Send this part again.")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return tag


def keep_empty() -> storage.Blob:
    """Stores the file without content, which clients push as they push others; the store takes none from a person, who
    would not have meant it."""
    root = Path(settings.STORAGE_DIR)
    with storage.storing():
        root.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=root, prefix=storage.INCOMING)
        os.close(descriptor)
    nothing = hashlib.sha256().hexdigest()
    storage.keep(Path(name), nothing)
    return storage.Blob(nothing, 0)


def _copied(stream: storage.Readable, file: BinaryIO, max_bytes: int) -> tuple[str, int]:
    tag, size = hashlib.md5(usedforsecurity=False), 0
    while chunk := storage.read(stream):
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge("too_large", f"This is longer than the {max_bytes} bytes that were announced.")
        tag.update(chunk)
        file.write(chunk)
    return tag.hexdigest(), size


def size_of(place: Path) -> int:
    """Returns how many bytes lie there in pieces that have arrived."""
    return sum(_size(path) for path in place.iterdir() if not path.name.startswith(".")) if place.is_dir() else 0


def _size(path: Path) -> int:
    try:
        status = path.lstat()
    except FileNotFoundError:  # renamed or dropped by another request since it was listed
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def drop(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)


class Joined:
    """Files one after the other, as one stream."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._chunks = self._read(paths)

    @staticmethod
    def _read(paths: Sequence[Path]) -> Iterator[bytes]:
        for path in paths:
            with path.open("rb") as file:
                while chunk := file.read(storage.CHUNK_BYTES):
                    yield chunk

    def read(self, _size: int = -1, /) -> bytes:
        return next(self._chunks, b"")
