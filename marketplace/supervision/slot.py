"""A crash-only django-q2 worker pool: an unexpected death of any of its processes, or an unheard canary, ends the
whole slot, which its supervisor starts again. Reviving one process alone can leave the queue's locks held for good
(measured on 1.11.1: an idle worker killed with -9 stops a stock cluster)."""

from __future__ import annotations

import logging
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

from marketplace.supervision.canary import Canary
from marketplace.supervision.processes import die_with_parent

logger = logging.getLogger(__name__)
EXIT_CRASHED = 70
LOCK_SECONDS = 5.0  # a worker holds the lock of its timer for microseconds, unless it was killed meanwhile
_TIMED_OUT, _IDLE, _RECYCLED = 0, -1, -2  # what django-q2's timer of a worker says


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

    def guard(self) -> None:
        """Watches until the process ends. The stock guard waits for ever for a lock that a killed worker holds, and
        misses a timeout that its cycle does not divide."""
        canary = Canary(self.queue_name())
        self.start_event.set()
        while not self.stop_event.wait(Conf.GUARD_CYCLE):
            idle = [self._is_idle(process) for process in list(self.pool)]
            for process in (self.monitor, self.pusher):
                if not process.is_alive():
                    self.reincarnate(process)
            if canary.is_deaf(is_free=any(idle)):
                logger.critical("the slot %s does not hear its messages: it starts again", self.queue_name())
                os._exit(EXIT_CRASHED)

    def _is_idle(self, process: Any) -> bool:
        """Counts the worker's time down, replaces it where it has run out; returns whether it waits for work."""
        lock = process.timer.get_lock()
        if not lock.acquire(timeout=LOCK_SECONDS):
            logger.critical("a worker of the slot %s died with its lock held: it starts again", self.queue_name())
            os._exit(EXIT_CRASHED)
        try:
            clock = process.timer.get_obj()
            if clock.value > 0:
                clock.value = max(0.0, clock.value - Conf.GUARD_CYCLE)
            is_over = clock.value == _TIMED_OUT or not process.is_alive()
            is_idle = clock.value == _IDLE
        finally:
            lock.release()
        if is_over:
            self.reincarnate(process)
        return is_idle and not is_over

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
