"""The verb `evaluate`: scores a finished training on the test items, which no training process is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from finetuning.engine import receipts, runtime, tasks
from finetuning.engine.events import EventWriter
from finetuning.engine.spec import OUTPUTS_DIR, RECEIPT_FILE, EvaluateSpec


def run(spec: EvaluateSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns `evaluation` as docs/engine.md describes it, and writes the receipt."""
    device = runtime.choose_device(spec.device)
    part: dict[str, Any] = tasks.module_of(spec.tuned.task).evaluate(spec, run_dir, events, device)
    receipt = receipts.document(spec, run_dir, part, device=str(device), threads=torch.get_num_threads())
    key = run_dir / spec.signing_key if spec.signing_key else None
    receipts.write(run_dir / OUTPUTS_DIR / RECEIPT_FILE, receipt, key=key)
    return part
