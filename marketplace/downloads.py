"""Answers a GET or HEAD for a blob: strong ETag, one byte range, If-Range, 304 and 416 (RFC 9110)."""

from __future__ import annotations

import re
from typing import BinaryIO

from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.http import content_disposition_header

from marketplace import storage

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
_SPAN = re.compile(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)")
_LONGEST_NUMBER = 18  # digits: more than any file has bytes, and few enough for int()


class _Slice:
    """A window on a file, with the positions that `wsgi.file_wrapper` asks for relative to its start."""

    def __init__(self, file: BinaryIO, *, start: int, length: int) -> None:
        self._file, self._start, self._left = file, start, length
        self._length = length
        file.seek(start)

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        chunk = self._file.read(wanted)
        self._left -= len(chunk)
        return chunk

    def seek(self, offset: int, whence: int = 0) -> int:
        position = {0: offset, 1: self.tell() + offset, 2: self._length + offset}[whence]
        self._file.seek(self._start + position)
        self._left = self._length - position
        return position

    def tell(self) -> int:
        return self._length - self._left

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
    etag = f'"{sha256}"'
    if request.headers.get("If-None-Match") in {etag, "*"}:
        return HttpResponse(status=304, headers={"ETag": etag})
    span: tuple[int, int] | None = None
    if request.headers.get("If-Range", etag) == etag:
        try:
            span = parse_range(request.headers.get("Range", ""), size)
        except ValueError:
            return _outside(size, etag)
    start, end = span or (0, size - 1)
    response = _body(request, sha256, start, end - start + 1)
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
    document = {
        "type": "/docs/errors#bad_range",
        "title": "Bad range",
        "status": 416,
        "code": "bad_range",
        "detail": text,
        "errors": [],
    }
    headers = {"Content-Range": f"bytes */{size}", "ETag": etag}
    return JsonResponse(document, status=416, content_type="application/problem+json", headers=headers)


def _body(request: HttpRequest, sha256: str, start: int, length: int) -> HttpResponseBase:
    if request.method == "HEAD":
        return HttpResponse()
    return FileResponse(_Slice(storage.open_blob(sha256), start=start, length=length))


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
