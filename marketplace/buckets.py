"""Blobs in a bucket that speaks S3. Only `storage` uses this; what a blob is, it says.

An object appears when its upload is complete, so that no name ever shows half a blob. The servers of S3 have no lock:
`publishing` and `removing` take one of the database that all machines share.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings
from django.db import connection
from django.utils import timezone
from storages.backends.s3 import S3Storage

from marketplace.errors import Unavailable

PART_BYTES = 16 * 2**20  # of an upload; S3 takes 10,000 parts: 156 GiB
WINDOW_BYTES = 8 * 2**20  # of one request while reading
STALE = timedelta(hours=24)
_LOCK_NUMBER = 0x626C6F6273  # of PostgreSQL's advisory lock
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})


def bucket() -> Bucket:
    """Returns the bucket of the settings; one for each set of options, as its connections are worth keeping."""
    return _bucket(tuple(sorted(settings.STORAGE_BUCKET.items())))


@lru_cache(maxsize=4)
def _bucket(options: tuple[tuple[str, str], ...]) -> Bucket:
    return Bucket(dict(options))


class Bucket:
    """Every method raises Unavailable (`storage_failed`) where the store does not answer or refuses."""

    def __init__(self, options: dict[str, str]) -> None:
        # Servers of one's own know no names such as bucket.host.
        style = {"addressing_style": "path"} if "endpoint_url" in options else {}
        config = Config(
            connect_timeout=5, read_timeout=60, retries={"mode": "standard", "max_attempts": 4}, s3=style or None
        )
        self._storage = S3Storage(**options, client_config=config)
        self._prefix = f"{options['location']}/" if options["location"] else ""
        self._bucket = options["bucket_name"]

    @property
    def _client(self) -> Any:
        return self._storage.connection.meta.client

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}{name[:2]}/{name[2:4]}/{name}"}

    def upload(self, path: Path, name: str) -> None:
        """Sends the file. The object is there, and young, once this returns; where it raises, nothing was left."""
        with _answering():
            if path.stat().st_size <= PART_BYTES:
                content = path.read_bytes()
                with publishing():
                    self._client.put_object(**self._at(name), Body=content)
            else:
                self._upload_parts(path, name)

    def _upload_parts(self, path: Path, name: str) -> None:
        upload = {**self._at(name), "UploadId": self._client.create_multipart_upload(**self._at(name))["UploadId"]}
        try:
            parts: list[dict[str, Any]] = []
            with path.open("rb") as file:
                while content := file.read(PART_BYTES):
                    number = len(parts) + 1
                    answer = self._client.upload_part(**upload, PartNumber=number, Body=content)
                    parts.append({"PartNumber": number, "ETag": answer["ETag"]})
            with publishing():
                self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:
            with contextlib.suppress(BotoCoreError, ClientError):  # `abort_stale` does it a day later
                self._client.abort_multipart_upload(**upload)
            raise

    def look(self, name: str) -> tuple[int, datetime] | None:
        """Returns the blob's size in bytes and when it was last stored; None where it is not there."""
        with _answering():
            try:
                answer = self._client.head_object(**self._at(name))
            except ClientError as error:
                if error.response["Error"]["Code"] in _MISSING:
                    return None
                raise
            return answer["ContentLength"], answer["LastModified"]

    def read(self, name: str, *, start: int, length: int) -> bytes:
        """Returns up to `length` bytes from `start`, which lies within the blob."""
        with _answering():
            answer = self._client.get_object(**self._at(name), Range=f"bytes={start}-{start + length - 1}")
            with contextlib.closing(answer["Body"]) as body:
                return bytes(body.read())

    def names(self) -> Iterator[str]:
        """Yields the last part of every object's name, in order."""
        with _answering():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            for page in pages:
                yield from (item["Key"].rpartition("/")[2] for item in page.get("Contents", ()))

    def remove(self, name: str) -> None:
        with _answering():
            self._client.delete_object(**self._at(name))

    def answers(self) -> bool:
        try:
            with _answering():
                self._client.head_bucket(Bucket=self._bucket)
        except Unavailable:
            return False
        return True

    def abort_stale(self) -> int:
        """Drops uploads that a killed process left a day ago or more, and returns how many those were."""
        with _answering():
            found = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix).get("Uploads", ())
            stale = [upload for upload in found if upload["Initiated"] < timezone.now() - STALE]
            for upload in stale:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
            return len(stale)

    def open(self, name: str, size: int) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(_Object(self, name, size), buffer_size=WINDOW_BYTES))


class _Object(io.RawIOBase):
    """An object as a file: each read is one request for a part, so that memory stays constant."""

    def __init__(self, store: Bucket, name: str, size: int) -> None:
        self._store, self._name, self._size, self._position = store, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = max(0, {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence] + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        window = memoryview(buffer)
        length = min(len(window), self._size - self._position, WINDOW_BYTES)
        if length <= 0:
            return 0
        content = self._store.read(self._name, start=self._position, length=length)
        window[: len(content)] = content
        self._position += len(content)
        return len(content)


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] in _MISSING and error.operation_name == "GetObject":
            raise Unavailable("file_missing", "The server has lost this file. Tell its operator.") from error
        raise Unavailable("storage_failed", "The server could not reach its files. Try again later.") from error
    except BotoCoreError as error:
        raise Unavailable("storage_failed", "The server could not reach its files. Try again later.") from error


def publishing() -> contextlib.AbstractContextManager[None]:
    """Held, together with others who store, while an object appears."""
    return _locked(exclusive=False)


def removing() -> contextlib.AbstractContextManager[None]:
    """Held alone between the look at an object's age and its removal."""
    return _locked(exclusive=True)


@contextlib.contextmanager
def _locked(*, exclusive: bool) -> Iterator[None]:
    """PostgreSQL's lock is one for all machines. With SQLite there is one machine, and a file is enough."""
    if connection.vendor != "postgresql":
        folder = Path(settings.STORAGE_DIR)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            yield
        return
    kind = "" if exclusive else "_shared"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_lock{kind}(%s)", [_LOCK_NUMBER])
        try:
            yield
        finally:
            cursor.execute(f"SELECT pg_advisory_unlock{kind}(%s)", [_LOCK_NUMBER])
