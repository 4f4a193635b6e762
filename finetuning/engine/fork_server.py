"""Engines that begin with their libraries imported: `python -m finetuning.engine fork-server DESCRIPTOR`.

Importing torch and a framework takes seconds, which is most of what a small verb takes. A process that has imported
them forks one engine for each order that comes by the Unix socket DESCRIPTOR, one after the other. It reads nobody's
bytes, starts no thread and touches no accelerator: what it forks is what `exec` would have made, and confines itself
just as well. It dies with who started it, and its engine with it.

An order is a JSON object (`verb`, `run_dir`, `environment`) with the descriptor of the log. The answers are `{"pid": n}`,
from the engine once it leads its own group, and `{"code": n}`, its exit code or less than 0 for a signal.
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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.engine import spec as specs
from finetuning.engine.failures import EngineFailure
from finetuning.engine.imports import without_compiler
from finetuning.engine.memory import keep_freed_memory
from finetuning.engine.stopping import die_with_parent

_PR_SET_NAME = 15
MAX_ORDER_BYTES = 64 * 2**10
_RUNTIME = "finetuning.engine.runtime"
_OF_TASKS = frozenset({specs.Verb.TRAIN, specs.Verb.SEARCH, specs.Verb.ESTIMATE, specs.Verb.EVALUATE})


@dataclass(slots=True)
class _Imports:
    """`seconds` of the processor that the imports of the server took, which an engine of its own would take again."""

    seconds: float = 0.0


_imports = _Imports()


def saved_seconds() -> float:
    """Returns the processor seconds of imports that this engine was spared; 0 in one that imported by itself."""
    return _imports.seconds


def serve(descriptor: int, program: Callable[[list[str]], int]) -> int:
    """Forks engines until the other side is gone or has been silent for ENGINE_WARM_SECONDS. In an engine it returns what
    `program` returns for its arguments."""
    die_with_parent(int(os.environ["ENGINE_PARENT_PID"]))
    keep_freed_memory()  # as every verb asks that is forked
    without_compiler()
    importlib.import_module(_RUNTIME)
    with socket.socket(fileno=descriptor) as line:
        line.settimeout(float(os.environ[specs.WARM_VARIABLE]))
        while (order := _next(line)) is not None:
            arguments, environment, log = order
            _import_for(*arguments)
            gc.collect()
            gc.freeze()  # or a collection in the engine would touch, and so copy, every page
            _imports.seconds = time.process_time()
            server, engine = os.getpid(), os.fork()
            if engine == 0:
                _become(arguments, {**environment, "ENGINE_PARENT_PID": str(server)}, line, log)
                return program(arguments)
            os.close(log)
            _say(line, code=_buried(engine))
    return 0


def _next(line: socket.socket) -> tuple[list[str], dict[str, str], int] | None:
    try:
        message, descriptors, _, _ = socket.recv_fds(line, MAX_ORDER_BYTES, 1)
    except TimeoutError:
        return None
    if not message:
        return None
    order = json.loads(message)
    return [order["verb"], order["run_dir"]], order["environment"], descriptors[0]


def _import_for(verb: str, run_dir: str) -> None:
    """Imports what the order needs, so that the next of its kind finds it; what is wrong with it the engine tells."""
    with suppress(specs.SpecError, EngineFailure):
        spec: Any = specs.read(Path(run_dir))
        importlib.import_module(f"finetuning.engine.{verb}")
        order = getattr(spec, "order", spec)
        named = [getattr(order, name) for name in ("weights", "base", "tuned") if hasattr(order, name)]
        named = named or [order]  # a conversion's own
        if named[0].framework is specs.Framework.KERAS:
            return  # Keras is told by the environment of each process where its files may lie
        target = getattr(order, "target", named[-1].task)
        for task in {target, *(weights.task for weights in named)}:
            importlib.import_module("finetuning.engine.frameworks").module_of(named[0].framework, task)
        if verb in _OF_TASKS:
            importlib.import_module("finetuning.engine.tasks").module_of(target)


def _become(arguments: list[str], environment: dict[str, str], line: socket.socket, log: int) -> None:
    """Makes the forked process what `exec` would have made it."""
    os.setsid()
    _say(line, pid=os.getpid())
    line.close()
    for standard in (sys.stdout, sys.stderr):
        os.dup2(log, standard.fileno())
    os.close(log)
    _call_oneself(f"engine {arguments[0]}")
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # as the environment says now
    os.chdir(arguments[1])


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


def _say(line: socket.socket, **words: int) -> None:
    with suppress(OSError):  # who does not listen any more needs no answer
        line.send(json.dumps(words).encode())
