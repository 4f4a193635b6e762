"""Runs a side of a comparison as a process of its own, so that start-up and memory count for both."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.engine.spec import RESULT_FILE, Verb

ROOT = Path(__file__).resolve().parent.parent
_KIBIBYTES_A_MEBIBYTE = 1024


@dataclass(frozen=True, slots=True)
class Measured:
    """`seconds` of wall time and `peak_mb` (MiB, resident) of the process from start to end; `cpu_seconds` of all
    its threads, which a busy machine changes less."""

    seconds: float
    peak_mb: float
    result: dict[str, Any]
    cpu_seconds: float = 0.0


def engine(verb: Verb, run_dir: Path) -> Measured:
    """Runs the engine as the product does."""
    seconds, usage, _ = _run([sys.executable, "-P", "-m", "finetuning.engine", verb.value, str(run_dir)])
    return _measured(seconds, usage, json.loads((run_dir / RESULT_FILE).read_text(encoding="utf-8")))


def peer(module: str, *arguments: str) -> Measured:
    """Runs `python -m module arguments`; its last line of output is its result as JSON."""
    seconds, usage, output = _run([sys.executable, "-P", "-m", module, *arguments])
    return _measured(seconds, usage, json.loads(output.strip().splitlines()[-1]))


def _measured(seconds: float, usage: resource.struct_rusage, result: dict[str, Any]) -> Measured:
    return Measured(seconds, usage.ru_maxrss / _KIBIBYTES_A_MEBIBYTE, result, usage.ru_utime + usage.ru_stime)


def _run(command: list[str]) -> tuple[float, resource.struct_rusage, str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None  # noqa: S101 - PIPE was asked for
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{output}")
    return time.perf_counter() - started, usage, output
