from __future__ import annotations

import contextlib
import io
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings, settings
from django.http import UnreadablePostError

from marketplace import storage
from marketplace.errors import DomainError

MIB = 2**20


@contextlib.contextmanager
def disk_of(size: int) -> Iterator[None]:
    """The kernel refuses files that grow beyond `size`, as a full disk or a quota does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class BrokenOff(io.BytesIO):
    """A sender that goes away after its first mebibyte."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise UnreadablePostError("the client went away")
        return super().read(size)


def leftovers() -> list[Path]:
    return [*Path(settings.STORAGE_DIR).glob("incoming-*")]


def test_a_disk_that_is_full_says_so_and_keeps_nothing() -> None:
    with disk_of(MIB), pytest.raises(DomainError) as caught:
        storage.put(io.BytesIO(b"x" * 3 * MIB), max_bytes=10 * MIB)

    assert (caught.value.code, caught.value.status) == ("storage_full", 507)
    assert not leftovers()


def test_what_people_send_leaves_the_disks_reserve_to_the_site(tmp_path: Path, settings: LazySettings) -> None:
    own = tmp_path / "result"
    own.write_bytes(b"metrics of a run")
    settings.MIN_FREE_DISK_BYTES = 2**60

    with pytest.raises(DomainError) as caught:
        storage.put(io.BytesIO(b"weights of a stranger"), max_bytes=MIB)

    assert (caught.value.code, caught.value.status) == ("storage_full", 507)
    assert not leftovers()
    assert storage.exists(storage.put_file(own).sha256)
    assert storage.exists(storage.put_bytes(b"a license").sha256)


def test_an_upload_that_breaks_off_is_not_the_disks_fault() -> None:
    with pytest.raises(DomainError) as caught:
        storage.put(BrokenOff(b"x" * 3 * MIB), max_bytes=10 * MIB)

    assert (caught.value.code, caught.value.status) == ("upload_broken", 400)
    assert not leftovers()


def test_a_folder_that_cannot_be_written_is_neither(tmp_path: Path, settings: pytest.FixtureRequest) -> None:
    (tmp_path / "file").touch()
    settings.STORAGE_DIR = tmp_path / "file" / "blobs"

    with pytest.raises(DomainError) as caught:
        storage.put(io.BytesIO(b"x"), max_bytes=MIB)

    assert (caught.value.code, caught.value.status) == ("storage_failed", 503)
