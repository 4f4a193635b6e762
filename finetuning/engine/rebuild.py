"""The verb `rebuild`: whole files out of the chunks that Xet clients send. Every count and length is the sender's, so
each is checked before anything is allocated or decompressed by it.

A xorb is chunks in a row. A chunk has a header of 8 bytes (version 0, compressed length, scheme, plain length; lengths
little-endian in 24 bits) and its bytes, as they are or in an LZ4 frame. A shard lists files: for each a header record,
the runs of chunks that make it up, and where it says so the file's SHA-256; all records have 48 bytes.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import lz4.frame

from finetuning.engine.events import EventWriter
from finetuning.engine.problems import reject
from finetuning.engine.spec import OUTPUTS_DIR, RebuildSpec

MAX_CHUNK_BYTES = 128 * 1024
MAX_CHUNKS = 64 * 1024  # of one xorb; the clients make at most 8,192
MAX_SHARD_BYTES = 64 * 2**20
_RECORD = 48
_TAG, _VERSION = b"HFRepoMetaData\0", 2
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30
_END_OF_FILES = b"\xff" * 32
_FOOTER = b"XETBLOB"
_PLAIN, _LZ4, _LZ4_GROUPED = 0, 1, 2
_LANES = 4  # a grouped chunk has the bytes of 32-bit numbers sorted by their place


@dataclass(frozen=True, slots=True)
class Segment:
    """Chunks `start` to `end` of a xorb, `bytes` in plain."""

    xorb: str
    bytes: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class File:
    segments: tuple[Segment, ...]
    sha256: str  # as the sender says; "" where it does not


@dataclass(frozen=True, slots=True)
class Chunk:
    offset: int  # of its bytes in the xorb
    length: int  # as it lies there
    scheme: int
    bytes: int  # in plain


def run(spec: RebuildSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Writes `outputs/SHA256` for each file of the shard; returns `{files: [SHA256, ...]}` in the shard's order. Rejects
    (`shard_invalid`, `xorb_missing`, `xorb_invalid`, `file_too_large`, `checksum_mismatch`)."""
    shard = run_dir / spec.shard
    if shard.stat().st_size > MAX_SHARD_BYTES:
        raise _bad_shard("It is too long.")
    files = read_shard(shard.read_bytes(), max_files=spec.max_files)
    events.log(f"{len(files)} files")
    if sum(segment.bytes for file in files for segment in file.segments) > spec.max_bytes:
        raise reject("file_too_large", f"These files are longer than the limit of {spec.max_bytes:,} bytes.")
    xorbs = Xorbs(run_dir / spec.xorbs)
    return {"files": [_build(file, xorbs, run_dir / OUTPUTS_DIR) for file in files]}


def _build(file: File, xorbs: Xorbs, outputs: Path) -> str:
    draft, digest = outputs / "draft", hashlib.sha256()
    with draft.open("wb") as target:
        for segment in file.segments:
            size = 0
            for content in xorbs.chunks(segment):
                size += len(content)
                digest.update(content)
                target.write(content)
            if size != segment.bytes:
                raise _bad_shard("A run of chunks has another length than it says.")
    sha256 = digest.hexdigest()
    if file.sha256 and file.sha256 != sha256:
        raise reject("checksum_mismatch", "A file arrived damaged: its SHA-256 differs. Send it again.")
    draft.rename(outputs / sha256)
    return sha256


def _bad_shard(why: str) -> Exception:
    return reject("shard_invalid", f"The list of files cannot be read. {why}")


def read_shard(content: bytes, *, max_files: int) -> list[File]:
    """Returns the files of a shard. Rejects (`shard_invalid`)."""
    if len(content) < _RECORD or not content.startswith(_TAG) or _number(content, 32) != _VERSION:
        raise _bad_shard("It is no shard of version 2.")
    records = _records(content)
    files: list[File] = []
    for head in records:
        if head[:32] == _END_OF_FILES:
            return files
        if len(files) == max_files:
            raise _bad_shard(f"It names more than {max_files} files.")
        flags, count = struct.unpack_from("<II", head, 32)
        segments = [_segment(_next(records)) for _ in range(count)]
        if flags & _HAS_VERIFICATION:
            for _ in range(count):
                _next(records)
        sha256 = name_of(_next(records)[:32]) if flags & _HAS_METADATA else ""
        files.append(File(tuple(segments), sha256))
    raise _bad_shard("It does not end.")


def _number(content: bytes, offset: int) -> int:
    return int(struct.unpack_from("<Q", content, offset)[0])


def _records(content: bytes) -> Iterator[bytes]:
    for offset in range(_RECORD, len(content) - _RECORD + 1, _RECORD):
        yield content[offset : offset + _RECORD]


def _next(records: Iterator[bytes]) -> bytes:
    """Each record that is asked for is there: a count that is too high ends the reading at the shard's own length."""
    try:
        return next(records)
    except StopIteration:
        raise _bad_shard("It ends too early.") from None


def _segment(record: bytes) -> Segment:
    size, start, end = struct.unpack_from("<III", record, 36)
    if not start < end <= MAX_CHUNKS or size > (end - start) * MAX_CHUNK_BYTES:
        raise _bad_shard("A run of chunks has no sound bounds.")
    return Segment(name_of(record[:32]), size, start, end)


def name_of(digest: bytes) -> str:
    """Returns a hash, a SHA-256 too, as Xet clients write it: four little-endian numbers of 64 bits in hexadecimal."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))


class Xorbs:
    """A folder of xorbs by their names; where their chunks lie is looked up once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, list[Chunk]] = {}

    def chunks(self, segment: Segment) -> Iterator[bytes]:
        """Yields the plain bytes of each chunk. Rejects (`xorb_missing`, `xorb_invalid`)."""
        path = self._folder / segment.xorb
        if not path.is_file():
            raise reject("xorb_missing", "The files name chunks that were not sent in this upload. Send them again.")
        with path.open("rb") as xorb:
            if segment.xorb not in self._known:
                self._known[segment.xorb] = list(_index(xorb, path.stat().st_size))
            known = self._known[segment.xorb]
            if segment.end > len(known):
                raise _bad_xorb()
            for chunk in known[segment.start : segment.end]:
                xorb.seek(chunk.offset)
                yield _plain(xorb.read(chunk.length), chunk)


def _bad_xorb() -> Exception:
    return reject("xorb_invalid", "The chunks of the files cannot be read. Send them again.")


def _index(xorb: BinaryIO, size: int) -> Iterator[Chunk]:
    """Yields where the chunks lie, by their headers alone."""
    offset = 0
    for _ in range(MAX_CHUNKS):
        xorb.seek(offset)
        head = xorb.read(8)
        if not head or head.startswith(_FOOTER):
            return
        if len(head) < 8 or head[0] != 0:
            raise _bad_xorb()
        chunk = Chunk(offset + 8, int.from_bytes(head[1:4], "little"), head[4], int.from_bytes(head[5:8], "little"))
        offset = chunk.offset + chunk.length
        if offset > size or not 0 < chunk.bytes <= MAX_CHUNK_BYTES:
            raise _bad_xorb()
        yield chunk


def _plain(content: bytes, chunk: Chunk) -> bytes:
    if chunk.scheme in {_LZ4, _LZ4_GROUPED}:
        content = _decompressed(content, chunk.bytes)
    elif chunk.scheme != _PLAIN:
        raise _bad_xorb()
    if len(content) != chunk.bytes:
        raise _bad_xorb()
    return _ungrouped(content) if chunk.scheme == _LZ4_GROUPED else content


def _decompressed(content: bytes, size: int) -> bytes:
    """Returns at most one byte more than the chunk should have, whatever the frame would come to."""
    try:
        plain: bytes = lz4.frame.LZ4FrameDecompressor().decompress(content, max_length=size + 1)
    except RuntimeError:  # the library's only exception
        raise _bad_xorb() from None
    return plain


def _ungrouped(content: bytes) -> bytes:
    plain, offset = bytearray(len(content)), 0
    for lane in range(_LANES):
        length = len(plain[lane::_LANES])
        plain[lane::_LANES] = content[offset : offset + length]
        offset += length
    return bytes(plain)
