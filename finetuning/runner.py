"""Runs the engine on a run directory and watches it. Knows no database: its callers pass functions.

The engine leads its own process group, with nothing of the site's environment, tied to the death of this thread;
whatever happens here, the group is dead when `run_engine` returns.
"""

from __future__ import annotations

import functools
import json
import math
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from finetuning.engine import crash_points, plain_files
from finetuning.engine.crash_points import Point, reach
from finetuning.engine.events import Event, EventTail, Kind
from finetuning.engine.spec import (
    CHECKPOINT_VARIABLE,
    CONFINEMENT_VARIABLE,
    EVENTS_FILE,
    INPUTS_DIR,
    RESULT_FILE,
    Verb,
)
from finetuning.engine_processes import ENGINE, Engine, start
from finetuning.failures import read_code

POLL_SECONDS = 0.2
GRACE_SECONDS = 7.5  # from SIGTERM to SIGKILL, as CI services give
PAUSE_SECONDS = 60.0  # from the wish for a pause to SIGTERM: a step and a checkpoint of the largest weights
DRAIN_SECONDS = 15.0  # from the wish that it is laid down to SIGKILL: who stops a server does not wait long
EXIT_BUSY = 75
_SPARE_SECONDS = 60  # of the processor, for the minutes in which a deadline is noticed
_PROBE_SECONDS = 60
PAUSE_SIGNAL = signal.SIGUSR1
_RESUMED = frozenset({Verb.TRAIN, Verb.SEARCH})  # these go on from checkpoints; others begin again
LOG_FILE = "engine.log"  # what the engine prints, for the operator
MAX_RESULT_BYTES = 256 * 2**20  # a longer result is none: the reader's memory is the site's
_PASSED_ON = (CHECKPOINT_VARIABLE,)  # the operator's word to the engine
_ROOT = Path(__file__).resolve().parent.parent


class Signal(StrEnum):
    CONTINUE = "continue"
    CANCEL = "cancel"
    PAUSE = "pause"
    DRAIN = "drain"  # this server stops: the work is to be laid down
    LOST = "lost"  # somebody else holds the lease now


class Ending(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    PAUSED = "paused"
    DRAINED = "drained"
    LOST = "lost"
    BUSY = "busy"  # another engine works in this directory


@dataclass(frozen=True, slots=True)
class Sandbox:
    """How an engine is confined; each part that the kernel refuses is done without, unless it is `required`. Memory
    is what the machine has and 0 else; `file_bytes` is of one file."""

    required: bool = False
    memory_bytes: int = 0
    file_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    ending: Ending
    code: str = ""
    message: str = ""
    items: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


@dataclass(slots=True)
class _Feed:
    """The events of one engine. An earlier attempt's engine may still write while it dies; the new one says
    `started` once it holds the directory, and only what follows is its own."""

    tail: EventTail
    has_started: bool = False
    failed: Event | None = None

    def take(self) -> list[Event]:
        events = self.tail.read()
        if not self.has_started:
            kinds = [event.kind for event in events]
            events = events[kinds.index(Kind.STARTED) :] if Kind.STARTED in kinds else []
            self.has_started = bool(events)
        self.failed = next((event for event in reversed(events) if event.kind is Kind.FAILED), self.failed)
        return events


def run_engine(
    verb: Verb,
    run_dir: Path,
    *,
    on_events: Callable[[list[Event]], None],
    heartbeat: Callable[[], Signal],
    deadline_seconds: float,
    threads: int = 0,
    stall_seconds: float = math.inf,
    drain_seconds: float = DRAIN_SECONDS,
    sandbox: Sandbox = Sandbox(),
    warm_seconds: float = 0.0,
    program: Sequence[str] = ENGINE,
) -> Outcome:
    """Runs one verb to its end. `on_events` gets new events as they come, `heartbeat` is asked several times
    a second whether to go on; both must answer at once, and what they raise ends the engine and is passed on. An
    engine that says nothing for `stall_seconds` is ended too. At DRAIN a verb that can go on later has `drain_seconds`
    for a checkpoint. For `warm_seconds` afterwards this thread keeps what engines import in memory."""
    feed = _Feed(EventTail(run_dir / EVENTS_FILE, from_end=True))
    (run_dir / "tmp").mkdir(exist_ok=True)
    with plain_files.appending(run_dir, LOG_FILE) as log:
        reach(Point.ENGINE_STARTING)
        engine = start(
            verb,
            run_dir,
            common=_common(threads),
            own={**_own(run_dir), **_confinement(verb, sandbox, deadline_seconds)},
            log=log,
            warm_seconds=warm_seconds,
            program=program,
        )
        try:
            reach(Point.ENGINE_STARTED)
            stopped = _watch(
                engine,
                feed,
                on_events,
                heartbeat,
                deadline_seconds=deadline_seconds,
                stall_seconds=stall_seconds,
                drain_seconds=drain_seconds if verb in _RESUMED else 0.0,
            )
        finally:
            engine.end()
    reach(Point.ENGINE_ENDED)
    on_events(feed.take())
    while feed.tail.has_more:
        on_events(feed.take())
    return stopped or _ending(engine.exit_code, run_dir, feed.failed)


def _common(threads: int) -> dict[str, str]:
    """What every engine of this site finds in its environment: no secret, no database address."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(_ROOT),
        "HF_HUB_OFFLINE": "1",
    }
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    return environment


def _own(run_dir: Path) -> dict[str, str]:
    """What one engine finds there beside."""
    environment = {"HOME": str(run_dir), "TMPDIR": str(run_dir / "tmp")}
    if wish := crash_points.armed():
        environment[crash_points.VARIABLE] = wish
    return {**environment, **{name: os.environ[name] for name in _PASSED_ON if name in os.environ}}


def _confinement(verb: Verb, sandbox: Sandbox, deadline_seconds: float) -> dict[str, str]:
    """The wish that finetuning/engine/confinement.py reads. The one verb that fetches keeps the network."""
    cores = os.cpu_count() or 1
    memory = sandbox.memory_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    seconds = math.ceil(cores * deadline_seconds) + _SPARE_SECONDS
    return {
        CONFINEMENT_VARIABLE: json.dumps(
            {
                "network": verb is Verb.CONVERT,
                "required": sandbox.required,
                "memory_bytes": memory,
                "file_bytes": sandbox.file_bytes,
                "cpu_seconds": seconds,
            }
        )
    }


@functools.cache
def unconfined() -> tuple[str, ...]:
    """Returns which parts of the confinement this machine does not grant; asked once of a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder)
        (run_dir / INPUTS_DIR).mkdir()
        command = [*ENGINE, "confinement", folder]
        environment = {**_common(0), **_own(run_dir), "ENGINE_PARENT_PID": str(os.getpid())}
        try:
            done = subprocess.run(command, env=environment, capture_output=True, timeout=_PROBE_SECONDS, check=True)
            return tuple(json.loads(done.stdout)["missing"])
        except (OSError, subprocess.SubprocessError, ValueError):
            return ("everything",)  # not even the question could be asked


def _watch(
    engine: Engine,
    feed: _Feed,
    on_events: Callable[[list[Event]], None],
    heartbeat: Callable[[], Signal],
    *,
    deadline_seconds: float,
    stall_seconds: float,
    drain_seconds: float,
) -> Outcome | None:
    """Returns the outcome that was forced from outside, or None once the engine has ended by itself."""
    started = heard = time.monotonic()
    while engine.wait(0) is None:
        if events := feed.take():
            heard = time.monotonic()
            on_events(events)
        if stopped := _obey(heartbeat(), engine, heartbeat, drain_seconds=drain_seconds):
            return stopped
        if time.monotonic() - started > deadline_seconds:
            _terminate(engine)
            return Outcome(Ending.FAILED, "app:deadline", "It took longer than the time limit of this server.")
        if time.monotonic() - heard > stall_seconds:
            return Outcome(Ending.FAILED, "app:stalled", "The engine stood still for too long.")
        engine.wait(POLL_SECONDS)
    return None


def _obey(order: Signal, engine: Engine, heartbeat: Callable[[], Signal], *, drain_seconds: float) -> Outcome | None:
    """Ends the engine as it was ordered, or returns None where it may go on; what is left of it the caller kills."""
    if order is Signal.CONTINUE:
        return None
    if order is Signal.LOST:
        return Outcome(Ending.LOST, "app:lease_lost", "Another worker has taken this over.")
    if order is Signal.CANCEL:
        reach(Point.CANCEL_HEARD)
        _terminate(engine)
        return Outcome(Ending.CANCELED, "user:canceled", "Canceled.", exit_code=engine.exit_code)
    if order is Signal.DRAIN:
        if drain_seconds:
            _pause(engine, heartbeat, order=order, seconds=drain_seconds)
        return Outcome(Ending.DRAINED, "app:drained", "The server was stopped.", exit_code=engine.exit_code)
    last = _pause(engine, heartbeat, order=order, seconds=PAUSE_SECONDS)
    if engine.exit_code is None and last is not Signal.LOST:  # then there is no time
        _terminate(engine)
    return Outcome(Ending.PAUSED, "user:paused", "Paused.", exit_code=engine.exit_code)


def _pause(engine: Engine, heartbeat: Callable[[], Signal], *, order: Signal, seconds: float) -> Signal:
    """Asks for a checkpoint at the next step, and waits for the engine to end with it; not for its helpers, which
    would only die of the signal. Returns the last order: another one ends the waiting. What an engine that is still
    starting dies of is the signal, too: it has nothing to keep."""
    engine.send(PAUSE_SIGNAL)
    reach(Point.PAUSE_SENT)
    until, now = time.monotonic() + seconds, order
    while engine.wait(0) is None and time.monotonic() < until and now is order:
        engine.wait(POLL_SECONDS)
        now = heartbeat()
    return now


def _terminate(engine: Engine) -> None:
    engine.send_all(signal.SIGTERM)
    reach(Point.TERMINATE_SENT)
    engine.wait(GRACE_SECONDS)


def read_result(run_dir: Path) -> dict[str, Any] | None:
    """Returns the finished result, or None where there is none that can be read."""
    try:
        with plain_files.reading(run_dir, RESULT_FILE) as file:
            document = json.loads(file.read(MAX_RESULT_BYTES))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _ending(exit_code: int | None, run_dir: Path, failed: Event | None) -> Outcome:
    if exit_code == 0 and (result := read_result(run_dir)) is not None:
        return Outcome(Ending.SUCCEEDED, result=result, exit_code=0)
    if exit_code == EXIT_BUSY:
        return Outcome(Ending.BUSY, "app:busy", "Another engine is still at work on this.", exit_code=exit_code)
    if failed is not None:
        payload = failed.payload
        listed = payload.get("items")
        items = [str(item) for item in listed[:20]] if isinstance(listed, list) else []
        message = str(payload.get("message", "It failed."))
        return Outcome(Ending.FAILED, read_code(str(payload.get("code"))), message, items, exit_code=exit_code)
    if exit_code == -signal.SIGKILL:
        return Outcome(
            Ending.FAILED, "app:killed", "The server ended it, most likely for want of memory.", exit_code=exit_code
        )
    return Outcome(Ending.FAILED, "app:crashed", "The engine stopped without saying why.", exit_code=exit_code)
