"""Runs a side of a comparison as a process of its own, so that start-up and memory count for both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetuning.engine.spec import RESULT_FILE, Verb

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """`seconds` of wall time and `peak_mb` (MiB, resident) of the process from start to end; `cpu_seconds` of all
    its threads, which a busy machine changes less."""

    seconds: float
    peak_mb: float
    cpu_seconds: float
    result: dict[str, Any]


def engine(verb: Verb, run_dir: Path) -> Measured:
    """Runs the engine as the product does."""
    taken, _ = _run([sys.executable, "-P", "-m", "finetuning.engine", verb.value, str(run_dir)])
    return Measured(**taken, result=json.loads((run_dir / RESULT_FILE).read_text(encoding="utf-8")))


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
