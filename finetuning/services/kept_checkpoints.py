"""The newest checkpoints of a training that is laid down, kept with the blobs for whichever machine takes it up (ADR 49).

Whatever is wrong with them never keeps a run from being laid down: without them it goes on from what its machine has, or
begins again, to the same weights on such a machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from django.conf import settings
from django.db import DatabaseError, connections

from finetuning.engine import plain_files
from finetuning.engine import spec as engine
from marketplace import storage
from marketplace.errors import DomainError

Kept = dict[str, str]  # {path in the run directory: sha256}

_NAME = re.compile(r"[0-9]{12}\.ckpt")
_PART = re.compile(r"[a-z0-9_-]{1,40}")
_MOST_PARTS, _MOST_NAMES = 8, 1000  # of a folder; an engine has a few
_ANY_SIZE = 2**40
_LOOK_SECONDS = 0.1
THREAD = "keeps checkpoints"
_FAULTS = (DomainError, OSError, ValueError, DatabaseError)
logger = logging.getLogger(__name__)


def keep(path: Path, *, goes_on: Callable[[], bool]) -> Kept:
    """Stores the newest whole checkpoint of the training in a run directory and of each of its parts, where other machines
    have the blobs. Returns those that were stored while `goes_on`, which is asked ten times a second."""
    if not settings.STORAGE_IS_SHARED:
        return {}
    kept: Kept = {}
    is_over = threading.Event()

    def work() -> None:
        try:
            _store_all(path, kept, is_over)
        finally:
            connections.close_all()  # this thread's own: who stores into a bucket takes a lock

    # Nobody waits for a bucket that does not answer, least of all a slot that is about to stop.
    thread = threading.Thread(target=work, name=THREAD, daemon=True)
    thread.start()
    while thread.is_alive() and goes_on():
        thread.join(_LOOK_SECONDS)
    is_over.set()
    return dict(kept)


def merged(earlier: Kept, kept: Kept) -> Kept:
    """Returns the newer one of each folder."""
    names: dict[str, str] = {}
    for name in sorted({**earlier, **kept}):
        names[name.rpartition("/")[0]] = name
    return {name: {**earlier, **kept}[name] for name in names.values()}


class _NoLonger(Exception):
    """Nobody waits for this checkpoint any more."""


def lay(path: Path, kept: Kept, *, goes_on: Callable[[], bool]) -> None:
    """Lays copies of those that were kept where this directory has none as new: an engine writes beside them, and could
    write into them. One whose blob is gone, or whose place is no folder, is left out, and so is what was not copied while
    `goes_on`: the engine then is not to go on either. Raises Unavailable, StorageFull where another try may do better."""
    for name, sha256 in kept.items():
        above, _, last = name.rpartition("/")
        try:
            with plain_files.folder(path, above, make=True) as place:
                newest = next(iter(_checkpoints(place)), "")
            if newest < last and storage.exists(sha256):
                with storage.storing(), plain_files.writing(path, name) as file:
                    file.writelines(_wanted(sha256, goes_on))
        except plain_files.ForeignFileError as error:
            logger.warning("a checkpoint that was kept could not be laid out", exc_info=error)
        except _NoLonger:
            return


def _wanted(sha256: str, goes_on: Callable[[], bool]) -> Iterator[bytes]:
    for chunk in storage.chunks(sha256):
        if not goes_on():
            raise _NoLonger
        yield chunk


def _store_all(path: Path, kept: Kept, is_over: threading.Event) -> None:
    left = settings.ENGINE_FILE_BYTES or _ANY_SIZE
    for folder in _folders(path):
        try:
            with plain_files.folder(path, folder) as place:
                names = _checkpoints(place)
        except (OSError, plain_files.ForeignFileError):  # no part, or gone
            continue
        for name in names:  # the newest first; the next where that one is torn
            try:
                blob = _stored(path, f"{folder}/{name}", left, is_over)
            except _FAULTS as error:
                logger.warning("a checkpoint stays on this machine", exc_info=error)
                continue
            kept[f"{folder}/{name}"] = blob.sha256
            left -= blob.bytes
            break


def _folders(path: Path) -> Iterator[str]:
    yield engine.CHECKPOINTS_DIR
    with contextlib.suppress(OSError, plain_files.ForeignFileError):
        with plain_files.folder(path, engine.CHECKPOINTS_DIR) as place:
            parts = [name for name in _names(place) if _PART.fullmatch(name)]
        yield from (f"{engine.CHECKPOINTS_DIR}/{part}" for part in sorted(parts)[:_MOST_PARTS])


def _checkpoints(place: int) -> list[str]:
    """Returns the names of the folder's checkpoints, the newest first."""
    return sorted((name for name in _names(place) if _NAME.fullmatch(name)), reverse=True)


def _names(place: int) -> list[str]:
    with os.scandir(place) as entries:
        return [entry.name for entry in itertools.islice(entries, _MOST_NAMES)]


def _stored(path: Path, name: str, most: int, is_over: threading.Event) -> storage.Blob:
    with plain_files.reading(path, name) as file:
        storage.require_room(os.fstat(file.fileno()).st_size)
        return storage.put_own(_whole(file, is_over), max_bytes=most)


def _whole(file: BinaryIO, is_over: threading.Event) -> Iterator[bytes]:
    """Yields the file's bytes. Raises ValueError at its end where it is not what its writer had made, and where nobody
    waits for it any more."""
    wanted = file.read(engine.CHECKPOINT_DIGEST_BYTES)
    yield wanted
    digest = hashlib.sha256()
    for chunk in storage.pieces(file):
        if is_over.is_set():
            raise ValueError("there was no time to store it")
        digest.update(chunk)
        yield chunk
    if digest.digest() != wanted:
        raise ValueError("the checkpoint is torn")
