"""Resumable uploads: begun, appended to, made a blob, used by other services, dropped.

The bytes lie in one file of the blobs' directory until all are there. Whoever appends holds that file's lock. What a
killed process had written beyond `Upload.offset` is cut off by the next piece.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from io import BufferedRandom
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, Sum

from finetuning.engine.crash_points import Point, reach
from marketplace import storage
from marketplace.accounts.models import User
from marketplace.errors import Broken, Conflict, DomainError, Gone, Invalid, TooLarge
from marketplace.uploads.models import Upload

LIFETIME = timedelta(hours=24)  # since its last piece; `leftovers` drops files of the same age
REMEMBERED = timedelta(hours=24)  # for how long an expired one is told apart from one that never was
MIB = 2**20


class PieceDamaged(DomainError):
    """The piece has another digest than its sender says; 460 is tus's own status for that."""

    status = 460


class NoSuchUpload(Invalid):
    """Never begun by this user, or dropped; where it is the address of a request, that is 404."""


def begin(*, user: User, length: int, filename: str, sha256: str, now: datetime) -> Upload:
    """Raises Invalid (`empty_file`), TooLarge (`too_large`, `too_much_uncommitted`), Conflict (`too_many_uploads`),
    StorageFull. Locks the user, so that of many at once no more are begun."""
    if length == 0:
        raise Invalid("empty_file", "The file is empty. Choose a file with content.")
    if length > (limit := max_bytes()):
        raise TooLarge("too_large", f"The file has {length / MIB:,.0f} MiB, the limit is {limit / MIB:,.0f} MiB.")
    storage.require_room(length)
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        under_way = Upload.objects.filter(user=user, stored_at=None, expires_at__gt=now)
        if under_way.count() >= settings.MAX_OPEN_UPLOADS:
            text = f"You have {settings.MAX_OPEN_UPLOADS} uploads under way, which is the limit. Finish or delete one."
            raise Conflict("too_many_uploads", text)
        if held_bytes(user=user, now=now) + length > settings.MAX_UNCOMMITTED_BYTES:
            raise too_much_uncommitted()
        return Upload.objects.create(
            user=user, length=length, filename=filename, expected_sha256=sha256, expires_at=now + LIFETIME
        )


def held_bytes(*, user: User, now: datetime) -> int:
    """Returns how many bytes the user's uploads have, or may yet have: whole ones too, and for a day those that were
    deleted, for so long their blobs stay."""
    rows = Upload.objects.filter(Q(expires_at__gt=now) | Q(stored_at__gt=now - REMEMBERED), user=user)
    return int(rows.aggregate(sum=Sum("length", default=0))["sum"])


def too_much_uncommitted() -> TooLarge:
    limit = settings.MAX_UNCOMMITTED_BYTES / MIB
    text = f"What you send and do not publish has at most {limit:,.0f} MiB. Publish or commit some, or wait a day."
    return TooLarge("too_much_uncommitted", text)


def max_bytes() -> int:
    """Returns the largest size of any upload; what it is used for may have a lower limit."""
    return int(max(settings.MAX_UPLOAD_BYTES, settings.MAX_ARTIFACT_BYTES))


def find(*, user: User, uid: uuid.UUID, now: datetime) -> Upload:
    """Raises NoSuchUpload (`no_such_upload`), Gone (`upload_expired`)."""
    row = Upload.objects.filter(user=user, uid=uid).first()
    if row is None:
        raise _no_such_upload()
    if row.expires_at <= now:
        raise Gone(
            "upload_expired", "The upload was deleted, or nothing came for a day. Begin a new one.", field="upload"
        )
    return row


def _no_such_upload() -> NoSuchUpload:
    return NoSuchUpload("no_such_upload", "You have no upload of this id. Begin a new one.", field="upload")


def append(*, upload: Upload, stream: storage.Readable, offset: int, digest: bytes | None, now: datetime) -> Upload:
    """Adds the piece of the file that begins at byte `offset`, and makes a blob of the file with its last byte.
    `digest` is the piece's SHA-256, where the sender says it.

    Raises NoSuchUpload, Conflict (`wrong_offset`, `upload_locked`), TooLarge (`too_long`), PieceDamaged (`piece_damaged`): the
    upload is then as it was; Broken (`upload_broken`): it goes on from what arrived; Invalid (`checksum_mismatch`):
    the file starts again at 0."""
    with _locked(upload) as file:
        row = _still_there(upload)
        if offset != row.offset:
            text = f"The next byte to send is {row.offset:,}, and this piece begins at {offset:,}."
            raise Conflict("wrong_offset", text, extra={"offset": row.offset})
        if not row.is_whole:
            _cut(file, row)
            _write(file, stream, row, digest, now)
        if row.is_whole and row.stored_at is None:
            _finish(row, file, now)
        return row


def _still_there(upload: Upload) -> Upload:
    """Reads the row again, under its file's lock: between the first look and the lock it may have been dropped."""
    row = Upload.objects.filter(pk=upload.pk).first()
    if row is None:
        _path(upload).unlink(missing_ok=True)  # opening it for the lock has made it anew
        raise _no_such_upload()
    return row


def _cut(file: BufferedRandom, row: Upload) -> None:
    """Drops what nobody was told of. Raises Broken (`upload_lost`) where less is there than was told."""
    if os.fstat(file.fileno()).st_size < row.offset:
        raise _lost(row)
    with storage.storing():
        file.truncate(row.offset)
        file.seek(row.offset)


def _write(file: BufferedRandom, stream: storage.Readable, row: Upload, digest: bytes | None, now: datetime) -> None:
    seen, size, broken = hashlib.sha256(), 0, None
    try:
        while chunk := storage.read(stream):
            size += len(chunk)
            if row.offset + size > row.length:
                raise TooLarge("too_long", f"The upload was said to have {row.length:,} bytes; this piece goes beyond.")
            seen.update(chunk)
            with storage.storing():
                file.write(chunk)
    except Broken as error:
        if digest is not None:
            raise
        broken = error
    if digest is not None and seen.digest() != digest:
        raise PieceDamaged("piece_damaged", "This piece arrived damaged: its SHA-256 differs. Send it again.")
    with storage.storing():
        file.flush()
        os.fsync(file.fileno())
    reach(Point.PIECE_SYNCED)
    row.offset, row.expires_at = row.offset + size, now + LIFETIME
    row.save(update_fields=["offset", "expires_at"])
    reach(Point.PIECE_SAVED)
    if broken is not None:
        raise broken


def _finish(row: Upload, file: BufferedRandom, now: datetime) -> None:
    """Makes the blob. Read again from the disk: the digest is of what is there, and pieces may have come to several
    processes."""
    if not row.sha256:
        with storage.storing():
            file.seek(0)
            row.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if row.expected_sha256 and row.sha256 != row.expected_sha256:
            _start_again(row)
            raise Invalid(
                "checksum_mismatch", "The file arrived damaged: its SHA-256 differs. It starts again at byte 0."
            )
        # Before the blob: who comes after a death in between knows what to look for.
        row.save(update_fields=["sha256"])
    if _path(row).exists() and os.fstat(file.fileno()).st_size == row.length:
        storage.keep(_path(row), row.sha256)
    elif not storage.exists(row.sha256):
        raise _lost(row)
    reach(Point.UPLOAD_KEPT)
    row.stored_at, row.expires_at = now, now + LIFETIME
    row.save(update_fields=["stored_at", "expires_at"])


def _start_again(row: Upload) -> None:
    row.offset, row.sha256 = 0, ""
    row.save(update_fields=["offset", "sha256"])


def _lost(row: Upload) -> Broken:
    _start_again(row)
    return Broken("upload_lost", "The server has lost what had arrived. Send the file again from byte 0.")


def content(*, user: User, uid: uuid.UUID, now: datetime) -> tuple[storage.Blob, str]:
    """Returns the whole file and its name; it may be used any number of times until the upload expires.

    Raises what `find` raises, Conflict (`incomplete`), and what the last piece raises where that is still to do."""
    row = find(user=user, uid=uid, now=now)
    if not row.is_whole:
        text = f"{row.offset / MIB:,.0f} of {row.length / MIB:,.0f} MiB of the file are here. Send the rest first."
        raise Conflict("incomplete", text, field="upload", extra={"offset": row.offset})
    if row.stored_at is None:  # whoever took the last piece died over it
        with _locked(row) as file:
            row = _still_there(row)
            if row.stored_at is None:
                _finish(row, file, now)
    return storage.Blob(row.sha256, row.length), row.filename


def given(*, user: User, upload: uuid.UUID | None, file: Any, now: datetime) -> tuple[storage.Blob | Any, str]:
    """Returns the content of an upload of before, or else the file that came with the request; and its name.
    Raises Invalid (`no_file`) where there is neither."""
    if upload is not None:
        return content(user=user, uid=upload, now=now)
    if not file:
        raise Invalid("no_file", "Send the file, or the id of an upload that is complete.", field="file")
    return file, file.name


def drop(upload: Upload, *, now: datetime) -> None:
    """Forgets it; of a whole one the row stays, expired, since its blob stays for a day and counts. Raises Conflict
    (`upload_locked`) while a piece of it arrives."""
    with _locked(upload):
        if not Upload.objects.filter(pk=upload.pk, stored_at__isnull=False).update(expires_at=now):
            upload.delete()
    _path(upload).unlink(missing_ok=True)


def forget(*, now: datetime) -> int:
    """Forgets what expired a day ago, and returns how many uploads those were. Their bytes have gone as `leftovers`,
    or, where they had become a blob, go with the garbage."""
    return Upload.objects.filter(expires_at__lte=now - REMEMBERED).delete()[0]


def _path(upload: Upload) -> Path:
    return Path(settings.STORAGE_DIR) / f"{storage.INCOMING}{upload.uid.hex}"


@contextlib.contextmanager
def _locked(upload: Upload) -> Iterator[BufferedRandom]:
    with storage.storing():
        file = os.fdopen(os.open(_path(upload), os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = "Another piece of this upload is arriving. Wait for its answer, then ask where to go on."
            raise Conflict("upload_locked", text) from None
        yield file
        if Upload.objects.filter(pk=upload.pk, stored_at__isnull=False).exists():
            _path(upload).unlink(missing_ok=True)  # opened anew after the file had become a blob
