"""Kills engines at chosen points, and lets them end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import warm_engine
from warm_engine import Ended

from finetuning.engine.spec import Verb

DEADLINE_SECONDS = 120
AT_EVERY_STEP = {"ENGINE_CHECKPOINT_SECONDS": "0"}
WEIGHTS = "release/model.safetensors"
Reached = Callable[[Path], bool]


def killed_when(reached: Reached, run_dir: Path) -> None:
    """Starts the verb and kills it, without a chance to clean up, once `reached` holds."""
    engine = warm_engine.start(Verb.TRAIN, run_dir, **AT_EVERY_STEP)
    deadline = time.monotonic() + DEADLINE_SECONDS
    try:
        while not reached(run_dir):
            if engine.exitcode is not None:  # between two looks
                assert reached(run_dir), "the engine ended before the point was reached"
                break
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        engine.kill()
    engine.join()
    assert engine.exitcode in {-signal.SIGKILL, 0}  # 0: it ended between the last look and the kill


def finished(run_dir: Path, *, run: Callable[..., Ended] = warm_engine.run) -> str:
    """Runs the verb to its end; returns the digest of the weights."""
    digest: str = warm_engine.succeeded(run(Verb.TRAIN, run_dir, **AT_EVERY_STEP), run_dir)["outputs"][WEIGHTS][
        "sha256"
    ]
    return digest


def at_event(text: str) -> Reached:
    """Holds once a new line of the run's events contains `text`."""
    seen: dict[Path, int] = {}

    def reached(run_dir: Path) -> bool:
        path = run_dir / "events.jsonl"
        content = path.read_text() if path.exists() else ""
        start_at = seen.setdefault(path, len(content))
        return text in content[start_at:]

    return reached


def steps_saved(run_dir: Path) -> list[int]:
    return sorted(int(path.stem) for path in (run_dir / "checkpoints").glob("*.ckpt"))


def at_step(step: int) -> Reached:
    return lambda run_dir: max(steps_saved(run_dir), default=0) >= step
