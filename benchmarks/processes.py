"""Runs a side of a comparison as a process of its own, so that start-up and memory count for both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.engine.spec import RESULT_FILE, Verb

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """`seconds` of wall time and `peak_mb` (MiB, resident, of the largest of them) of a process and those that it started,
    from start to end; `cpu_seconds` of all their threads, which a busy machine changes less."""

    seconds: float
    peak_mb: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Taken):
    result: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked(Taken):
    results: dict[Verb, dict[str, Any]]


def engine(verb: Verb, run_dir: Path) -> Measured:
    """Runs one verb as a program of its own."""
    taken, _ = _run([sys.executable, "-P", "-m", "finetuning.engine", verb.value, str(run_dir)])
    return Measured(**taken, result=json.loads((run_dir / RESULT_FILE).read_text(encoding="utf-8")))


def worker(orders: Mapping[Verb, Path]) -> Worked:
    """Runs verbs one after the other as a fresh worker of the product does, until it is done with the last."""
    arguments = [word for verb, run_dir in orders.items() for word in (verb.value, str(run_dir))]
    taken, _ = _run([sys.executable, "-P", "-m", "benchmarks.worker", *arguments])
    return Worked(
        **taken,
        results={
            verb: json.loads((run_dir / RESULT_FILE).read_text(encoding="utf-8")) for verb, run_dir in orders.items()
        },
    )


def peer(module: str, *arguments: str) -> Measured:
    """Runs `python -m module arguments`; its last line of output is its result as JSON."""
    taken, output = _run([sys.executable, "-P", "-m", module, *arguments])
    return Measured(**taken, result=json.loads(output.strip().splitlines()[-1]))


def _run(command: list[str]) -> tuple[dict[str, float], str]:
    """Returns what the command took, and its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.NamedTemporaryFile(prefix="taken-") as file:
        timed = [sys.executable, "-P", "-S", str(ROOT / "benchmarks/timed.py"), file.name, *command]
        run = subprocess.run(timed, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if run.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {run.returncode}:\n{run.stdout}")
        taken: dict[str, float] = json.loads(Path(file.name).read_text(encoding="utf-8"))
    return taken, run.stdout
