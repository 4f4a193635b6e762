"""What Hub clients wait for, on one web process with many listings: metadata, one large download, many ranges at once.

`python -m benchmarks hub [--listings N] [--requests N] [--gib N] [--readers N] [--rounds N] [--realtime]` starts the
product with a catalog and measures over kept connections, with a buyer's token: model info of listings drawn at random;
the HEAD of a licensed file, by branch and by revision; the HEAD of files that the buyer has no license of. Then a file of
so many GiB comes through `/resolve/` and, in turns, from Python's own `http.server` over the same file; each is read to
the end and thrown away, and once through `/resolve/` it is hashed. At last the readers ask for ranges, all at once, and
compare each with the file. With `--realtime` servers and clients go before everything else on the machine, as if it had
no other work; that needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

from benchmarks import product

P95_MS, LEAST_SHARE, GROWTH_MIB = 30.0, 0.6, 32.0
NAME = "large.safetensors"
MODEL = "maker/net"
PIECE_BYTES, LONGEST_RANGE = 2**20, 2**20
_NOISE_BYTES = 64 * 2**20
_WARM, _SEED, _TIMEOUT_SECONDS = 20, 7, 120


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks hub", description=__doc__)
    parser.add_argument("--listings", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=500, help="of each kind")
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--readers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="downloads of each side; the median counts")
    parser.add_argument("--realtime", action="store_true")
    options = parser.parse_args(arguments)
    # No limit of calls: this asks as many in a minute as many buyers.
    with (
        tempfile.TemporaryDirectory(prefix="hub-") as folder,
        product.running(Path(folder), RATE_LIMIT_USER="1000000/min") as world,
    ):
        product.fill(options.listings)
        file = _large_file(options.gib)
        web = product.web_process(world.stack, Path(folder))
        if options.realtime:
            _go_first(web)
            _go_first(os.getpid())  # and what it starts from now on
        site = _Site(world.stack.port, world.token)
        figures: dict[str, Any] = _metadata(site, web, options.requests, options.listings)
        before = product.peak_mib(web)
        figures |= _downloads(site, file, rounds=options.rounds)
        figures |= _ranges(site, file, options.readers)
        figures |= {"peak_before_mib": before, "peak_mib": product.peak_mib(web)}
    _report(figures, options)


def _go_first(pid: int) -> None:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setscheduler(int(thread.name), os.SCHED_RR, os.sched_param(1))


class _Site:
    """The product as one client sees it."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.headers = port, {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_SECONDS)

    def milliseconds(self, method: str, addresses: list[str], expected: HTTPStatus) -> list[float]:
        """Returns how long each answer took, one after the other over one connection."""
        connection, taken = self.connect(), []
        for address in addresses:
            began = time.perf_counter()
            connection.request(method, address, headers=self.headers)
            answer = connection.getresponse()
            text = answer.read()
            taken.append(1000 * (time.perf_counter() - began))
            if answer.status != expected:
                raise SystemExit(f"{method} {address} was answered with {answer.status}: {text[:300]!r}")
        connection.close()
        return taken[min(_WARM, len(taken) // 2) :]


def _metadata(site: _Site, web: int, count: int, listings: int) -> dict[str, Any]:
    """Returns the times of each kind, and what one answer took of the web process's processor time: that says what the
    times would be where nobody else wants the machine."""
    drawn = random.Random(_SEED)  # noqa: S311 - the same ones each time
    names = [f"maker/net{drawn.randrange(listings)}" for _ in range(count)]
    sha = _sha(site)
    files = [f"/{MODEL}/resolve/{('main', sha)[turn % 2]}/config.json" for turn in range(count)]
    kinds = {
        "info": ("GET", [f"/api/models/{name}" for name in names], HTTPStatus.OK),
        "head": ("HEAD", files, HTTPStatus.OK),
        "refused": ("HEAD", [f"/{name}/resolve/main/config.json" for name in names], HTTPStatus.FORBIDDEN),
    }
    figures: dict[str, Any] = {}
    for kind, (method, addresses, expected) in kinds.items():
        used = product.processor_seconds(web)
        taken = site.milliseconds(method, addresses, expected)
        used = product.processor_seconds(web) - used
        figures[f"{kind}_p50_ms"] = round(statistics.median(taken), 1)
        figures[f"{kind}_p95_ms"] = round(sorted(taken)[int(0.95 * (len(taken) - 1))], 1)
        figures[f"{kind}_web_ms"] = round(1000 * used / len(addresses), 1)
    return figures


def _sha(site: _Site) -> str:
    connection = site.connect()
    connection.request("GET", f"/api/models/{MODEL}", headers=site.headers)
    return str(json.loads(connection.getresponse().read())["sha"])


def _large_file(gib: float) -> Path:
    """Adds a file of noise to the licensed release, past the services, which take no such file after publication."""
    from marketplace import storage  # noqa: PLC0415 - after the settings are known
    from models_catalog.models import Artifact, Release  # noqa: PLC0415 - as above

    release = Release.objects.get(listing__name=MODEL.partition("/")[2])
    blob = storage.put(_Noise(max(1, round(gib * 2**30 / PIECE_BYTES))), max_bytes=2**50)
    Artifact.objects.create(release=release, path=NAME, sha256=blob.sha256, bytes=blob.bytes)
    return storage.path_of(blob.sha256)


class _Noise:
    """So many pieces, no two of them alike."""

    def __init__(self, pieces: int) -> None:
        self._noise, self._left = os.urandom(_NOISE_BYTES), pieces

    def read(self, _size: int = -1, /) -> bytes:
        if not self._left:
            return b""
        self._left -= 1
        start = self._left * PIECE_BYTES % _NOISE_BYTES
        return self._left.to_bytes(8, "big") + self._noise[start + 8 : start + PIECE_BYTES]


def _downloads(site: _Site, file: Path, *, rounds: int) -> dict[str, Any]:
    ours, theirs = [], []
    address = f"/{MODEL}/resolve/main/{NAME}"
    with _bare_server(file.parent) as port:
        for _ in range(rounds):
            theirs.append(_mib_per_second(http.client.HTTPConnection("127.0.0.1", port), f"/{file.name}", {}))
            ours.append(_mib_per_second(site.connect(), address, site.headers))
    digest = hashlib.sha256()
    _read(site.connect(), address, site.headers, digest)
    ratio = statistics.median(ours) / statistics.median(theirs)
    return {
        "gib": round(file.stat().st_size / 2**30, 2),
        "ours_mib_per_second": [round(speed) for speed in ours],
        "bare_mib_per_second": [round(speed) for speed in theirs],
        "share_of_bare": round(ratio, 2),
        "is_whole": digest.hexdigest() == file.name,
    }


@contextlib.contextmanager
def _bare_server(folder: Path) -> Iterator[int]:
    """Python's own file server over the folder; yields its port."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        told = process.stdout.readline()  # Serving HTTP on 127.0.0.1 port 12345 (http://...
        yield int(told.split(" port ")[1].split()[0])
    finally:
        process.terminate()
        process.wait()


def _mib_per_second(connection: http.client.HTTPConnection, address: str, headers: dict[str, str]) -> float:
    began = time.perf_counter()
    size = _read(connection, address, headers)
    return size / 2**20 / (time.perf_counter() - began)


def _read(connection: http.client.HTTPConnection, address: str, headers: dict[str, str], digest: Any = None) -> int:
    """Returns how many bytes came; they are hashed where a digest is given, and thrown away."""
    connection.request("GET", address, headers=headers)
    answer = connection.getresponse()
    if answer.status != HTTPStatus.OK:
        raise SystemExit(f"{address} was answered with {answer.status}: {answer.read(300)!r}")
    buffer, size = memoryview(bytearray(PIECE_BYTES)), 0
    while count := answer.readinto(buffer):
        size += count
        if digest is not None:
            digest.update(buffer[:count])
    connection.close()
    if size != int(answer.headers["Content-Length"]):
        raise SystemExit(f"{address} broke off after {size} bytes.")
    return size


def _ranges(site: _Site, file: Path, readers: int) -> dict[str, Any]:
    """Every reader has a connection of its own, and all ask at the same moment."""
    drawn, size = random.Random(_SEED), file.stat().st_size  # noqa: S311 - as above
    start_together, faults = threading.Barrier(readers + 1), []

    def read(first: int, length: int) -> None:
        try:
            connection = site.connect()
            start_together.wait()
            span = f"bytes={first}-{first + length - 1}"
            connection.request("GET", f"/{MODEL}/resolve/main/{NAME}", headers={**site.headers, "Range": span})
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != HTTPStatus.PARTIAL_CONTENT or content != _bytes_of(file, first, length):
                faults.append(f"{span}: {answer.status}, {len(content)} bytes")
        except (OSError, http.client.HTTPException) as error:
            faults.append(repr(error))

    threads = []
    for _ in range(readers):
        length = min(size, drawn.randint(1, LONGEST_RANGE))
        threads.append(threading.Thread(target=read, args=(drawn.randint(0, size - length), length)))
    for thread in threads:
        thread.start()
    start_together.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    for fault in faults[:5]:
        print(fault, file=sys.stderr)
    return {"ranges": readers, "ranges_wrong": len(faults), "ranges_seconds": round(seconds, 2)}


def _bytes_of(file: Path, first: int, length: int) -> bytes:
    with file.open("rb") as opened:
        opened.seek(first)
        return opened.read(length)


def _report(figures: dict[str, Any], options: argparse.Namespace) -> None:
    figures |= {
        "listings": options.listings,
        "realtime": options.realtime,
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }
    growth = figures["peak_mib"] - figures["peak_before_mib"]
    aims = {
        f"info and head within {P95_MS:.0f} ms (95%)": max(figures["info_p95_ms"], figures["head_p95_ms"]) < P95_MS,
        f"{LEAST_SHARE:.0%} of the bare server's speed": figures["share_of_bare"] >= LEAST_SHARE,
        "the file as it was stored": figures["is_whole"],
        f"web process grows by at most {GROWTH_MIB:.0f} MiB": growth <= GROWTH_MIB,
        "every range right": figures["ranges_wrong"] == 0,
    }
    print("\nHub clients, one web process; the bare server is Python's http.server\n")
    for name, value in figures.items():
        print(f"{name:24} {value!s:>24}")
    print()
    for aim, is_met in aims.items():
        print(f"{'Met' if is_met else 'Missed'}: {aim}")
    print()
    print(json.dumps({**figures, "is_met": all(aims.values())}))
