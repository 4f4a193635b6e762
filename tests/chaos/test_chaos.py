"""The short form of `make chaos`: the processes of the real product are killed one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.stack
ROOT = Path(__file__).resolve().parents[2]
FAULTS = 5
LIMIT_SECONDS = 900  # on a machine with other work; alone it takes about 45


def test_whatever_is_killed_no_run_is_lost_or_ended_twice_and_no_process_is_left(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "chaos",
        "--seed",
        "3",
        "--faults",
        str(FAULTS),
        "--only",
        "kill",
        "--busy",
        "1",
        "--epochs",
        "4",
    ]
    command += ["--keep", str(tmp_path / "data")]
    paths = ":".join(str(ROOT / folder) for folder in ("", "tests", "tests/engine"))

    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )

    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["faults"] == FAULTS
    assert (told["lost"], told["doubled"], told["orphans"], told["broken"]) == (0, 0, 0, 0)
    assert told["runs"] > 0
    assert told["uploads"] > 0
