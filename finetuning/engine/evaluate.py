"""The verb `evaluate`: scores a finished training on the test items, which no training process is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetuning.engine import runtime, tasks
from finetuning.engine.events import EventWriter
from finetuning.engine.spec import EvaluateSpec


def run(spec: EvaluateSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns `evaluation` as docs/engine.md describes it."""
    device = runtime.choose_device(spec.device)
    part: dict[str, Any] = tasks.module_of(spec.tuned.task).evaluate(spec, run_dir, events, device)
    return part
