"""One function applied to the parts of a long list by every core of the machine, its results in order.

Processes on Linux: a small image costs more time in Python than in the decoder, and threads of one process would wait
for each other. Elsewhere, and where the machine allows no processes, threads.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

from finetuning.engine.failures import AppFault
from finetuning.engine.stopping import die_with_parent

_FORKS = sys.platform == "linux"
_WAITING_EACH = 2  # parts in flight for each core: their results wait in memory for those before them
_WAITING_EACH_THREAD = 4  # theirs are smaller: a mask, the pairs among some hashes
Part = TypeVar("Part")
Result = TypeVar("Result")
_given: list[Callable[[Any], Any]] = []  # in a worker: the function, which a fork hands over without pickling


def shared_lock() -> AbstractContextManager[Any]:
    """Returns a lock that holds between the workers of `in_order`, whatever they are."""
    return multiprocessing.get_context("fork").Lock() if _FORKS and _has_semaphores() else threading.Lock()


@cache
def _has_semaphores() -> bool:
    """Whether processes of this machine can share locks: not without /dev/shm. Asked once, for what is locked in one way
    must not be worked on in the other."""
    try:
        multiprocessing.get_context("fork").Lock()
    except (ImportError, OSError):
        return False
    return True


def in_order(work: Callable[[Part], Result], parts: Sequence[Part]) -> Generator[Result, None, None]:
    """Yields what `work` makes of each part, in their order, holding few results at a time. Parts and results are
    pickled, `work` and what it refers to are not. Raises what `work` raises, of the first part that does;
    AppFault (`worker_lost`)."""
    if len(parts) < 2:
        yield from map(work, parts)
        return
    count = min(os.cpu_count() or 1, len(parts))
    others = set(multiprocessing.active_children())
    pool, task = _pool(work, count)
    waiting: deque[Future[Result]] = deque()
    try:
        for part in parts:
            waiting.append(pool.submit(task, part))
            if len(waiting) >= count * _WAITING_EACH:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        _kill(set(multiprocessing.active_children()) - others)
        raise AppFault("worker_lost", "A part of the work ended before its time. Try again.") from error
    finally:
        # Not canceled: in Python 3.11 a pool that breaks then gives up in the middle, and what is left waits for ever.
        if any(isinstance(future.exception(), BrokenProcessPool) for future in wait(waiting).done):
            _kill(set(multiprocessing.active_children()) - others)
        pool.shutdown()


def _kill(rest: Iterable[Any]) -> None:
    """Ends the processes that are left of a pool: deaf to SIGTERM, they may wait for a lock that one died with."""
    for process in rest:
        process.kill()


def in_threads(work: Callable[[Part], Result], parts: Iterable[Part]) -> Iterator[tuple[Part, Result]]:
    """Yields each part with what `work` makes of it, in order, holding few results at a time: for work that leaves Python
    to a decoder or to NumPy, whose threads do not wait for each other."""
    threads = os.cpu_count() or 1
    waiting: deque[tuple[Part, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for part in parts:
                waiting.append((part, pool.submit(work, part)))
                if len(waiting) >= threads * _WAITING_EACH_THREAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _pool(work: Callable[[Part], Result], count: int) -> tuple[Executor, Callable[[Part], Result]]:
    if _FORKS and _has_semaphores():
        context = multiprocessing.get_context("fork")
        gc.freeze()  # or each child would walk through all that is here now, and so copy it
        return ProcessPoolExecutor(count, context, _begin, (work, os.getpid())), _call
    return ThreadPoolExecutor(count), work


def _begin(work: Callable[[Any], Any], parent: int) -> None:
    die_with_parent(parent)
    for number in (signal.SIGTERM, signal.SIGINT):  # the parent is asked too, and ends its workers
        signal.signal(number, signal.SIG_IGN)
    _given[:] = [work]


def _call(part: Any) -> Any:
    return _given[0](part)
