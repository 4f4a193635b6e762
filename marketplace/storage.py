"""Content-addressed blobs: a file is stored once under its SHA-256 and never changes.

A blob appears under its name only when it is whole: temporary name, fsync, rename, fsync of the directory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from django.conf import settings

from marketplace.errors import Broken, Invalid, StorageFull, TooLarge, Unavailable

CHUNK_BYTES = 1024 * 1024
INCOMING = "incoming-"  # prefix of a blob that is not whole yet
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
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.chmod(0o440)
    partial.replace(target)
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


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
