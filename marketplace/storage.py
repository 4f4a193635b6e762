"""Content-addressed blobs: a file is stored once under its SHA-256 and never changes.

A blob appears under its name only when it is whole: temporary name, fsync, rename, fsync of the directories.
Storing the same bytes again makes the blob young again, so that `remove_if_old` cannot take what was just stored.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from django.conf import settings

from marketplace.errors import Broken, Invalid, StorageFull, TooLarge, Unavailable

CHUNK_BYTES = 1024 * 1024
INCOMING = "incoming-"  # prefix of a blob that is not whole yet
_LOCK = ".lock"  # shared by those who store, held alone by whoever removes
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Blob:
    sha256: str
    bytes: int


def path_of(sha256: str) -> Path:
    """Returns the blob's path on disk, whether or not it is there."""
    if not _SHA256.fullmatch(sha256):
        raise ValueError("not a SHA-256 in hexadecimal")
    return Path(settings.STORAGE_DIR) / sha256[:2] / sha256[2:4] / sha256


def exists(sha256: str) -> bool:
    return path_of(sha256).is_file()


def put(stream: Readable, *, max_bytes: int, expected_sha256: str = "") -> Blob:
    """Stores the stream in constant memory and returns its digest and size.

    Raises TooLarge (`too_large`), Invalid (`empty_file`, `checksum_mismatch`), Broken (`upload_broken`) where
    the sender went away, StorageFull, Unavailable (`storage_failed`); nothing is left behind then."""
    with _storing():
        root = Path(settings.STORAGE_DIR)
        root.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=root, prefix=INCOMING)
    partial = Path(name)
    try:
        with _storing(), os.fdopen(descriptor, "wb") as file:
            blob = _copy(stream, file, max_bytes)
            file.flush()
            os.fsync(file.fileno())
        if expected_sha256 and blob.sha256 != expected_sha256.lower():
            raise Invalid("checksum_mismatch", "The file arrived damaged: its SHA-256 differs. Send it again.")
        with _storing():
            _publish(partial, path_of(blob.sha256))
    finally:
        partial.unlink(missing_ok=True)
    return blob


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    """Says what a failing disk means for the person who waits."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(
                "storage_full", "The server's disk is full. Tell its operator, try again later."
            ) from error
        raise Unavailable("storage_failed", "The server could not store the file. Try again later.") from error


def put_file(path: Path, *, max_bytes: int = 2**40) -> Blob:
    with path.open("rb") as file:
        return put(file, max_bytes=max_bytes)


def _copy(stream: Readable, file: BinaryIO, max_bytes: int) -> Blob:
    digest, size = hashlib.sha256(), 0
    while chunk := _read(stream):
        size += len(chunk)
        if size > max_bytes:
            raise TooLarge("too_large", f"The file is larger than the limit of {max_bytes / 2**20:,.0f} MiB.")
        digest.update(chunk)
        file.write(chunk)
    if size == 0:
        raise Invalid("empty_file", "The file is empty. Choose a file with content.")
    return Blob(digest.hexdigest(), size)


def _read(stream: Readable) -> bytes:
    try:
        return stream.read(CHUNK_BYTES)
    except OSError as error:  # Django's UnreadablePostError among them
        raise Broken("upload_broken", "The upload broke off. Send the file again.") from error


def _publish(partial: Path, target: Path) -> None:
    partial.chmod(0o440)
    with _locked(fcntl.LOCK_SH):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
    # The folders above may be new: a name is only as durable as the way to it.
    for folder in (target.parent, target.parent.parent, target.parent.parent.parent):
        _sync(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(kind: int) -> Iterator[None]:
    """Holds the store's lock; each opening of the file is a holder of its own, so that threads count too."""
    with (Path(settings.STORAGE_DIR) / _LOCK).open("ab") as file:
        fcntl.flock(file, kind)
        yield


def stored() -> Iterator[str]:
    """Yields the name of each blob on the disk."""
    for path in sorted(Path(settings.STORAGE_DIR).glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*")):
        if _SHA256.fullmatch(path.name):
            yield path.name


def is_old(sha256: str, *, before: datetime) -> bool:
    """Whether the blob was last stored before that time; False where it is gone."""
    try:
        return path_of(sha256).stat().st_mtime < before.timestamp()
    except FileNotFoundError:
        return False


def remove_if_old(sha256: str, *, before: datetime) -> int | None:
    """Removes a blob that was last stored before that time and returns its size; None where it stays.

    Under the lock nobody stores: who stored the same bytes a moment ago made it young, who does so a moment later
    writes it anew."""
    with _locked(fcntl.LOCK_EX):
        if not is_old(sha256, before=before):
            return None
        path = path_of(sha256)
        size = path.stat().st_size
        path.unlink()
        return size


def is_whole(sha256: str) -> bool:
    """Reads the blob and says whether it still has the bytes that gave it its name."""
    digest = hashlib.sha256()
    for chunk in chunks(sha256):
        digest.update(chunk)
    return digest.hexdigest() == sha256


def open_blob(sha256: str) -> BinaryIO:
    """Opens the blob. Raises Unavailable (`file_missing`) when the disk does not hold it."""
    try:
        return path_of(sha256).open("rb")
    except FileNotFoundError as error:
        raise Unavailable("file_missing", "The server has lost this file. Tell its operator.") from error


def chunks(sha256: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
    """Yields `length` bytes of the blob from `start`."""
    with open_blob(sha256) as file:
        file.seek(start)
        left = length if length is not None else -1
        while left and (chunk := file.read(CHUNK_BYTES if left < 0 else min(CHUNK_BYTES, left))):
            left -= len(chunk) if left > 0 else 0
            yield chunk


def link_into(sha256: str, path: Path) -> None:
    """Makes the blob readable at `path`: a hard link where the disk allows it, else a copy."""
    source = path_of(sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        path.hardlink_to(source)
    except FileNotFoundError as error:
        raise Unavailable("file_missing", "The server has lost this file. Tell its operator.") from error
    except OSError:  # another file system
        shutil.copyfile(source, path)


def put_bytes(content: bytes) -> Blob:
    return put(io.BytesIO(content), max_bytes=max(1, len(content)))
