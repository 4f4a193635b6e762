"""Zip archives that are never built: their layout is known beforehand, so any part can be sent in constant memory.

Entries are stored, not deflated (weights do not compress), in the order given, dated alike: the same entries make
the same bytes. Format: APPNOTE.TXT 6.3, with ZIP64 where sizes need it.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import cast

from django.core.cache import cache

from marketplace import storage

_U16, _U32 = 0xFFFF, 0xFFFFFFFF
_VERSION, _VERSION_64 = 20, 45
_UTF8 = 0x800  # general purpose bit 11: names are UTF-8
_FILE_MODE = 0o100644 << 16
_CHECKSUM_SECONDS = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the archive: bytes at hand, or a blob of the store."""

    path: str
    size_bytes: int
    content: bytes = b""
    blob_sha256: str = ""


@dataclass(frozen=True, slots=True)
class _Part:
    length: int
    content: bytes = b""
    blob_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Archive:
    """The parts of a zip, in order."""

    parts: tuple[_Part, ...]
    digest: str  # SHA-256 of what its bytes follow from: paths, contents, date

    @property
    def size_bytes(self) -> int:
        return sum(part.length for part in self.parts)

    def chunks(self, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yields `length` bytes from `start`, a chunk at a time."""
        left = self.size_bytes - start if length is None else length
        for part in self.parts:
            if left <= 0:
                return
            if start >= part.length:
                start -= part.length
                continue
            take = min(part.length - start, left)
            if part.blob_sha256:
                yield from storage.chunks(part.blob_sha256, start=start, length=take)
            else:
                yield part.content[start : start + take]
            start, left = 0, left - take


def layout(entries: list[Entry], *, at: datetime) -> Archive:
    """Returns the archive of the entries, dated `at`. Reads each blob once to check-sum it, unless that was done
    before. Raises Unavailable (`file_missing`)."""
    stamp = _dos_time(at)
    parts: list[_Part] = []
    directory, offset = b"", 0
    digest = hashlib.sha256(repr(stamp).encode())
    for entry in entries:
        content = entry.blob_sha256 or hashlib.sha256(entry.content).hexdigest()
        digest.update(f"{content} {entry.size_bytes} {entry.path}\n".encode())
        crc = _crc(entry)
        header = _local_header(entry, crc, stamp)
        directory += _central_header(entry, crc, stamp, offset)
        parts.append(_Part(len(header), header))
        if entry.size_bytes:
            parts.append(_Part(entry.size_bytes, entry.content, entry.blob_sha256))
        offset += len(header) + entry.size_bytes
    end = directory + _end(len(entries), len(directory), offset)
    return Archive((*parts, _Part(len(end), end)), digest.hexdigest())


def _crc(entry: Entry) -> int:
    if not entry.blob_sha256:
        return zlib.crc32(entry.content)
    key = f"crc32:{entry.blob_sha256}"  # a blob never changes
    return cast("int", cache.get_or_set(key, partial(_crc_of_blob, entry.blob_sha256), _CHECKSUM_SECONDS))


def _crc_of_blob(sha256: str) -> int:
    crc = 0
    for chunk in storage.chunks(sha256):
        crc = zlib.crc32(chunk, crc)
    return crc


def _dos_time(at: datetime) -> tuple[int, int]:
    """(time, date) as MS-DOS counts them, in UTC and from 1980 on."""
    year = max(1980, at.year)
    return at.hour << 11 | at.minute << 5 | at.second // 2, (year - 1980) << 9 | at.month << 5 | at.day


def _local_header(entry: Entry, crc: int, stamp: tuple[int, int]) -> bytes:
    name = entry.path.encode()
    is_large = entry.size_bytes >= _U32
    extra = struct.pack("<HHQQ", 1, 16, entry.size_bytes, entry.size_bytes) if is_large else b""
    size = _U32 if is_large else entry.size_bytes
    version = _VERSION_64 if is_large else _VERSION
    return (
        struct.pack("<IHHHHHIIIHH", 0x04034B50, version, _UTF8, 0, *stamp, crc, size, size, len(name), len(extra))
        + name
        + extra
    )


def _central_header(entry: Entry, crc: int, stamp: tuple[int, int], offset: int) -> bytes:
    name = entry.path.encode()
    is_large, is_far = entry.size_bytes >= _U32, offset >= _U32
    fields = ([entry.size_bytes] * 2 if is_large else []) + ([offset] if is_far else [])
    extra = struct.pack(f"<HH{len(fields)}Q", 1, 8 * len(fields), *fields) if fields else b""
    size = _U32 if is_large else entry.size_bytes
    version = _VERSION_64 if fields else _VERSION
    made_by = 3 << 8 | version  # 3: Unix, whose file modes the external attributes hold
    head = struct.pack("<IHHHHHHIII", 0x02014B50, made_by, version, _UTF8, 0, *stamp, crc, size, size)
    tail = struct.pack("<HHHHHII", len(name), len(extra), 0, 0, 0, _FILE_MODE, _U32 if is_far else offset)
    return head + tail + name + extra


def _end(count: int, size: int, offset: int) -> bytes:
    end = b""
    if count >= _U16 or size >= _U32 or offset >= _U32:
        end = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, _VERSION_64, _VERSION_64, 0, 0, count, count, size, offset)
        end += struct.pack("<IIQI", 0x07064B50, 0, offset + size, 1)
    counts = (min(count, _U16),) * 2
    return end + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, *counts, min(size, _U32), min(offset, _U32), 0)
