"""Page views a second while a run trains, and what they cost the run.

`python -m benchmarks pages [--seconds S] [--listings N]` starts the product with a catalog, lets a run train, and asks for
pages over kept connections: first nothing, for the run's own speed; then anonymous catalog pages, each at an address that
nobody asked for before, so that it must be made; then one address that is kept. Views a second are counted at full speed,
the run's loss of speed at the rates that are the aims. At last a browser that has the page asks whether it is still so.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from benchmarks import product

UNCACHED_AIM, CACHED_AIM, LOSS_AIM = 60.0, 300.0, 0.15
CONNECTIONS = 4
KEPT = "/models/"
WARM_SECONDS = 5.0
# Long enough to be measured to the end.
HYPER = {"epochs": 200, "batch_size": 8, "patience": 200, "augmentation": "light", "image_size": 224}
_TIMEOUT_SECONDS = 60


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks pages", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--listings", type=int, default=100)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pages-") as folder, product.running(Path(folder)) as world:
        product.fill(options.listings)
        world.launch(strategy="full", hyper=HYPER)
        product.wait(lambda: _trained() is not None, seconds=600)
        time.sleep(WARM_SECONDS)
        figures = _measured(world.stack, options.seconds)
    _report(figures)


def _measured(stack: Any, seconds: float) -> dict[str, Any]:
    def load(addresses: Any, **given: Any) -> _Load:
        return _Load(stack, addresses, seconds=seconds, **given)

    fresh, kept = _fresh_pages(), itertools.repeat(KEPT)
    paced = load(fresh, rate=UNCACHED_AIM), load(kept, rate=CACHED_AIM)
    # The run alone before, between and after: what else the machine does changes meanwhile.
    speeds = [_speed_over(seconds, act) for act in (None, paced[0].run, None, paced[1].run, None)]
    full = load(fresh), load(kept), load(kept, revalidates=True)
    for each in full:
        each.run()
    uncached, cached, asked_again = full
    return {
        "uncached_per_second": round(uncached.rate, 1),
        "cached_per_second": round(cached.rate, 1),
        "revalidated_per_second": round(asked_again.rate, 1),
        "not_modified": asked_again.unchanged,
        "failed": sum(each.failed for each in (*paced, *full)),
        "train_alone_per_second": [round(speed, 1) for speed in speeds[::2]],
        **_beside("uncached", paced[0], speeds[1], alone=(speeds[0] + speeds[2]) / 2),
        **_beside("cached", paced[1], speeds[3], alone=(speeds[2] + speeds[4]) / 2),
        "processors": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def _beside(name: str, load: _Load, speed: float, *, alone: float) -> dict[str, float]:
    """Returns the run's speed beside the load and the part that it lost; the load's own rate, its 95% time, and the
    web process's processor time for one page."""
    return {
        f"beside_{name}_per_second": round(speed, 1),
        f"loss_{name}": round(1 - speed / alone, 3) if alone else 1.0,
        f"rate_{name}": round(load.rate, 1),
        f"p95_ms_{name}": round(1000 * load.time_of(0.95), 1),
        f"web_ms_{name}": round(1000 * load.web_seconds / max(1, load.views), 2),
    }


class _Load:
    """Asks for pages over kept connections, all at once or at a rate; `run` returns when it is over."""

    def __init__(
        self, stack: Any, addresses: Any, *, seconds: float, rate: float = 0.0, revalidates: bool = False
    ) -> None:
        self._stack, self._seconds, self._pause = stack, seconds, CONNECTIONS / rate if rate else 0.0
        self._addresses, self._revalidates = addresses, revalidates
        self._lock = threading.Lock()
        self.views, self.failed, self.unchanged = 0, 0, 0
        self.web_seconds = 0.0
        self._times: list[float] = []

    @property
    def rate(self) -> float:
        return self.views / self._seconds

    def time_of(self, part: float) -> float:
        """Returns the seconds within which this part of the pages was there."""
        return sorted(self._times)[int(part * (len(self._times) - 1))] if self._times else 0.0

    def run(self) -> None:
        used = _web_seconds(self._stack.process.pid)
        threads = [threading.Thread(target=self._ask) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.web_seconds = _web_seconds(self._stack.process.pid) - used

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._stack.port, timeout=_TIMEOUT_SECONDS)
        validator = ""
        began = due = time.monotonic()
        while time.monotonic() - began < self._seconds:
            with self._lock:
                address = next(self._addresses)
            asked = time.monotonic()
            connection.request("GET", address, headers={"If-None-Match": validator} if validator else {})
            answer = connection.getresponse()
            answer.read()
            with self._lock:
                self._times.append(time.monotonic() - asked)
                self.views += 1
                self.failed += answer.status not in (HTTPStatus.OK, HTTPStatus.NOT_MODIFIED)
                self.unchanged += answer.status == HTTPStatus.NOT_MODIFIED
            if self._revalidates and answer.status == HTTPStatus.OK:
                validator = answer.headers.get("ETag", "")
            due += self._pause
            time.sleep(max(0.0, due - time.monotonic()))
        connection.close()


def _web_seconds(up: int) -> float:
    """Returns the processor time that the web process has used, a child of `up`."""
    for pid in Path(f"/proc/{up}/task/{up}/children").read_text().split():
        if b"web" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return product.processor_seconds(int(pid))
    raise SystemExit("There is no web process.")


def _fresh_pages() -> Any:
    """What the site does not know in an address changes nothing, but makes it another."""
    return (f"/models/?q=net{number % 10}&sort=newest&page={1 + number % 3}&n={number}" for number in itertools.count())


def _trained() -> int | None:
    """Returns the items that the run has trained so far, None before its training."""
    from finetuning.models import Run  # noqa: PLC0415 - after the settings are known

    progress: dict[str, Any] = Run.objects.values_list("progress", flat=True).get()
    return int(progress["done"]) if progress.get("stage") == "tune" and progress.get("done") else None


def _speed_over(seconds: float, meanwhile: Callable[[], None] | None = None) -> float:
    """Returns the items a second that the run trains, while something else happens or nothing."""
    first, began = _trained(), time.monotonic()
    if meanwhile:
        meanwhile()
    time.sleep(max(0.0, seconds - (time.monotonic() - began)))
    last, ended = _trained(), time.monotonic()
    if first is None or last is None:
        raise SystemExit("The run ended before it was measured: take fewer --seconds.")
    return (last - first) / (ended - began)


def _report(figures: dict[str, Any]) -> None:
    print("\nPages while a run trains\n")
    for name, value in figures.items():
        print(f"{name:28} {value!s:>10}")
    met = [
        figures[f"{name}_per_second"] >= aim and figures[f"loss_{name}"] <= LOSS_AIM
        for name, aim in (("uncached", UNCACHED_AIM), ("cached", CACHED_AIM))
    ]
    aims = f"{UNCACHED_AIM:.0f} uncached or {CACHED_AIM:.0f} cached views a second, at most {LOSS_AIM:.0%} lost"
    print(f"\n{'Met' if any(met) else 'Missed'}: {aims}.\n")
    print(json.dumps({**figures, "is_met": any(met)}))
