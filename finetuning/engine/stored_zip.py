"""Writes a zip of uncompressed members, one after the other: a tenth of what Python's `zipfile` takes for each."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from types import TracebackType
from typing import Self

from finetuning.engine.zip_directory import CENTRAL, END, END64, END64_LOCATOR, LOCAL

# PKWARE's APPNOTE 6.3.10, sections 4.3.7, 4.3.12 and 4.3.14 to 4.3.16.
_OFFSET64 = struct.Struct("<2HQ")
_VERSION, _VERSION64 = 20, 45
_ZIP64_FIELD = 1
_STORED = 0
_FIRST_DATE = 1 << 5 | 1  # 1980-01-01, midnight: equal members give equal zips
_UNIX, _MODE = 3 << 8, 0o600 << 16
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
LOCAL_HEADER_BYTES = LOCAL.size
_BUFFER_BYTES = 2**20


class StoredZip:
    """A zip being written. Names are ASCII, members under 4 GiB; the zip may be larger."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=_BUFFER_BYTES)
        self._directory: list[bytes] = []
        self._offset = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, name: str, content: bytes) -> None:
        raw, size, crc = name.encode("ascii"), len(content), zlib.crc32(content)
        about = (0, _STORED, 0, _FIRST_DATE, crc, size, size, len(raw))
        self._file.write(LOCAL.pack(b"PK\3\4", _VERSION, *about, 0) + raw)
        self._file.write(content)
        extra = b"" if self._offset < _FULL32 else _OFFSET64.pack(_ZIP64_FIELD, 8, self._offset)
        offset, needed = (_FULL32, _VERSION64) if extra else (self._offset, _VERSION)
        entry = CENTRAL.pack(b"PK\1\2", _UNIX | needed, needed, *about, len(extra), 0, 0, 0, _MODE, offset)
        self._directory.append(entry + raw + extra)
        self._offset += LOCAL.size + len(raw) + size

    def close(self) -> None:
        """Writes the directory; a second call does nothing."""
        if self._file.closed:
            return
        directory, count = b"".join(self._directory), len(self._directory)
        self._file.write(directory)
        if count >= _FULL16 or self._offset + len(directory) >= _FULL32:
            end = self._offset + len(directory)
            about = (count, count, len(directory), self._offset)
            rest = END64.size - 12  # without the signature and this number
            self._file.write(END64.pack(b"PK\6\6", rest, _UNIX | _VERSION64, _VERSION64, 0, 0, *about))
            self._file.write(END64_LOCATOR.pack(b"PK\6\7", 0, end, 1))
        shown = min(count, _FULL16)
        place = (min(len(directory), _FULL32), min(self._offset, _FULL32))
        self._file.write(END.pack(b"PK\5\6", 0, 0, shown, shown, *place, 0))
        self._file.close()
