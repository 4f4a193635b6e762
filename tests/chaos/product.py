"""The product under test: `manage.py up` on a data directory of its own, started again when it was killed, and its
processes by what they do."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from live_stack import Stack

# Of `up`'s children, by a word of their command lines.
SERVICES = {
    "web": " web ",
    "reaper": " reaper ",
    "predictor": " serve ",
    "fast": " slot fast ",
    "train": " slot train ",
}
POOL = {"fast": 4, "train": 3}  # workers, monitor and pusher


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    name: str
    command: str

    @property
    def is_engine(self) -> bool:
        is_executed = "finetuning.engine" in self.command and " serve " not in self.command
        return self.name.startswith("engine ") or (is_executed and not self.is_fork_server)

    @property
    def is_fork_server(self) -> bool:
        return " fork-server " in self.command and not self.name.startswith("engine ")

    def send(self, number: signal.Signals) -> bool:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


class Product(Stack):
    """Holds the address: a restart answers where the killed one did."""

    def __init__(self, data_dir: Path, **changes: str) -> None:
        super().__init__(data_dir, "--no-demo", **changes)
        self.data_dir = data_dir
        self.log = data_dir.with_name(f"{data_dir.name}.log")  # where a full disk does not silence it

    def kill(self) -> None:
        """Kills the supervisor alone; the kernel ends the others."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def processes(self) -> list[Process]:
        """Everything alive that was started for this data directory."""
        return list(_processes(self.data_dir))

    def service(self, name: str) -> Process | None:
        return service_of(self, self.data_dir, name)

    def pool(self, slot: str) -> list[Process]:
        head = self.service(slot)
        return [one for one in self.processes() if head is not None and one.parent == head.pid and not one.is_engine]

    def engines(self) -> list[Process]:
        return [one for one in self.processes() if one.is_engine]

    def fork_servers(self) -> list[Process]:
        return [one for one in self.processes() if one.is_fork_server]

    def is_whole(self) -> bool:
        """Whether every process is there and the site answers."""
        if self.process.poll() is not None or any(self.service(name) is None for name in SERVICES):
            return False
        if any(len(self.pool(slot)) < count for slot, count in POOL.items()):
            return False
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/healthz", timeout=2) as answer:
            return answer.status == 200
        return False


def service_of(stack: Stack, data_dir: Path, name: str) -> Process | None:
    mark, parent = SERVICES[name], stack.process.pid
    return next((one for one in _processes(data_dir) if one.parent == parent and mark in f"{one.command} "), None)


def strays(data_dir: Path, *, patience: float = 15.0) -> list[Process]:
    """What is left of a product that has stopped, once the kernel had time to end it."""
    deadline = time.monotonic() + patience
    while (left := list(_processes(data_dir))) and time.monotonic() < deadline:
        time.sleep(0.2)
    return left


def _processes(data_dir: Path) -> Iterator[Process]:
    mark = os.fsencode(data_dir)
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes():
                head, _, rest = (folder / "stat").read_text().rpartition(")")
                state, parent, *_ = rest.split()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if state not in {"Z", "X"}:
                    yield Process(int(folder.name), int(parent), head.partition("(")[2], command)
