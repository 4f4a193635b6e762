from __future__ import annotations

import itertools
import random

import pytest
from django.test import RequestFactory
from waitress.buffers import ReadOnlyFileBasedBuffer

from marketplace import storage
from marketplace.downloads import blob_response, parse_range

LONG = "9" * 5000  # more digits than int() reads


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-", (0, 99)),
        ("bytes=00005-000000000000000000000000007", (5, 7)),
        (f"bytes=0-{LONG}", (0, 99)),
        (f"bytes=-{LONG}", (0, 99)),
        ("bytes=7-5", None),
        ("bytes=-", None),
        ("bytes=٣-", None),
    ],
)
def test_a_range_of_any_length_is_read(header: str, span: tuple[int, int] | None) -> None:
    assert parse_range(header, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", f"bytes={LONG}-", "bytes=-0"])
def test_a_range_outside_the_file_is_refused(header: str) -> None:
    with pytest.raises(ValueError):
        parse_range(header, 100)


@pytest.mark.parametrize(("header", "start", "end"), [("", 0, 3_000_000), ("bytes=1000-2000001", 1000, 2_000_002)])
def test_what_a_slow_socket_takes_by_and_by_is_the_file(header: str, start: int, end: int) -> None:
    content = random.Random(7).randbytes(3_000_000)
    blob = storage.put_bytes(content)
    request = RequestFactory().get("/", headers={"Range": header} if header else {})
    response = blob_response(request, sha256=blob.sha256, size=blob.bytes, filename="x")
    buffer = ReadOnlyFileBasedBuffer(response.file_to_stream)

    # As waitress does it: it looks at as much as a socket's buffer may hold, and goes on after what was taken.
    assert buffer.prepare(end - start) == end - start
    sent = b""
    for share in itertools.cycle((1.0, 0.5, 0.001)):
        chunk = buffer.get(2_600_000)
        if not chunk:
            break
        taken = max(1, int(share * len(chunk)))
        sent += chunk[:taken]
        buffer.skip(taken, True)
    buffer.close()

    assert sent == content[start:end]
