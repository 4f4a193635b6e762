"""The structure of a zip, read byte by byte: where every file lies, and that every byte has one owner.

Python's `zipfile` is lenient where parsers differ (prefixes, overlaps, two names for one body), so the
directory is parsed here. What may be inside is `archives`' business.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from unicodedata import normalize

from finetuning.engine.problems import Rejected, printable, reject
from finetuning.engine.spec import ArchiveLimits

END = struct.Struct("<4s4H2LH")
END64_LOCATOR = struct.Struct("<4sLQL")
END64 = struct.Struct("<4sQ2H2L4Q")
CENTRAL = struct.Struct("<4s6H3L5H2L")
LOCAL = struct.Struct("<4s5H3L2H")
_MAX_COMMENT = 65_535
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # "see the zip64 field"
_ZIP64_FIELD = 0x0001
ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # plain, strong, hidden directory
_DESCRIPTOR, _UTF8 = 0x0008, 0x0800
STORED, DEFLATED = 0, 8
REPARSE_POINT = 0x0400  # a Windows link
_MAX_CENTRAL_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive. `parts` are its path's NFC-normalised components, `suffix` is the last one's, in small
    letters; offsets are in bytes."""

    name: str
    parts: tuple[str, ...]
    raw_name: bytes
    method: int
    flags: int
    crc: int
    compressed: int
    size: int
    offset: int
    mode: int
    attributes: int
    suffix: str

    @property
    def is_directory(self) -> bool:
        return self.name.endswith("/")


class ByteFile:
    """A file read by position: safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._descriptor).st_size

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def at(self, offset: int, length: int) -> bytes:
        chunks: list[bytes] = []
        while length > 0:  # one pread returns at most 2 GiB
            chunk = os.pread(self._descriptor, length, offset)
            if not chunk:
                raise truncated()
            chunks.append(chunk)
            offset, length = offset + len(chunk), length - len(chunk)
        return b"".join(chunks)


def read_directory(file: ByteFile, limits: ArchiveLimits) -> tuple[list[Entry], int]:
    """Returns the entries, in the directory's order, and the directory's offset. Raises Rejected:
    `empty_file`, `not_a_zip`, `zip_truncated`, `zip_empty`, `too_many_files`, `polyglot`, `bad_name`,
    `zip_inconsistent`."""
    if file.size == 0:
        raise reject(
            "empty_file",
            "The file is empty. Zip your folder of images and upload that.",
        )
    start, length, count = _directory(file)
    if count > limits.max_files:
        raise _too_many(count, limits)
    return _parse_directory(file.at(start, length), count), start


def _directory(file: ByteFile) -> tuple[int, int, int]:
    """Returns the central directory's offset, its length and its number of entries."""
    head = file.at(0, min(4, file.size))
    tail_at = max(0, file.size - END.size - _MAX_COMMENT)
    tail = file.at(tail_at, file.size - tail_at)
    begins = head in {b"PK\x03\x04", b"PK\x05\x06"}
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < END.size:
        raise truncated() if begins else _not_a_zip()
    _, disk, disk_start, here, count, length, start, comment = END.unpack_from(tail, at)
    end = tail_at + at
    if end + END.size + comment != file.size:
        raise _polyglot("after its end")
    if disk or disk_start or here != count:
        raise reject(
            "zip_inconsistent",
            "Zips split over several files cannot be read; make one zip.",
        )
    if count == _FULL16 or _FULL32 in {length, start}:
        start, length, count, end = _directory64(file, end)
    if length > min(_MAX_CENTRAL_BYTES, file.size):
        raise _inconsistent("a directory longer than the file")
    if start + length != end:
        raise (_polyglot("before its beginning") if start + length < end else _inconsistent("its directory"))
    if not begins:
        raise _polyglot("before its beginning")
    if count == 0:
        raise reject(
            "zip_empty",
            "The zip holds no files. Zip your folder of images and upload that.",
        )
    return start, length, count


def _directory64(file: ByteFile, end: int) -> tuple[int, int, int, int]:
    if end < END64_LOCATOR.size + END64.size:
        raise _inconsistent("its zip64 records")
    locator = END64_LOCATOR.unpack(file.at(end - END64_LOCATOR.size, END64_LOCATOR.size))
    at = end - END64_LOCATOR.size - END64.size
    record = END64.unpack(file.at(at, END64.size))
    if locator[0] != b"PK\x06\x07" or record[0] != b"PK\x06\x06" or locator[2] != at:
        raise _inconsistent("its zip64 records")
    if locator[1] or record[4] or record[5] or record[6] != record[7] or record[1] != END64.size - 12:
        raise _inconsistent("its zip64 records")
    return record[9], record[8], record[7], at


def check_layout(file: ByteFile, entries: list[Entry], directory: int) -> None:
    """Every byte before the directory belongs to exactly one entry, and each local header agrees with
    the directory. Raises Rejected: `zip_overlap` (CVE-2024-0450), `zip_inconsistent`, `polyglot`."""
    ordered = sorted(entries, key=lambda entry: entry.offset)
    if ordered[0].offset != 0:
        raise _polyglot("before its beginning")
    offsets = [entry.offset for entry in ordered] + [directory]
    for entry, (offset, limit) in zip(ordered, pairwise(offsets), strict=True):
        end = limit + 1 if offset == limit else _entry_end(file, entry, limit)
        if end > limit:
            raise reject(
                "zip_overlap",
                "Files in the zip share their bytes. Make the zip anew.",
                [entry.name],
            )
        if end < limit:
            raise _inconsistent(f"{limit - end} bytes that belong to no file")


def _entry_end(file: ByteFile, entry: Entry, limit: int) -> int:
    """Returns the offset behind the entry's last byte; beyond `limit` where it shares bytes with the next."""
    if entry.offset + LOCAL.size > limit:
        return limit + 1
    header = file.at(entry.offset, min(LOCAL.size + len(entry.raw_name), limit - entry.offset))
    (
        signature,
        _,
        flags,
        method,
        _,
        _,
        crc,
        compressed,
        size,
        name_bytes,
        extra_bytes,
    ) = LOCAL.unpack_from(header)
    start = entry.offset + LOCAL.size + name_bytes + extra_bytes
    if signature != b"PK\x03\x04":
        raise _inconsistent(f"the header of {printable(entry.name)}")
    if start > limit:
        return limit + 1
    if _FULL32 in {compressed, size}:
        size, compressed, _ = _zip64(file.at(start - extra_bytes, extra_bytes), size, compressed, 0)
    declared, told = (crc, compressed, size), (entry.crc, entry.compressed, entry.size)
    later = bool(flags & _DESCRIPTOR)
    agree = declared == told or (later and declared in {(0, 0, 0), (0, *told[1:])})
    if not agree or (flags, method) != (entry.flags, entry.method):
        raise _inconsistent(f"the sizes of {printable(entry.name)}")
    if name_bytes != len(entry.raw_name) or header[LOCAL.size :] != entry.raw_name:
        raise _inconsistent(f"two names for {printable(entry.name)}")
    end: int = start + entry.compressed
    return end + _descriptor_bytes(file, entry, end, limit) if later else end


def _descriptor_bytes(file: ByteFile, entry: Entry, end: int, limit: int) -> int:
    """Returns the length of the data descriptor: with or without a signature, with 4- or 8-byte sizes."""
    if end >= limit:  # some writers flag a descriptor and leave it out where the sizes are known
        return 0
    raw = file.at(end, min(24, limit - end))
    for form in ("<4sLLL", "<LLL", "<4sLQQ", "<LQQ"):
        length = struct.calcsize(form)
        if length != limit - end:
            continue
        fields = struct.unpack(form, raw)
        signed = form.startswith("<4s")
        told = (entry.crc, entry.compressed, entry.size)
        if fields[-3:] == told and (not signed or fields[0] == b"PK\x07\x08"):
            return length
    raise _inconsistent(f"the sizes of {printable(entry.name)}")


def _parse_directory(raw: bytes, count: int) -> list[Entry]:
    entries: list[Entry] = []
    at = 0
    while at < len(raw):
        if len(raw) - at < CENTRAL.size:
            raise _inconsistent("its directory")
        fields = CENTRAL.unpack_from(raw, at)
        name_bytes, extra_bytes, comment_bytes = fields[10:13]
        end = at + CENTRAL.size + name_bytes + extra_bytes + comment_bytes
        if fields[0] != b"PK\x01\x02" or end > len(raw) or len(entries) == count:
            raise _inconsistent("its directory")
        name = at + CENTRAL.size
        extra = name + name_bytes
        entries.append(_entry(fields, raw[name:extra], raw[extra : extra + extra_bytes]))
        at = end
    if len(entries) != count:
        raise _inconsistent("the number of its files")
    return entries


def _entry(fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> Entry:
    flags, method, _, _, crc, compressed, size = fields[3:10]
    attributes, offset = fields[15:17]
    if _FULL32 in {compressed, size, offset}:
        size, compressed, offset = _zip64(extra, size, compressed, offset)
    name = _decode(raw_name, is_utf8=bool(flags & _UTF8))
    parts = tuple(normalize("NFC", part) for part in name.split("/") if part not in {"", "."})
    stem, dot, ending = parts[-1].rpartition(".") if parts else ("", "", "")
    return Entry(
        name=name,
        parts=parts,
        raw_name=raw_name,
        method=method,
        flags=flags,
        crc=crc,
        compressed=compressed,
        size=size,
        offset=offset,
        mode=attributes >> 16,
        attributes=attributes & _FULL16,
        suffix=f"{dot}{ending}".lower() if stem.strip(".") else "",  # `.png` alone is a hidden file
    )


def _zip64(extra: bytes, size: int, compressed: int, offset: int) -> tuple[int, int, int]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        field, at = extra[at + 4 : at + 4 + length], at + 4 + length
        if kind != _ZIP64_FIELD:
            continue
        numbers = iter(struct.unpack_from(f"<{len(field) // 8}Q", field))
        try:
            values = [next(numbers) if value == _FULL32 else value for value in (size, compressed, offset)]
        except StopIteration:
            break
        return values[0], values[1], values[2]
    raise _inconsistent("its zip64 records")


def _decode(raw: bytes, *, is_utf8: bool) -> str:
    """Returns the name. Without the UTF-8 flag macOS still means UTF-8 and Chinese Windows means GB 2312;
    code page 437 is what the format says."""
    for encoding in ("utf-8",) if is_utf8 else ("utf-8", "gb2312", "cp437"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise reject(
        "bad_name",
        "A file name in the zip is not valid text. Rename it.",
        [raw[:80].decode("ascii", "backslashreplace")],
    )


def _not_a_zip() -> Rejected:
    return reject(
        "not_a_zip",
        "This file is not a zip. Zip your folder of images and upload the .zip file.",
    )


def truncated() -> Rejected:
    return reject(
        "zip_truncated",
        "The zip ends too early: part of it is missing. Make it again, or upload again.",
    )


def _too_many(count: int, limits: ArchiveLimits) -> Rejected:
    return reject(
        "too_many_files",
        f"The zip holds {count:,} files; the limit is {limits.max_files:,}.",
    )


def _polyglot(where: str) -> Rejected:
    return reject(
        "polyglot",
        f"The zip carries foreign bytes {where}. Make it again with an ordinary zip tool.",
    )


def _inconsistent(what: str) -> Rejected:
    return reject(
        "zip_inconsistent",
        f"The zip contradicts itself ({what}). Make it again.",
        [what],
    )
