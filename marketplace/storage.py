"""Content-addressed blobs: a file is stored once under its SHA-256 and never changes.

A blob appears under its name only when it is whole: temporary name, fsync, rename, fsync of the directories.
Storing the same bytes again makes the blob young again, so that `remove_if_old` cannot take what was just stored.
The blobs lie on this machine's disk or, with STORAGE_BUCKET, in a bucket (`buckets`); then the disk holds copies of those
that a program needed as files, each checked against its name as it came.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
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

from finetuning.engine.crash_points import Point, reach
from marketplace import buckets
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


def is_digest(text: str) -> bool:
    """Whether this is a SHA-256 as blobs are named: 64 hexadecimal digits, small ones."""
    return _SHA256.fullmatch(text) is not None


def path_of(sha256: str) -> Path:
    """Returns the path on this disk of the blob, or of its copy; whether or not it is there."""
    if not is_digest(sha256):
        raise ValueError("not a SHA-256 in hexadecimal")
    return Path(settings.STORAGE_DIR) / sha256[:2] / sha256[2:4] / sha256


def exists(sha256: str) -> bool:
    return size_of(sha256) is not None


def size_of(sha256: str) -> int | None:
    """Returns the blob's size in bytes; None where the store does not hold it."""
    found = _look(sha256)
    return found[0] if found else None


def _look(sha256: str) -> tuple[int, float] | None:
    """Returns size and the time of the last storing, in seconds since the epoch."""
    path = path_of(sha256)
    if settings.STORAGE_BUCKET:
        found = buckets.bucket().look(sha256)
        return (found[0], found[1].timestamp()) if found else None
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, status.st_mtime


def fault() -> str:
    """Returns why nothing could be stored just now; "" where nothing speaks against it."""
    if settings.STORAGE_BUCKET and not buckets.bucket().answers():
        return "storage_unreachable"
    settings.STORAGE_DIR.mkdir(parents=True, exist_ok=True)
    return "" if os.access(settings.STORAGE_DIR, os.W_OK) else "storage_read_only"


def put(stream: Readable, *, max_bytes: int, expected_sha256: str = "") -> Blob:
    """Stores the stream in constant memory and returns its digest and size.

    Raises TooLarge (`too_large`), Invalid (`empty_file`, `checksum_mismatch`), Broken (`upload_broken`) where
    the sender went away, StorageFull, Unavailable (`storage_failed`); nothing is left behind then."""
    return _put(iter(lambda: read(stream), b""), max_bytes=max_bytes, expected_sha256=expected_sha256)


def _put(content: Iterator[bytes], *, max_bytes: int, expected_sha256: str = "") -> Blob:
    with storing():
        root = Path(settings.STORAGE_DIR)
        root.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=root, prefix=INCOMING)
    partial = Path(name)
    try:
        with storing(), os.fdopen(descriptor, "wb") as file:
            blob = _copy(content, file, max_bytes)
            file.flush()
            reach(Point.BLOB_WRITTEN)
            os.fsync(file.fileno())
        reach(Point.BLOB_SYNCED)
        _require_digest(blob, expected_sha256)
        keep(partial, blob.sha256)
    finally:
        partial.unlink(missing_ok=True)
    return blob


def keep(partial: Path, sha256: str) -> None:
    """Makes a blob of a file in STORAGE_DIR that is whole, synced, and has that digest; the file is gone then.
    Raises StorageFull, Unavailable (`storage_failed`)."""
    if settings.STORAGE_BUCKET:
        buckets.bucket().upload(partial, sha256)
        partial.unlink(missing_ok=True)
    else:
        with storing():
            _publish(partial, path_of(sha256))
    reach(Point.BLOB_STORED)


def settle(source: Readable | Blob, *, max_bytes: int, expected_sha256: str = "") -> Blob:
    """Returns the blob of a source that may be one already. Raises what `put` raises."""
    if not isinstance(source, Blob):
        return put(source, max_bytes=max_bytes, expected_sha256=expected_sha256)
    _require_size(source.bytes, max_bytes)
    _require_digest(source, expected_sha256)
    return source


@contextlib.contextmanager
def storing() -> Iterator[None]:
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
    """Stores what this site has made itself: the disk's reserve is there for that."""
    with path.open("rb") as file:
        return put_own(pieces(file), max_bytes=max_bytes)


def put_own(content: Iterator[bytes], *, max_bytes: int = 2**40) -> Blob:
    """The same, piece by piece. What `content` raises ends it, and nothing is left behind then."""
    return _put(content, max_bytes=max_bytes)


def pieces(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(CHUNK_BYTES), b"")


def _copy(content: Iterator[bytes], file: BinaryIO, max_bytes: int) -> Blob:
    digest, size = hashlib.sha256(), 0
    for chunk in content:
        size += len(chunk)
        _require_size(size, max_bytes)
        digest.update(chunk)
        file.write(chunk)
    if size == 0:
        raise Invalid("empty_file", "The file is empty. Choose a file with content.")
    return Blob(digest.hexdigest(), size)


def _require_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise TooLarge("too_large", f"The file is larger than the limit of {max_bytes / 2**20:,.0f} MiB.")


def _require_digest(blob: Blob, expected_sha256: str) -> None:
    if expected_sha256 and blob.sha256 != expected_sha256.lower():
        raise Invalid("checksum_mismatch", "The file arrived damaged: its SHA-256 differs. Send it again.")


def read(stream: Readable) -> bytes:
    """Returns the next bytes of what somebody sends, while the disk has room for them. Raises Broken
    (`upload_broken`), StorageFull."""
    require_room(CHUNK_BYTES)
    try:
        return stream.read(CHUNK_BYTES)
    except OSError as error:  # Django's UnreadablePostError among them
        raise Broken("upload_broken", "The upload broke off. Send the file again.") from error


def room() -> int:
    """Returns for how many bytes of what people send the disk has room: its reserve is not for them. May be negative."""
    root = Path(settings.STORAGE_DIR)
    with storing():
        root.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(root).free - int(settings.MIN_FREE_DISK_BYTES)


def require_room(size: int) -> None:
    """Raises StorageFull where the disk has no room for so many bytes of what people send."""
    if room() < size:
        raise StorageFull("storage_full", "The server's disk has no room for this file. Tell its operator.")


def _publish(partial: Path, target: Path) -> None:
    partial.chmod(0o440)
    with _locked(fcntl.LOCK_SH):
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
    reach(Point.BLOB_RENAMED)
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


def drop_broken_uploads() -> int:
    """Drops what killed processes left in the bucket, and returns how many uploads those were."""
    return buckets.bucket().abort_stale() if settings.STORAGE_BUCKET else 0


def stored() -> Iterator[str]:
    """Yields the name of each blob."""
    names = buckets.bucket().names() if settings.STORAGE_BUCKET else (path.name for path in on_disk())
    yield from (name for name in names if is_digest(name))


def on_disk() -> list[Path]:
    """Returns the files of this disk that are named as blobs: the blobs themselves, or copies."""
    return sorted(Path(settings.STORAGE_DIR).glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*"))


def is_old(sha256: str, *, before: datetime) -> bool:
    """Whether the blob was last stored before that time; False where it is gone."""
    found = _look(sha256)
    return found is not None and found[1] < before.timestamp()


def remove_if_old(sha256: str, *, before: datetime) -> int | None:
    """Removes a blob that was last stored before that time and returns its size; None where it stays.

    Under the lock nobody stores: who stored the same bytes a moment ago made it young, who does so a moment later
    writes it anew."""
    if settings.STORAGE_BUCKET:
        with buckets.removing():
            if not is_old(sha256, before=before):
                return None
            gone = size_of(sha256)
            buckets.bucket().remove(sha256)
            return gone
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
    """Opens the blob. Raises Unavailable (`file_missing`) when the store does not hold it."""
    if settings.STORAGE_BUCKET:
        size = size_of(sha256)
        if size is None:
            raise _lost()
        return buckets.bucket().open(sha256, size)
    try:
        return path_of(sha256).open("rb")
    except FileNotFoundError as error:
        raise _lost() from error


def _lost() -> Unavailable:
    return Unavailable("file_missing", "The server has lost this file. Tell its operator.")


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
    source = _copied(sha256) if settings.STORAGE_BUCKET else path_of(sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        path.hardlink_to(source)
    except FileNotFoundError as error:
        raise _lost() from error
    except OSError:  # another file system
        shutil.copyfile(source, path)


def _copied(sha256: str) -> Path:
    """Returns the blob's copy on this disk, fetched where it is not there; `leftovers` removes it a day after it was
    last asked for. Raises Unavailable (`file_missing`, `file_damaged`)."""
    path = path_of(sha256)
    try:
        os.utime(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    else:
        return path
    descriptor, name = tempfile.mkstemp(dir=settings.STORAGE_DIR, prefix=INCOMING)
    partial = Path(name)
    try:
        with storing(), os.fdopen(descriptor, "wb") as file:
            digest = hashlib.sha256()
            for chunk in chunks(sha256):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            raise Unavailable("file_damaged", "The server's copy of this file is damaged. Tell its operator.")
        partial.chmod(0o440)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def put_bytes(content: bytes) -> Blob:
    """Stores what this site has in memory, from its reserve too."""
    return _put(iter([content] if content else []), max_bytes=max(1, len(content)))
