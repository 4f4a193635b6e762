"""Runs an evaluation again from its receipt, and says whether the same comes out."""

from __future__ import annotations

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Any

from finetuning.engine import receipts, results, runtime, tasks
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import UserFault
from finetuning.engine.spec import OUTPUTS_DIR, RECEIPT_FILE, EvaluateSpec, SpecError, from_json

# Other versions, threads and devices round in another order: a handful of items near a boundary change sides.
TOLERANCE = 0.005  # in every metric's own unit


class Verdict(StrEnum):
    EQUAL = "equal"  # every prediction, by its digest, and every metric
    WITHIN_TOLERANCE = "within_tolerance"
    DIFFERENT = "different"
    INPUTS_CHANGED = "inputs_changed"


def run(run_dir: Path) -> dict[str, Any]:
    """Returns `verdict`, the signer's `public_key`, what `changed` among the inputs, and the `differences` of the
    metrics. The same digest of the predictions is asked for on the same device, threads and versions; else, and of
    old receipts without a digest, `TOLERANCE` is.

    Raises what `receipts.read` raises and UserFault `receipt_invalid`."""
    receipt, public_key = receipts.read(run_dir / OUTPUTS_DIR / RECEIPT_FILE)
    spec = _spec_of(receipt)
    answer: dict[str, Any] = {"public_key": public_key, "tolerance": TOLERANCE, "differences": {}}
    found = receipts.inputs_of(spec, run_dir)
    changed = sorted(name for name, value in receipt["inputs"].items() if found.get(name) != value)
    if changed:
        return {**answer, "verdict": Verdict.INPUTS_CHANGED.value, "changed": changed}
    machine = runtime.prepare(device=receipt["device"], threads=receipt["threads"], seed=spec.seed)
    with tempfile.TemporaryDirectory() as scratch, EventWriter(Path(scratch) / "events.jsonl") as events:
        part = tasks.module_of(spec.tuned.task).evaluate(spec, run_dir, events, machine.device)
    differences = {
        name: abs(part["evaluation"]["metrics"][name]["value"] - entry["value"])
        for name, entry in receipt["metrics"].items()
    }
    is_same_machine = machine.device.type == "cpu" and results.versions() == receipt["versions"]
    is_exact = is_same_machine and bool(receipt["predictions_sha256"])  # receipts of old have none of masks and boxes
    if part["predictions_sha256"] == receipt["predictions_sha256"]:
        verdict = Verdict.EQUAL if max(differences.values()) == 0 else Verdict.DIFFERENT
    elif not is_exact and max(differences.values()) <= TOLERANCE:
        verdict = Verdict.WITHIN_TOLERANCE
    else:
        verdict = Verdict.DIFFERENT
    return {**answer, "verdict": verdict.value, "changed": [], "differences": differences}


def _spec_of(receipt: dict[str, Any]) -> EvaluateSpec:
    try:
        spec = from_json(receipt["spec"])
    except (KeyError, TypeError, SpecError) as error:
        raise UserFault("receipt_invalid", "The receipt names no evaluation that this engine can run.") from error
    if not isinstance(spec, EvaluateSpec):
        raise UserFault("receipt_invalid", "The receipt is not of an evaluation.")
    return spec
