"""Runs the engine in a process of its own that begins with torch and the libraries imported.

A server that has imported them, and started no thread, forks a process for each call: pid, signals, exit code,
memory and random state are the process's own; only the seconds of importing are saved, which are most of what a
tiny training costs. Processes of one server share their hash seed: where two interpreters must agree bit for bit,
one of the two is `cold`.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from finetuning.engine import __main__ as program

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 300
_PRELOADED = [
    *(f"finetuning.engine.{name}" for name in ("evaluate", "search", "train", "verify")),
    *(f"finetuning.engine.tasks.{name}" for name in ("classification", "detection", "segmentation", "text")),
    *(f"finetuning.engine.frameworks.{name}" for name in ("timm_models", "torchvision_models", "transformers_models")),
    "torch._dynamo",  # which the first optimizer imports
    "pytest",  # multiprocessing imports its caller's main module again
]
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(_PRELOADED)


@dataclass(frozen=True, slots=True)
class Ended:
    """The exit code, negative for a signal and None for a process that goes on; and all that it has printed."""

    code: int | None
    printed: str


def start(verb: str, run_dir: Path, *, log: Path = Path(os.devnull), **environment: str) -> ForkServerProcess:
    """Starts `python -m finetuning.engine VERB RUN_DIR` in everything but the imports. What it prints goes to `log`."""
    process = _processes.Process(target=_work, args=(verb, str(run_dir), str(log), environment))
    process.start()
    atexit.register(process.kill)  # no daemon: the engine has children of its own
    return process


def run(verb: str, run_dir: Path, **environment: str) -> Ended:
    """Runs a verb to its end."""
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = start(verb, run_dir, log=Path(log.name), **environment)
        process.join(DEADLINE_SECONDS)
        return Ended(process.exitcode, Path(log.name).read_text())


def cold(verb: str, run_dir: Path, **environment: str) -> Ended:
    """Runs a verb to its end in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "finetuning.engine", verb, str(run_dir)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    return Ended(done.returncode, done.stdout)


def succeeded(ended: Ended, run_dir: Path) -> dict[str, Any]:
    """Returns `result.json`. Fails with what the engine said where it did not succeed."""
    assert ended.code == 0, (ended.printed[-2000:], (run_dir / "events.jsonl").read_text()[-1500:])
    result: dict[str, Any] = json.loads((run_dir / "result.json").read_text())
    return result


def _work(verb: str, run_dir: str, log: str, environment: Mapping[str, str]) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
    for standard in (sys.stdout, sys.stderr):
        os.dup2(descriptor, standard.fileno())
    os.environ.update(environment)
    sys.exit(program.main([verb, run_dir]))
