"""One large file by tus: what it costs the web process in memory, and its speed beside a plain copy.

`python -m benchmarks upload [--gib N]` starts the product, sends so many GiB of noise in pieces over one kept connection
(`Upload-Checksum` on each), and reads the peak resident memory of the web process before and after. The peer copies the
same bytes on the same disk with the same hashing, twice, as the server reads them twice.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import json
import os
import tempfile
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

from benchmarks import product

LIMIT_MIB = 200.0
PIECE_BYTES = 8 * 2**20
_NOISE_BYTES = 64 * 2**20


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks upload", description=__doc__)
    parser.add_argument("--gib", type=float, default=4.0)
    options = parser.parse_args(arguments)
    pieces = max(1, round(options.gib * 2**30 / PIECE_BYTES))
    noise = os.urandom(_NOISE_BYTES)
    with tempfile.TemporaryDirectory(prefix="upload-") as folder, product.running(Path(folder)) as world:
        web = product.web_process(world.stack, Path(folder))
        before = product.peak_mib(web)
        began = time.monotonic()
        digest, told = _send(world, noise, pieces)
        seconds = time.monotonic() - began
        peak = product.peak_mib(web)
        plain = _copied(Path(folder) / "plain", noise, pieces)
    size = pieces * PIECE_BYTES / 2**20
    is_met = told == digest and peak < LIMIT_MIB
    print(f"{size:,.0f} MiB by tus: {seconds:.1f} s, {size / seconds:.0f} MiB/s; hashed and copied: {plain:.1f} s")
    print(f"web process at its peak: {peak:.0f} MiB ({before:.0f} before); aim: below {LIMIT_MIB:.0f}")
    print(f"SHA-256 {'as sent' if told == digest else 'DIFFERS'}")
    print(
        json.dumps(
            {"is_met": is_met, "seconds": seconds, "plain_seconds": plain, "peak_mib": peak, "peak_before_mib": before}
        )
    )


def _piece(noise: bytes, number: int) -> bytes:
    """Pieces differ, and their file is as hard to compress as noise."""
    start = number * PIECE_BYTES % _NOISE_BYTES
    return number.to_bytes(8, "big") + noise[start + 8 : start + PIECE_BYTES]


def _send(world: Any, noise: bytes, pieces: int) -> tuple[str, str]:
    """Returns (digest of what was sent, digest that the server tells)."""
    common = {"Authorization": f"Bearer {world.token}", "Tus-Resumable": "1.0.0"}
    connection = http.client.HTTPConnection("127.0.0.1", world.stack.port, timeout=600)
    length = {"Upload-Length": str(pieces * PIECE_BYTES)}
    place = _asked(connection, "POST", "/api/v1/uploads/", b"", {**common, **length}, HTTPStatus.CREATED)["Location"]
    path = "/" + place.split("/", 3)[3]
    whole = hashlib.sha256()
    for number in range(pieces):
        content = _piece(noise, number)
        whole.update(content)
        checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
        headers = {
            "Upload-Offset": str(number * PIECE_BYTES),
            "Upload-Checksum": f"sha256 {checksum}",
            "Content-Type": "application/offset+octet-stream",
        }
        _asked(connection, "PATCH", path, content, {**common, **headers}, HTTPStatus.NO_CONTENT)
    connection.request("GET", path, headers=common)
    return whole.hexdigest(), json.loads(connection.getresponse().read())["sha256"]


def _asked(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    content: bytes,
    headers: dict[str, str],
    expected: HTTPStatus,
) -> Any:
    connection.request(method, path, body=content, headers=headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != expected:
        raise SystemExit(f"{method} {path} was refused with {answer.status}: {text[:300]!r}")
    return answer.headers


def _copied(path: Path, noise: bytes, pieces: int) -> float:
    began = time.monotonic()
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(pieces):
            content = _piece(noise, number)
            digest.update(content)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return time.monotonic() - began
