"""Which messages the workers of a slot take."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator

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
