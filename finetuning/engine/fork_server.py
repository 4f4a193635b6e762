"""Engines that begin with their libraries imported: `python -m finetuning.engine fork-server DESCRIPTOR`.

Importing torch and a framework takes seconds, which is most of what a small verb takes. A process that has imported
them forks one engine for each order that comes by the Unix socket DESCRIPTOR, one after the other. It opens no file of
anybody's, starts no thread of its own and touches no accelerator: what it forks is what `exec` would have made, and
confines itself just as well. It dies with who started it, and its engine with it.

An order is a JSON object (`number`, `verb`, `run_dir`, `environment`; `framework` and `tasks`, which say what to import)
with the descriptor of the log. The answers are `{"number": n, "pid": p}`, from the engine once it leads its own group,
and `{"number": n, "code": c, "is_sound": b}`: its exit code or less than 0 for a signal, and whether the server can go on.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from finetuning.engine.failures import EngineFailure
from finetuning.engine.imports import without_compiler
from finetuning.engine.memory import keep_freed_memory
from finetuning.engine.spec import WARM_VARIABLE, Framework, Task, Verb
from finetuning.engine.stopping import die_with_parent

_MAX_ORDER_BYTES = 64 * 2**10
_PR_SET_NAME = 15
_RUNTIME = "finetuning.engine.runtime"
_OF_TASKS = frozenset({Verb.TRAIN, Verb.SEARCH, Verb.ESTIMATE, Verb.EVALUATE})


@dataclass(frozen=True, slots=True)
class Order:
    number: int
    verb: str
    run_dir: str
    environment: dict[str, str]
    framework: str
    tasks: tuple[str, ...]
    log: int  # a descriptor


@dataclass(slots=True)
class _Imports:
    """The processor seconds that imports took, by the verb, framework or task that needed them."""

    seconds: dict[str, float] = field(default_factory=dict)
    spared: float = 0.0  # to the engine that is forked next


_imports = _Imports()


def spared_seconds() -> float:
    """Returns the processor seconds of imports that this engine was spared; 0 in one that imported by itself."""
    return _imports.spared


def serve(descriptor: int, program: Callable[[list[str]], int]) -> int:
    """Forks engines until the other side is gone or has been silent for ENGINE_WARM_SECONDS. In an engine it returns what
    `program` returns for its arguments."""
    die_with_parent(int(os.environ["ENGINE_PARENT_PID"]))
    with _timed(_RUNTIME):
        keep_freed_memory()  # as every verb asks that is forked
        without_compiler()
        importlib.import_module(_RUNTIME)
    with socket.socket(fileno=descriptor) as line:
        line.settimeout(float(os.environ[WARM_VARIABLE]))
        while (order := _next(line)) is not None:
            _print_to(order.log)
            is_sound = _import_for(order)
            gc.collect()
            gc.freeze()  # or a collection in the engine would touch, and so copy, every page
            server, engine = os.getpid(), os.fork()
            if engine == 0:
                _become(order, server, line)
                return program([order.verb, order.run_dir])
            with open(os.devnull, "wb") as nowhere:
                _print_to(nowhere.fileno())
            os.close(order.log)
            _say(line, number=order.number, code=_buried(engine), is_sound=is_sound)
    return 0


def _next(line: socket.socket) -> Order | None:
    try:
        message, descriptors, _, _ = socket.recv_fds(line, _MAX_ORDER_BYTES, 1)
    except TimeoutError:
        return None
    if not message:
        return None
    told: dict[str, Any] = json.loads(message)
    return Order(**{**told, "tasks": tuple(told["tasks"])}, log=descriptors[0])


def _import_for(order: Order) -> bool:
    """Imports what the order needs, so that the next of its kind finds it. What fails here the engine meets again, and
    tells; the log has it twice. False where something may have been left half imported."""
    names = [_RUNTIME, order.verb, order.framework, *order.tasks[-1:]]
    try:
        with _timed(order.verb):
            importlib.import_module(f"finetuning.engine.{order.verb}")
        # Keras is told by the environment of each process where its files may lie.
        if order.framework and order.framework != Framework.KERAS:
            with _timed(order.framework):
                for task in order.tasks:
                    frameworks = importlib.import_module("finetuning.engine.frameworks")
                    frameworks.module_of(Framework(order.framework), Task(task))
        if order.tasks and Verb(order.verb) in _OF_TASKS:
            with _timed(order.tasks[-1]):
                importlib.import_module("finetuning.engine.tasks").module_of(Task(order.tasks[-1]))
    except EngineFailure:  # no such thing, which the engine says in better words
        return True
    except Exception:
        traceback.print_exc()
        return False
    finally:
        _imports.spared = sum(_imports.seconds.get(name, 0.0) for name in names)
    return True


@contextmanager
def _timed(name: str) -> Iterator[None]:
    """Adds the time to what was imported under that name before."""
    began = time.process_time()
    yield
    _imports.seconds[name] = _imports.seconds.get(name, 0.0) + time.process_time() - began


def _print_to(descriptor: int) -> None:
    for standard in (sys.stdout, sys.stderr):
        standard.flush()
        os.dup2(descriptor, standard.fileno())


def _become(order: Order, server: int, line: socket.socket) -> None:
    """Makes the forked process what `exec` would have made it."""
    os.setsid()
    _say(line, number=order.number, pid=os.getpid())
    line.close()
    os.close(order.log)  # it prints there already
    _call_oneself(f"engine {order.verb}")
    os.environ.clear()
    os.environ.update({**order.environment, "ENGINE_PARENT_PID": str(server)})
    tempfile.tempdir = None  # as the environment says now
    os.chdir(order.run_dir)


def _call_oneself(name: str) -> None:
    """Gives the process a name of its own in `ps -e` and `top`, of 15 bytes; its command line stays the server's."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _buried(engine: int) -> int:
    """Waits for the engine's death, ends its children while its number is still its own, and returns its exit code."""
    os.waitid(os.P_PID, engine, os.WEXITED | os.WNOWAIT)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(engine, signal.SIGKILL)
    _, status = os.waitpid(engine, 0)
    return os.waitstatus_to_exitcode(status)


def _say(line: socket.socket, **words: int | bool) -> None:
    with suppress(OSError):  # who does not listen any more needs no answer
        line.send(json.dumps(words).encode())
