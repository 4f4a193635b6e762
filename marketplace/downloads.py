"""Answers a GET or HEAD for a blob, a document or an archive: strong ETag, one byte range, If-Range, 304 and 416 (RFC 9110)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import BinaryIO

from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
    StreamingHttpResponse,
)
from django.utils.http import content_disposition_header

from marketplace import storage
from marketplace.archives import Archive
from marketplace.errors import PROBLEM_JSON, problem_document

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
_SPAN = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")
# Bytes. Less costs more calls than copying; more is mostly sent again, and beside other work leaves the caches:
# 256 KiB is as fast as any on a quiet machine and twice as fast as 2.5 MiB, the socket's buffer, on a busy one.
_MOST_AT_ONCE = 256 * 1024
_LONGEST_NUMBER = 18  # digits: more than any file has bytes, and few enough for int()


class _Slice:
    """A window on a file, with the positions that `wsgi.file_wrapper` asks for relative to its start.

    waitress reads as much as the socket's buffer may ever hold, sends what it takes now, and goes back: so a read is
    short, and the file is moved only where the next one begins elsewhere than the last one ended."""

    def __init__(self, file: BinaryIO, *, start: int, length: int) -> None:
        self._file, self._start, self._length = file, start, length
        self._position = 0
        self._file_at = file.seek(start) - start

    def read(self, size: int = -1) -> bytes:
        left = self._length - self._position
        wanted = left if size < 0 else min(size, left, _MOST_AT_ONCE)
        if self._file_at != self._position:
            self._file.seek(self._start + self._position)
        chunk = self._file.read(wanted)
        self._position += len(chunk)
        self._file_at = self._position
        return chunk

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = {0: 0, 1: self._position, 2: self._length}[whence] + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Returns (first, last) byte of a satisfiable single range, None where the header is to be ignored.
    Raises ValueError where the range lies outside the file."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = (digits.lstrip("0")[:_LONGEST_NUMBER] or digits[:1] for digits in match.groups())
    if not first:
        length = min(int(last), size)
        if length == 0:
            raise ValueError("empty suffix")
        return size - length, size - 1
    start, end = int(first), min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None
    if start >= size:
        raise ValueError("past the end")
    return start, end


def blob_response(
    request: HttpRequest,
    *,
    sha256: str,
    size: int,
    filename: str,
    content_type: str = "application/octet-stream",
    attachment: bool = True,
) -> HttpResponseBase:
    """Returns the blob, or the part asked for, with its SHA-256 as the ETag."""

    def body(start: int, length: int) -> HttpResponseBase:
        return FileResponse(_Slice(storage.open_blob(sha256), start=start, length=length))

    return _part(request, sha256, size, body, filename=filename, content_type=content_type, attachment=attachment)


def bytes_response(
    request: HttpRequest, *, content: bytes, filename: str, content_type: str, attachment: bool = True
) -> HttpResponseBase:
    """Returns a document that was just written, or the part asked for, likewise."""

    def body(start: int, length: int) -> HttpResponseBase:
        return HttpResponse(content[start : start + length])

    digest = hashlib.sha256(content).hexdigest()
    return _part(
        request, digest, len(content), body, filename=filename, content_type=content_type, attachment=attachment
    )


def archive_response(request: HttpRequest, *, archive: Archive, filename: str) -> HttpResponseBase:
    """Returns the zip, or the part asked for, in constant memory however large it is."""

    def body(start: int, length: int) -> HttpResponseBase:
        return StreamingHttpResponse(archive.chunks(start=start, length=length))

    return _part(
        request,
        archive.digest,
        archive.size_bytes,
        body,
        filename=filename,
        content_type="application/zip",
        attachment=True,
    )


def _part(
    request: HttpRequest,
    digest: str,
    size: int,
    body: Callable[[int, int], HttpResponseBase],
    *,
    filename: str,
    content_type: str,
    attachment: bool,
) -> HttpResponseBase:
    etag = f'"{digest}"'
    if request.headers.get("If-None-Match") in {etag, "*"}:
        return HttpResponse(status=304, headers={"ETag": etag})
    span: tuple[int, int] | None = None
    if request.headers.get("If-Range", etag) == etag:
        try:
            span = parse_range(request.headers.get("Range", ""), size)
        except ValueError:
            return _outside(size, etag)
    start, end = span or (0, size - 1)
    response = HttpResponse() if request.method == "HEAD" else body(start, end - start + 1)
    response.status_code = 206 if span else 200
    response["Content-Type"] = content_type
    response["Content-Length"] = str(end - start + 1)
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = etag
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-cache"
    if disposition := content_disposition_header(attachment, filename):
        response["Content-Disposition"] = disposition
    if span:
        response["Content-Range"] = f"bytes {start}-{end}/{size}"
    return response


def _outside(size: int, etag: str) -> HttpResponse:
    text = f"The range lies outside the file, which has {size} bytes. Ask for a part of it."
    document = problem_document(status=416, code="bad_range", detail=text)
    headers = {"Content-Range": f"bytes */{size}", "ETag": etag}
    return JsonResponse(document, status=416, content_type=PROBLEM_JSON, headers=headers)


# A range from the start that is shorter, and not the whole file, is a look at its header: safetensors readers
# do that. Clients that load in parts take larger ones.
_SHORTEST_PART = 2**20  # bytes


def is_a_download(request: HttpRequest, response: HttpResponseBase) -> bool:
    """True for the answer that a download is counted by: the one that carries the first byte, and with it the
    whole file or a part of at least a MiB. The parts that follow, and a resumption, carry others."""
    if request.method != "GET" or response.status_code not in (200, 206):
        return False
    if response.status_code == 200:  # noqa: PLR2004 - OK: the whole file
        return True
    first, last, size = (int(number) for number in _SPAN.findall(response["Content-Range"])[0])
    return first == 0 and (last == size - 1 or last + 1 >= _SHORTEST_PART)
