"""A crash-only django-q2 worker pool: an unexpected death of any of its processes, or an unheard canary, ends the
whole slot, which its supervisor starts again. Reviving one process alone can leave the queue's locks held for good
(measured on 1.11.1: an idle worker killed with -9 stops a stock cluster)."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import queue
import signal
import time
import uuid
from collections.abc import Callable
from multiprocessing import Event
from types import FrameType
from typing import Any

from django.db import Error as DatabaseFault
from django_q.cluster import Sentinel, get_mp_context, worker
from django_q.conf import Conf

from marketplace.queue import ring_again
from marketplace.supervision import drain
from marketplace.supervision.canary import Canary
from marketplace.supervision.processes import die_with_parent

logger = logging.getLogger(__name__)
EXIT_CRASHED = 70
LOCK_SECONDS = 5.0  # a worker holds the lock of its timer for microseconds, unless it was killed meanwhile
QUEUE_SECONDS = 2.0  # for the pusher to end, and for the monitor, which still acknowledges what was done
DRAIN_STEP_SECONDS = 0.1
_PILL = "STOP"  # what ends django-q2's workers and its monitor
_TIMED_OUT, _IDLE, _RECYCLED = 0, -1, -2  # what django-q2's timer of a worker says


def _tied(parent_pid: int, target: Callable[..., None], *args: Any) -> None:
    die_with_parent(parent_pid)
    target(*args)


class Messages:
    """The pool's messages, as its workers take them. One that comes between the wish that the slot stops and the end of
    its pusher is left to `CrashOnlySentinel.drain`: the run that a worker has just laid down is often the next one."""

    def __init__(self, waiting: Any) -> None:
        self._waiting = waiting

    def get(self) -> Any:
        while True:
            task = self._waiting.get()
            if task == _PILL or not drain.is_asked():
                return task
            try:
                self._waiting.put(task, timeout=DRAIN_STEP_SECONDS)
            except queue.Full:  # of pills: nobody gives messages back any more, and the reaper rings again
                logger.warning("a message is lost, the reaper will ring again")
            time.sleep(DRAIN_STEP_SECONDS)


class CrashOnlySentinel(Sentinel):
    """Guards the pool in the slot's own process, so that the slot's death is the pool's."""

    slot = Conf.CLUSTER_NAME  # as messages are addressed to it; a broker calls its own list otherwise (`queue_name`)

    def spawn_process(self, target: Callable[..., None], *args: Any) -> Any:
        if target is worker:
            args = (Messages(args[0]), *args[1:])
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
        canary = Canary(self.slot)
        self.start_event.set()
        while not (self.stop_event.wait(Conf.GUARD_CYCLE) or drain.is_asked()):
            idle = [self._is_idle(process) for process in list(self.pool)]
            for process in (self.monitor, self.pusher):
                if not process.is_alive():
                    self.reincarnate(process)
            if canary.is_deaf(is_free=any(idle)):
                logger.critical("the slot %s does not hear its messages: it starts again", self.slot)
                os._exit(EXIT_CRASHED)

    def drain(self) -> None:
        """Ends the pool in order and in bounded time: no message is taken any more, those that wait here go back to
        the queue, and the workers end once they have laid down their work. Whatever is left then dies with us."""
        until = time.monotonic() + drain.slot_seconds()
        self.event_out.set()
        self.pusher.join(QUEUE_SECONDS)
        self.pusher.kill()  # it may wait for a queue that is full
        self._return_messages()
        pills = len(self.pool)
        while any(process.is_alive() for process in self.pool) and time.monotonic() < until:
            with contextlib.suppress(queue.Full):
                if pills:
                    self.task_queue.put(_PILL, timeout=DRAIN_STEP_SECONDS)
                    pills -= 1
            time.sleep(DRAIN_STEP_SECONDS)
        self.result_queue.put(_PILL)
        self.monitor.join(QUEUE_SECONDS)

    def _return_messages(self) -> None:
        try:
            while True:
                task = self.task_queue.get(timeout=DRAIN_STEP_SECONDS)
                ring_again(self.slot, task)
                self.broker.acknowledge(task["ack_id"])
        except queue.Empty:
            return
        except (DatabaseFault, OSError) as fault:
            logger.warning("a message is lost, the reaper will ring again: %s", fault)

    def _is_idle(self, process: Any) -> bool:
        """Counts the worker's time down, replaces it where it has run out; returns whether it waits for work."""
        lock = process.timer.get_lock()
        if not lock.acquire(timeout=LOCK_SECONDS):
            logger.critical("a worker of the slot %s died with its lock held: it starts again", self.slot)
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
    """Works until SIGTERM or SIGINT, which drain the slot: engines write a checkpoint and end, their runs are queued
    again. A slot that takes too long for that is ended as it is, and leases give its work to the next one."""
    multiprocessing.current_process().name = "slot"
    head = os.getpid()
    start, stop = Event(), Event()
    sentinel = CrashOnlySentinel(stop, start, uuid.uuid4(), start=False)

    def leave(_number: int, _frame: FrameType | None) -> None:
        if os.getpid() != head:
            os._exit(0)  # a process of the pool, which has inherited this: it is ended for its own sake
        drain.ask()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    sentinel.start()
    logger.info("the slot %s lays down its work", sentinel.slot)
    sentinel.drain()
    os._exit(0)  # the kernel ends what is left of the pool, and the engines with it
