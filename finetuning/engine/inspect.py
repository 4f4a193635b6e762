"""The verb `inspect`: an untrusted upload becomes packs, an index and a health report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from finetuning.engine import intake
from finetuning.engine.events import EventWriter
from finetuning.engine.problems import Rejected
from finetuning.engine.spec import InspectSpec


def run(spec: InspectSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns `{status, problems, report}`. An upload that cannot be used is a result, not a failure."""
    try:
        report: dict[str, Any] = intake.module_of(spec.task).inspect(spec, run_dir, events)
    except Rejected as rejection:
        problems = [asdict(problem) for problem in rejection.problems]
        return {"status": "invalid", "problems": problems, "report": None}
    return {"status": "valid", "problems": [], "report": report}
