"""Zips that are laid out, not built: readable by others, the same bytes, any part of them."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
import scenarios
from django.core.cache import cache
from django.test import RequestFactory

from marketplace import archives, downloads
from marketplace.archives import Entry, layout

AT = datetime(2026, 3, 4, 5, 6, 8, tzinfo=UTC)


@pytest.fixture
def entries() -> list[Entry]:
    blob = scenarios.blob(b"weights " * 300_000)
    return [
        Entry("model.safetensors", blob.bytes, blob_sha256=blob.sha256),
        Entry("empty.txt", 0),
        Entry("OBLIGATIONS/größe.txt", 5, b"texts"),
    ]


def read(content: bytes) -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(content))


def test_other_programs_read_the_archive(entries: list[Entry], tmp_path: Path) -> None:
    archive = layout(entries, at=AT)
    content = b"".join(archive.chunks())

    assert len(content) == archive.size_bytes
    found = read(content)
    assert found.testzip() is None
    assert found.namelist() == [entry.path for entry in entries]
    assert found.read("model.safetensors") == b"weights " * 300_000
    assert found.getinfo("empty.txt").date_time == (2026, 3, 4, 5, 6, 8)
    assert {entry.compress_type for entry in found.infolist()} == {zipfile.ZIP_STORED}
    if program := shutil.which("unzip"):
        (tmp_path / "x.zip").write_bytes(content)
        subprocess.run([program, "-tq", tmp_path / "x.zip"], check=True, capture_output=True)


def test_the_same_entries_make_the_same_bytes_and_others_another_digest(entries: list[Entry]) -> None:
    first, second = layout(entries, at=AT), layout(list(entries), at=AT)
    other = layout([*entries[:2], Entry("OBLIGATIONS/größe.txt", 5, b"words")], at=AT)

    assert b"".join(first.chunks()) == b"".join(second.chunks())
    assert first.digest == second.digest != other.digest


@pytest.mark.parametrize(("start", "length"), [(0, 1), (29, 60), (2_000_000, 1_000_000), (2_399_990, 400), (5, 0)])
def test_any_part_is_the_same_part_of_the_whole(entries: list[Entry], start: int, length: int) -> None:
    archive = layout(entries, at=AT)
    whole = b"".join(archive.chunks())

    assert b"".join(archive.chunks(start=start, length=length)) == whole[start : start + length]


def test_a_blob_is_summed_once(entries: list[Entry]) -> None:
    layout(entries, at=AT)
    kept = cache.get(f"crc32:{entries[0].blob_sha256}")

    assert kept == read(b"".join(layout(entries, at=AT).chunks())).getinfo("model.safetensors").CRC


@pytest.mark.parametrize("large", ["first", "second"])
def test_sizes_and_places_beyond_four_gibibytes_are_told_in_zip64(large: str) -> None:
    """Only the layout: nobody reads five gibibytes here."""
    huge = Entry("huge", 5 * 2**30, blob_sha256="a" * 64)
    cache.set(f"crc32:{huge.blob_sha256}", 7)
    small = Entry("small", 3, b"abc")
    archive = layout([huge, small] if large == "first" else [small, huge], at=AT)

    class Sparse(io.RawIOBase):
        """The archive without the huge blob's bytes, at the places where a reader looks."""

        place = 0

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            self.place = {0: 0, 1: self.place, 2: archive.size_bytes}[whence] + offset
            return self.place

        def tell(self) -> int:
            return self.place

        def read(self, size: int = -1) -> bytes:
            left = archive.size_bytes - self.place if size < 0 else min(size, archive.size_bytes - self.place)
            content = b"".join(archive.chunks(start=self.place, length=left))
            self.place += len(content)
            return content

    found = zipfile.ZipFile(Sparse())  # type: ignore[arg-type]  # it reads and seeks
    info = found.getinfo("huge")
    assert (info.file_size, info.CRC) == (huge.size_bytes, 7)
    assert found.read("small") == b"abc"


def test_a_download_that_broke_off_goes_on_where_it_was(entries: list[Entry], rf: RequestFactory) -> None:
    archive = layout(entries, at=AT)
    whole = b"".join(archive.chunks())

    def asked(**headers: str) -> tuple[int, bytes, str]:
        answer = downloads.archive_response(rf.get("/", headers=headers), archive=archive, filename="a.zip")
        body = b"".join(answer) if answer.status_code in (200, 206) else b""  # type: ignore[arg-type]  # it streams
        return answer.status_code, body, answer.headers.get("ETag", "")

    status, body, etag = asked()
    assert (status, body, etag) == (200, whole, f'"{archive.digest}"')
    assert asked(**{"Range": "bytes=1000000-", "If-Range": etag})[:2] == (206, whole[1_000_000:])
    assert asked(**{"If-None-Match": etag})[0] == 304
    assert asked(Range=f"bytes={archive.size_bytes}-")[0] == 416
    assert archives.layout(entries, at=AT).size_bytes == archive.size_bytes
