"""Which messages the workers of a slot take."""

from __future__ import annotations

import multiprocessing
import queue
import threading
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from marketplace.supervision import drain
from marketplace.supervision.slot import Messages

PILL = "STOP"  # django-q2's


@pytest.fixture
def drained() -> Iterator[None]:
    drain.ask()
    yield
    drain._is_asked[0] = 0  # nothing but the end of the process takes it back


def test_a_worker_takes_what_comes() -> None:
    waiting: queue.Queue[object] = queue.Queue()
    waiting.put({"args": (1,)})
    assert Messages(waiting).get() == {"args": (1,)}


@pytest.mark.usefixtures("drained")
def test_a_worker_of_a_slot_that_stops_leaves_messages_to_the_next_slot_and_ends() -> None:
    waiting: queue.Queue[object] = queue.Queue()
    for number in range(3):
        waiting.put(number)
    taken: list[object] = []
    worker = threading.Thread(target=lambda: taken.append(Messages(waiting).get()))
    worker.start()

    left = sorted(waiting.get(timeout=30) for _ in range(3))  # as the slot does, before it ends its workers
    waiting.put(PILL)
    worker.join(30)

    assert left == [0, 1, 2]
    assert taken == [PILL]


def _end(waiting: Any) -> None:
    while Messages(waiting).get() != PILL:
        pass


@pytest.mark.usefixtures("drained")
def test_a_worker_that_finds_no_place_for_a_message_that_it_gives_back_ends_all_the_same() -> None:
    """The slot took the queue for empty meanwhile, and its pill has the only place."""

    class Late:
        """A queue into which the pill is put between the worker's `get` and its `put`."""

        def __init__(self) -> None:
            self._queue: queue.Queue[object] = queue.Queue(1)
            self._queue.put({"args": (1,)})

        def get(self) -> object:
            task = self._queue.get(timeout=30)
            if task != PILL:
                self._queue.put(PILL)
            return task

        def put(self, task: object, timeout: float) -> None:
            self._queue.put(task, timeout=timeout)

    assert Messages(Late()).get() == PILL


@pytest.mark.usefixtures("drained")
def test_processes_that_share_a_queue_end_by_their_pills() -> None:
    context = multiprocessing.get_context("fork")
    waiting = context.Queue(2)
    workers: list[BaseProcess] = [context.Process(target=_end, args=(waiting,), daemon=True) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in workers:
        waiting.put(PILL, timeout=30)
    for worker in workers:
        worker.join(30)

    assert [worker.exitcode for worker in workers] == [0, 0]
