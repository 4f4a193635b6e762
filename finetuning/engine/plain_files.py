"""Files where an engine has written, opened without trusting it: a name may have become a link to a file of the site's, or a
pipe that never ends. Standard library only.

Each folder on the way is opened from the one above it, and none through a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

_FOREIGN = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR})
_NEVER = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe that nobody else has open would be waited for
_MODE = 0o640


class ForeignFileError(ValueError):
    """A name stands for something that is no plain file or folder of its own."""


@contextlib.contextmanager
def folder(root: Path, name: str = "", *, make: bool = False) -> Iterator[int]:
    """Yields a descriptor of the folder `name` below `root`; with `make` what is missing is made. Raises ForeignFileError
    where one on the way is a link or no folder."""
    with contextlib.ExitStack() as opened:
        with _no_foreign(name):
            place = os.open(root, _NEVER | os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, place)
            for part in _parts(name):
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=place)
                place = os.open(part, _NEVER | os.O_RDONLY | os.O_DIRECTORY, dir_fd=place)
                opened.callback(os.close, place)
        yield place


@contextlib.contextmanager
def reading(root: Path, name: str) -> Iterator[BinaryIO]:
    """Yields the open file `name` below `root`. Raises ForeignFileError where that, or a folder on the way, is a link,
    and where it is no file or has another name beside."""
    with _opened(root, name, os.O_RDONLY) as file:
        yield file


@contextlib.contextmanager
def appending(root: Path, name: str) -> Iterator[BinaryIO]:
    """Yields the file `name` below `root` to be added to, made where it is missing. Raises ForeignFileError as
    `reading`."""
    with _opened(root, name, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
        yield file


@contextlib.contextmanager
def writing(root: Path, name: str) -> Iterator[BinaryIO]:
    """Yields a new file, which is `name` below `root` once it has been written whole; nothing else changes before that.
    Raises ForeignFileError where a folder on the way is a link."""
    above, last = _split(name)
    partial = f".{last}.partial"
    with folder(root, above, make=True) as place:
        with contextlib.suppress(FileNotFoundError):  # of a process that was killed
            os.unlink(partial, dir_fd=place)
        try:
            descriptor = os.open(partial, _NEVER | os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE, dir_fd=place)
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.rename(partial, last, src_dir_fd=place, dst_dir_fd=place)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(partial, dir_fd=place)
            raise


def are_plain(directory: Path) -> bool:
    """Whether all that lies in this directory, not deeper, are folders and files of one name."""
    with os.scandir(directory) as entries:
        return all(_is_plain(entry) for entry in entries)


def _is_plain(entry: os.DirEntry[str]) -> bool:
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:  # an engine that is about to end has removed it
        return True
    return stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1)


@contextlib.contextmanager
def _opened(root: Path, name: str, way: int) -> Iterator[BinaryIO]:
    above, last = _split(name)
    with folder(root, above) as place:
        with _no_foreign(name):
            descriptor = os.open(last, _NEVER | way, _MODE, dir_fd=place)
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            os.close(descriptor)
            raise ForeignFileError(f"{name} is no file of its own")
    with os.fdopen(descriptor, "rb" if way == os.O_RDONLY else "ab") as file:
        yield file


def _split(name: str) -> tuple[str, str]:
    *above, last = _parts(name)
    return "/".join(above), last


def _parts(name: str) -> list[str]:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ForeignFileError(f"{name} is not below its folder")
    return list(path.parts)


@contextlib.contextmanager
def _no_foreign(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FOREIGN:
            raise ForeignFileError(f"{name} is no plain file or folder") from error
        raise
