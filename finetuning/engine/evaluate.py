"""The verb `evaluate`: scores a finished training on the test items, which no training process is given."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from finetuning.engine import receipts, runtime, tasks
from finetuning.engine.events import EventWriter
from finetuning.engine.spec import OUTPUTS_DIR, RECEIPT_FILE, EvaluateSpec
from finetuning.engine.tasks import Drawing

OVERLAYS_DIR = "overlays"


def run(spec: EvaluateSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns `evaluation` as docs/engine.md describes it, and writes the receipt."""
    device = runtime.choose_device(spec.device)
    task = tasks.module_of(spec.tuned.task)
    part: dict[str, Any] = task.evaluate(spec, run_dir, events, device)
    if hasattr(task, "drawn"):
        events.stage("overlays", "Drawing the worst images")
        worst = part["evaluation"]["worst"]
        _draw(worst, task.drawn(spec, run_dir, worst, device), run_dir / OUTPUTS_DIR)
    receipt = receipts.document(spec, run_dir, part, device=str(device), threads=torch.get_num_threads())
    key = run_dir / spec.signing_key if spec.signing_key else None
    receipts.write(run_dir / OUTPUTS_DIR / RECEIPT_FILE, receipt, key=key)
    return part


def _draw(worst: list[dict[str, Any]], drawings: Iterable[Drawing], outputs: Path) -> None:
    """Writes the pictures of the worst items, and each one's path below `outputs` into its row."""
    row_of = {row["index"]: row for row in worst}
    (outputs / OVERLAYS_DIR).mkdir(parents=True, exist_ok=True)
    for index, picture in drawings:
        row_of[index]["file"] = f"{OVERLAYS_DIR}/{index:06d}.png"
        picture.save(outputs / row_of[index]["file"], "PNG", compress_level=1)
