"""The engine's process: executed, or forked by a server that has imported what engines need (ADR 0047).

Either way it leads a group of its own, has nothing of the site's environment, gives way to the web server, and dies
with the thread that started it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol

from finetuning.engine import spec as specs
from finetuning.engine.spec import FORK_SERVER, WARM_VARIABLE, Verb

ENGINE = (sys.executable, "-P", "-m", "finetuning.engine")
# Somebody waits for a page, nobody for a step: with both processors busy at the web server's own priority a page took
# 65 ms, below it 23 (medians of 120). What pages do not use is the engine's all the same.
NICENESS = 10
_LOWEST_PRIORITY = 19
# Those that import torch and leave its compiler out, as a fork server does. An export needs it.
_FORKED = frozenset({Verb.VERIFY, Verb.CONVERT, Verb.TRAIN, Verb.SEARCH, Verb.ESTIMATE, Verb.EVALUATE})
# What has touched an accelerator cannot be forked; that no library does while it is imported nobody has seen yet.
_ACCELERATORS = ("nvidia*", "kfd", "dxg")
# A server waits for so much longer than orders are sent to it, or as long again where that is less.
_MARGIN_SECONDS = 60.0
_WORD_BYTES = 1024  # an answer has less
_REAP_SECONDS = 5.0  # from an engine's death to its server's word of it
_DEATH_SECONDS = 60.0  # for the memory of an engine that was killed
_numbers = itertools.count(1)


class Engine(Protocol):
    @property
    def exit_code(self) -> int | None:
        """As far as it is known: less than 0 for a signal."""

    def wait(self, seconds: float) -> int | None:
        """Returns the exit code once it has ended, or None after so many seconds."""

    def send(self, number: signal.Signals) -> None:
        """Sends to the engine alone; to one that has ended, nothing happens."""

    def send_all(self, number: signal.Signals) -> None:
        """Sends to the engine and its children."""

    def end(self) -> None:
        """Kills whatever is left of the engine and its children; they are dead when it returns."""


class Executed:
    """A program in a session of its own."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        environment: Mapping[str, str],
        log: IO[bytes],
        descriptors: Sequence[int] = (),
    ) -> None:
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=descriptors,
            start_new_session=True,
        )
        with contextlib.suppress(ProcessLookupError):  # before it has threads, which inherit it
            os.setpriority(os.PRIO_PROCESS, self._process.pid, min(os.nice(0) + NICENESS, _LOWEST_PRIORITY))

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode

    def wait(self, seconds: float) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def send_all(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def end(self) -> None:
        self.send_all(signal.SIGKILL)
        self._process.wait()


class ForkServer:
    """`finetuning/engine/fork_server.py` for one thread, with whose end the kernel ends it: one engine at a time."""

    def __init__(self, environment: Mapping[str, str], folder: Path, *, warm_seconds: float, log: IO[bytes]) -> None:
        self._environment, self._warm_seconds = dict(environment), warm_seconds
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            own = {
                **environment,
                "HOME": str(folder),
                "ENGINE_PARENT_PID": str(os.getpid()),
                WARM_VARIABLE: str(warm_seconds + min(warm_seconds, _MARGIN_SECONDS)),
            }
            self.executed = Executed(
                [*ENGINE, FORK_SERVER, str(theirs.fileno())],
                cwd=Path("/"),  # run directories come and go, and libraries ask for the current one
                environment=own,
                log=log,  # of its first order: what it cannot import
                descriptors=[theirs.fileno()],
            )
        self._heard_at = time.monotonic()
        # Only where it was started: whoever was forked from here since has a copy of this object.
        self.end = weakref.finalize(self, _end_server, os.getpid(), self.executed, self._line)

    def serves(self, environment: Mapping[str, str]) -> bool:
        """Whether it lives, will live long enough to hear of an order, and read this environment when it began."""
        is_fresh = time.monotonic() - self._heard_at < self._warm_seconds
        return self.end.alive and is_fresh and self._environment == environment and self.executed.wait(0) is None

    def fork(self, verb: Verb, run_dir: Path, *, environment: Mapping[str, str], log: IO[bytes]) -> Forked:
        number, (framework, tasks) = next(_numbers), _libraries(run_dir)
        order = {
            "number": number,
            "verb": verb.value,
            "run_dir": str(run_dir),
            "environment": dict(environment),
            "framework": framework or "",
            "tasks": tasks,
        }
        try:
            self._line.settimeout(_REAP_SECONDS)
            socket.send_fds(self._line, [json.dumps(order).encode()], [log.fileno()])
        except OSError:  # it is gone or stands still: the engine that there is not tells
            self.end()
        return Forked(self, number)

    def hear(self, number: int, seconds: float) -> dict[str, int] | None:
        """Returns what the server or its engine says of an order, None where nothing is said in time. Raises EOFError."""
        until = time.monotonic() + seconds
        while True:
            try:
                self._line.settimeout(max(0.0, until - time.monotonic()))
                message = self._line.recv(_WORD_BYTES)
            except (TimeoutError, BlockingIOError):
                return None
            except OSError as error:
                raise EOFError from error
            if not message:
                raise EOFError
            self._heard_at = time.monotonic()
            said: dict[str, int] = json.loads(message)
            if said["number"] == number:
                return said


def _libraries(run_dir: Path) -> tuple[str | None, tuple[str, ...]]:
    """What the order needs imported, of its framework and tasks; what is wrong with it the engine tells."""
    try:
        return specs.libraries(specs.read(run_dir))
    except specs.SpecError:
        return None, ()


def _end_server(owner: int, executed: Executed, line: socket.socket) -> None:
    line.close()
    if os.getpid() == owner:
        executed.end()


class Forked:
    """An engine that a server forks, once it has imported what it needs."""

    def __init__(self, server: ForkServer, number: int) -> None:
        self._server, self._number = server, number
        self._pid = 0  # not forked yet
        self._life = -1  # a descriptor of the process, by which nobody else can be meant
        self._exit_code: int | None = None

    @property
    def exit_code(self) -> int | None:
        return self._exit_code

    def wait(self, seconds: float) -> int | None:
        until = time.monotonic() + seconds
        while self._exit_code is None:
            try:
                said = self._server.hear(self._number, until - time.monotonic())
            except EOFError:
                self._lost()
                break
            if said is None:
                break
            if "pid" in said:
                self._pid = said["pid"]
                with contextlib.suppress(OSError):  # an old kernel, or one that is dead and buried already
                    self._life = os.pidfd_open(self._pid)
            else:
                self._over(said["code"])
                if not said["is_sound"]:
                    self._server.end()
        return self._exit_code

    def send(self, number: signal.Signals) -> None:
        if self._is_forked():
            with contextlib.suppress(ProcessLookupError):
                if self._life >= 0:
                    signal.pidfd_send_signal(self._life, number)
                else:
                    os.kill(self._pid, number)

    def send_all(self, number: signal.Signals) -> None:
        if self._is_forked():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)

    def _is_forked(self) -> bool:
        """Whether there is an engine now. One that is not forked yet has nothing to keep: its server is ended, which
        still imports for it."""
        if self.wait(0) is None and not self._pid:
            self._server.end()
            self.wait(0)
        return self._exit_code is None

    def end(self) -> None:
        self.send_all(signal.SIGKILL)
        if self.wait(_REAP_SECONDS) is None:  # it dies slowly, or the server stands still
            self._lost()

    def _lost(self) -> None:
        """The server is gone or of no use, and the engine goes with it: by the kernel, or before it was one."""
        self._server.end()
        code = self._server.executed.exit_code
        if self._pid:
            if not self._is_dead(0):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._pid, signal.SIGKILL)
            self._is_dead(_DEATH_SECONDS)
            code = -signal.SIGKILL
        self._over(-signal.SIGKILL if code is None else code)

    def _is_dead(self, seconds: float) -> bool:
        """Waits for so long; False where it lives or nobody can know."""
        if self._life < 0:
            return False
        death = select.poll()
        death.register(self._life, select.POLLIN)
        return bool(death.poll(1000 * seconds))

    def _over(self, code: int) -> None:
        """The server ends an engine's children before it tells of its death."""
        self._exit_code = code
        if self._life >= 0:
            os.close(self._life)
            self._life = -1


_own = threading.local()  # a thread's death ends what it has started


def start(  # all that an engine is told
    verb: Verb,
    run_dir: Path,
    *,
    common: Mapping[str, str],
    own: Mapping[str, str],
    log: IO[bytes],
    warm_seconds: float,
    program: Sequence[str] = ENGINE,
) -> Engine:
    """Starts a verb: forked by this thread's server, which waits `warm_seconds` for the next order (0: none does), or
    executed. `common` is what all engines of this site are told by their environment, `own` is of this one."""
    environment = {**common, **own, "ENGINE_PARENT_PID": str(os.getpid())}
    if warm_seconds <= 0 or program is not ENGINE or verb not in _FORKED or not _can_fork():
        return Executed([*program, verb.value, str(run_dir)], cwd=run_dir, environment=environment, log=log)
    server: ForkServer | None = getattr(_own, "server", None)
    if server is None or not server.serves(common):
        if server is not None:
            server.end()
        server = _own.server = ForkServer(common, run_dir.parent, warm_seconds=warm_seconds, log=log)
    return server.fork(verb, run_dir, environment=environment, log=log)


def _can_fork() -> bool:
    """Where the kernel ends what has lost its parent, and no library could have begun to use an accelerator."""
    has_accelerator = any(True for pattern in _ACCELERATORS for _ in Path("/dev").glob(pattern))
    return sys.platform == "linux" and not has_accelerator
