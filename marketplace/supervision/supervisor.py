"""Keeps a set of commands alive: restarts what dies, and ends them all together."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType

from marketplace.supervision.processes import GRACE_SECONDS, kill_group, spawn, terminate

POLL_SECONDS = 0.2
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 30.0
# Who lived this long had started, and starts again at once. Who cannot start ends sooner, and is given growing pauses.
STEADY_SECONDS = 10.0


def next_pause(last: float, *, lived: float) -> float:
    """Returns the seconds until the next start of what died after `lived` seconds; `last` is the pause before."""
    if lived >= STEADY_SECONDS:
        return 0.0
    return min(LONGEST_PAUSE_SECONDS, max(FIRST_PAUSE_SECONDS, 2 * last))


@dataclass(slots=True)
class Child:
    name: str
    command: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    descriptors: Sequence[int] = ()  # which the child inherits
    grace_seconds: float = GRACE_SECONDS  # from SIGTERM to SIGKILL
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    pause: float = 0.0


class Supervisor:
    """`report` gets one line for each start, death and stop."""

    def __init__(self, children: Sequence[Child], *, report: Callable[[str], None]) -> None:
        self._children = list(children)
        self._report = report
        self._stopping = False

    def run(self, *, is_ready: Callable[[], bool], when_ready: Callable[[], None]) -> None:
        """Blocks until SIGINT or SIGTERM; every child and its group is gone when it returns. `is_ready` is asked
        until it says yes once; dead children are restarted meanwhile."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        try:
            for child in self._children:
                self._start(child)
            was_ready = False
            while not self._stopping:
                self._watch(time.monotonic())
                if not was_ready and is_ready():
                    was_ready = True
                    when_ready()
                time.sleep(POLL_SECONDS)
        finally:
            self._stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self, child: Child) -> None:
        child.process = spawn(child.command, environment=child.environment, descriptors=child.descriptors)
        child.started_at = time.monotonic()

    def _watch(self, now: float) -> None:
        for child in self._children:
            if child.process is None:
                if now >= child.restart_at:
                    self._report(f"{child.name}: starting again")
                    self._start(child)
            elif child.process.poll() is not None:
                self._bury(child, now)

    def _bury(self, child: Child, now: float) -> None:
        """Ends what the dead child left behind, and sets the time of its restart."""
        assert child.process is not None  # noqa: S101 - the caller has looked
        code = child.process.returncode
        kill_group(child.process)
        child.process = None
        child.pause = next_pause(child.pause, lived=now - child.started_at)
        child.restart_at = now + child.pause
        self._report(f"{child.name}: ended with {code}; next start in {child.pause:.0f} s")

    def _stop(self) -> None:
        """All are told at once, so that the whole takes as long as the slowest of them."""
        began = time.monotonic()
        living = [(child, child.process) for child in self._children if child.process is not None]
        for _, process in living:
            process.terminate()
        for child, process in living:
            terminate(process, grace_seconds=max(0.0, began + child.grace_seconds - time.monotonic()))
