"""A crash-only django-q2 worker pool: an unexpected death of any of its processes ends the whole slot,
which its supervisor starts again. Reviving one process alone can leave the queue's locks held for good
(measured on 1.11.1: an idle worker killed with -9 stops a stock cluster)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import uuid
from collections.abc import Callable
from multiprocessing import Event
from types import FrameType
from typing import Any

from django_q.cluster import Sentinel, get_mp_context, worker
from django_q.conf import Conf

from marketplace.supervision.processes import die_with_parent

EXIT_CRASHED = 70
_TIMED_OUT, _RECYCLED = 0, -2


def _tied(parent_pid: int, target: Callable[..., None], *args: Any) -> None:
    die_with_parent(parent_pid)
    target(*args)


class CrashOnlySentinel(Sentinel):
    """Guards the pool in the slot's own process, so that the slot's death is the pool's."""

    def spawn_process(self, target: Callable[..., None], *args: Any) -> Any:
        process: Any = get_mp_context().Process(
            target=_tied, args=(os.getpid(), target, *args), name=f"Process-{uuid.uuid4().hex}"
        )
        process.daemon = True
        if target is worker:
            process.daemon = Conf.DAEMONIZE_WORKERS
            process.timer = args[2]
            self.pool.append(process)
        process.start()
        return process

    def reincarnate(self, process: Any) -> None:
        """Replaces a worker that timed out or was recycled; every other death ends the slot."""
        expected = process not in (self.monitor, self.pusher) and int(process.timer.value) in (_TIMED_OUT, _RECYCLED)
        if not expected:
            os._exit(EXIT_CRASHED)
        super().reincarnate(process)


def run() -> None:
    """Works until SIGTERM, which ends the slot at once: leases give its work to the next one."""
    multiprocessing.current_process().name = "slot"
    start, stop = Event(), Event()
    sentinel = CrashOnlySentinel(stop, start, uuid.uuid4(), start=False)

    def leave(_number: int, _frame: FrameType | None) -> None:
        os._exit(0)  # the kernel ends the children, and the engines with them

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    sentinel.start()
