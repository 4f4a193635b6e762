"""The wish to stop. Apart from `runtime` because it must work before torch is imported."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from types import FrameType

from finetuning.engine.failures import EXIT_APP, EXIT_PAUSED, EXIT_STOPPED

_PR_SET_PDEATHSIG = 1
_stop = threading.Event()
_pause = threading.Event()


class Stopped(BaseException):
    """The engine was asked to stop. Not an Exception, so that no library swallows it."""


def watch_for_stop() -> None:
    """Makes SIGTERM and SIGINT raise Stopped in the main thread, wherever it is: without a `result.json`
    nothing in a run directory counts, so no place is unsafe. Other threads ask `stop_requested`. SIGUSR1 asks for
    less: to stop where the work so far can be kept, by a checkpoint or because there is none to lose."""
    signal.signal(signal.SIGTERM, _request_stop)
    signal.signal(signal.SIGINT, _request_stop)
    signal.signal(signal.SIGUSR1, _request_pause)


def die_with_parent(parent: int, *, is_direct: bool = True) -> None:
    """Ends this process when its parent dies; where `parent` is the parent itself (`is_direct`), one that died
    before this call is noticed too."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if is_direct and os.getppid() != parent:
            os._exit(EXIT_APP)


def stop_requested() -> bool:
    return _stop.is_set()


def pause_requested() -> bool:
    return _pause.is_set()


def exit_code() -> int:
    """Returns what the process ends with after `Stopped`."""
    return EXIT_STOPPED if _stop.is_set() else EXIT_PAUSED


def check_stop() -> None:
    """Raises Stopped once the process has been asked to stop or to pause."""
    if _stop.is_set() or _pause.is_set():
        raise Stopped


def _request_stop(_number: int, _frame: FrameType | None) -> None:
    # A second signal must not interrupt the clean-up after the first.
    if not _stop.is_set():
        _stop.set()
        raise Stopped


def _request_pause(_number: int, _frame: FrameType | None) -> None:
    _pause.set()
