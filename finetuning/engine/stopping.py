"""The wish to stop. Apart from `runtime` because it must work before torch is imported."""

from __future__ import annotations

import signal
import threading
from types import FrameType

_stop = threading.Event()


class Stopped(BaseException):
    """The engine was asked to stop. Not an Exception, so that no library swallows it."""


def watch_for_stop() -> None:
    """Makes SIGTERM and SIGINT raise Stopped in the main thread, wherever it is: without a `result.json`
    nothing in a run directory counts, so no place is unsafe. Other threads ask `stop_requested`."""
    signal.signal(signal.SIGTERM, _request_stop)
    signal.signal(signal.SIGINT, _request_stop)


def stop_requested() -> bool:
    return _stop.is_set()


def check_stop() -> None:
    """Raises Stopped once the process has been asked to stop."""
    if _stop.is_set():
        raise Stopped


def _request_stop(_number: int, _frame: FrameType | None) -> None:
    # A second signal must not interrupt the clean-up after the first.
    if not _stop.is_set():
        _stop.set()
        raise Stopped
