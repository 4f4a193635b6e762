"""One Xet session: the xorbs that a client sends, then the files that they are put together to.

A session has a folder of its own that nobody else's chunks are in, so a file can only be made of bytes that its sender
has sent. The engine unpacks them, confined as ever (ADR 0041)."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from django.conf import settings

from finetuning.engine import plain_files
from finetuning.engine import spec as engine
from finetuning.runner import Ending, Outcome, Sandbox, Signal, run_engine
from marketplace import storage
from marketplace.accounts.models import User
from marketplace.errors import Invalid, StorageFull, TooLarge, Unavailable
from models_catalog.models import Listing
from models_catalog.services import parts, sent_files

MAX_XORB_BYTES = 72 * 2**20  # the clients fill 64 MiB of plain bytes, and headers
MAX_SHARD_BYTES = 64 * 2**20
DEADLINE_SECONDS = 600
_turns = threading.Lock()
_under_way: set[int] = set()  # users whose files are put together by this process


def keep_xorb(*, user: User, session: str, name: str, stream: storage.Readable, now: datetime) -> bool:
    """Keeps one xorb until the session's files are put together; False where it is here already.

    Raises TooLarge (`too_large`) for one that is, or makes the session, larger than a file may be; TooLarge
    (`too_much_uncommitted`)."""
    place = parts.folder(session, user=user.pk)
    if (place / name).is_file():
        return False
    left = settings.MAX_ARTIFACT_BYTES + MAX_XORB_BYTES - parts.size_of(place)
    if left <= 0:
        raise TooLarge("too_large", "This upload is larger than the limit. Send fewer files at once.")
    sent_files.require_left(1, user=user, now=now)
    parts.keep(stream, place / name, max_bytes=min(left, MAX_XORB_BYTES))
    return True


def rebuild(
    *, user: User, listing: Listing, session: str, stream: storage.Readable, now: datetime
) -> list[storage.Blob]:
    """Puts the files of a shard together, stores them and remembers who has sent them.

    Raises Invalid (`bad_xet_upload`) for what cannot be put together or is damaged, TooLarge (`too_large`,
    `too_much_uncommitted`), Unavailable
    (`rebuild_busy`, `rebuild_failed`), StorageFull."""
    place = parts.folder(session, user=user.pk)
    with _turn(user):
        sent_files.require_left(1, user=user, now=now)
        max_bytes = min(_room_for_one(), sent_files.left_bytes(user=user, now=now))
        with storage.storing():
            place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place, prefix="shard-") as name:
            run_dir = Path(name)
            outcome = _unpack(run_dir, place, stream, max_bytes=max_bytes)
            if outcome.code == "user:file_too_large":
                sent_files.require_left(max_bytes + 1, user=user, now=now)
            _require_success(outcome, max_bytes=max_bytes)
            digests = dict.fromkeys(outcome.result["files"])  # a shard may make the same file twice
            blobs = [_stored(run_dir / engine.OUTPUTS_DIR, sha256) for sha256 in digests]
    for blob in blobs:
        sent_files.record(user=user, listing=listing, blob=blob, now=now)
    return blobs


@contextlib.contextmanager
def _turn(user: User) -> Iterator[None]:
    """One of the few rebuilds that this process does at once, and the user's only one: each holds a thread that pages
    need, for minutes. Raises Unavailable (`rebuild_busy`), upon which the clients try again by themselves."""
    with _turns:
        if user.pk in _under_way or len(_under_way) >= settings.MAX_REBUILDS:
            raise Unavailable("rebuild_busy", "The server is putting other uploads together. Try again in a moment.")
        _under_way.add(user.pk)
    try:
        yield
    finally:
        with _turns:
            _under_way.discard(user.pk)


def _room_for_one() -> int:
    """Returns how many plain bytes a rebuild may write: compressed and repeated chunks become any number of them.
    Others may be at it, each with its share of the disk. Raises StorageFull."""
    storage.require_room(1)
    return min(int(settings.MAX_ARTIFACT_BYTES), storage.room() // int(settings.MAX_REBUILDS))


def _unpack(run_dir: Path, place: Path, stream: storage.Readable, *, max_bytes: int) -> Outcome:
    spec = engine.RebuildSpec(max_bytes=max_bytes)
    parts.keep(stream, run_dir / spec.shard, max_bytes=MAX_SHARD_BYTES)
    xorbs = run_dir / spec.xorbs
    xorbs.mkdir(parents=True)
    for path in place.iterdir():
        if path.is_file() and not path.name.startswith("."):
            (xorbs / path.name).hardlink_to(path)
    engine.write(spec, run_dir)
    return run_engine(
        engine.Verb.REBUILD,
        run_dir,
        on_events=lambda _: None,
        heartbeat=lambda: Signal.CONTINUE,
        deadline_seconds=DEADLINE_SECONDS,
        stall_seconds=math.inf,
        sandbox=Sandbox(
            required=settings.SANDBOX == "required",
            memory_bytes=settings.ENGINE_MEMORY_BYTES,
            file_bytes=settings.ENGINE_FILE_BYTES,
        ),
    )


def _require_success(outcome: Outcome, *, max_bytes: int) -> None:
    if outcome.code == "user:file_too_large" and max_bytes < settings.MAX_ARTIFACT_BYTES:
        raise StorageFull("storage_full", "The server's disk has no room for these files. Tell its operator.")
    if outcome.ending is not Ending.SUCCEEDED and outcome.code.startswith("user:"):
        raise Invalid("bad_xet_upload", outcome.message)
    if outcome.ending is not Ending.SUCCEEDED:
        raise Unavailable("rebuild_failed", f"The server could not put the files together: {outcome.message}")


def _stored(outputs: Path, sha256: str) -> storage.Blob:
    """Moves what the engine made to the blobs. Its word is taken neither on the digest nor on what lies where: it has met
    the sender's bytes. Raises Unavailable (`rebuild_failed`)."""
    if not storage.is_digest(sha256):
        raise _not_as_told()
    try:
        with storage.storing(), plain_files.reading(outputs.parent, f"{outputs.name}/{sha256}") as file:
            digest = hashlib.sha256()
            for piece in storage.pieces(file):
                digest.update(piece)
            size = file.tell()
            os.fsync(file.fileno())
    except plain_files.ForeignFileError as error:
        raise _not_as_told() from error
    if digest.hexdigest() != sha256:
        raise _not_as_told()
    storage.keep(outputs / sha256, sha256)
    return storage.Blob(sha256, size)


def _not_as_told() -> Unavailable:
    return Unavailable("rebuild_failed", "The server could not put the files together: they are not what was made.")
