"""Checks a release: the named architecture, strict weights, the golden pair; measures size and cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from finetuning.engine import frameworks, golden, results, weights
from finetuning.engine.events import EventWriter
from finetuning.engine.frameworks import Loaded
from finetuning.engine.problems import Rejected
from finetuning.engine.spec import GOLDEN_FILE, OUTPUTS_DIR, VerifySpec, weights_file


def run(spec: VerifySpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns `status`, `problems` and `report` (docs/engine.md); a rejected release is a result."""
    directory = run_dir / spec.weights.directory
    events.stage("load", "Loading the weights strictly")
    try:
        loaded = frameworks.load(spec.weights, run_dir)
        events.stage("golden", "Comparing the golden pair")
        pair = _golden(loaded, directory, run_dir)
    except Rejected as error:
        return {"status": "rejected", "problems": [dataclasses.asdict(item) for item in error.problems], "report": {}}
    events.stage("measure", "Counting parameters and operations")
    notes = _warnings(loaded)
    return {
        "status": "accepted",
        "problems": [],
        "report": {**describe(loaded, directory), "golden": pair, "warnings": notes},
    }


def _warnings(loaded: Loaded) -> list[dict[str, Any]]:
    """Returns what is odd about weights that are accepted all the same, in the form of problems."""
    flat = weights.constant(loaded.module)
    if not flat:
        return []
    text = f"{len(flat):,} weight tensors hold one number only. Check that these are the trained weights."
    return [{"code": "degenerate", "message": text, "items": flat[:20]}]


def _golden(loaded: Loaded, directory: Path, run_dir: Path) -> dict[str, Any]:
    if (directory / GOLDEN_FILE).is_file():
        return {"source": "vendor", "max_abs_difference": golden.compare(loaded, directory / GOLDEN_FILE)}
    weights.save_tensors(run_dir / OUTPUTS_DIR / GOLDEN_FILE, golden.compute(loaded))
    return {"source": "computed", "max_abs_difference": 0.0}


def describe(loaded: Loaded, directory: Path) -> dict[str, Any]:
    """Returns the figures of the weights: parameters, GFLOPs, labels, input, digest."""
    path = directory / weights_file(loaded.framework)
    return {
        "parameters": sum(parameter.numel() for parameter in loaded.module.parameters()),
        "gflops": gflops(loaded),
        "tensors": len(loaded.module.state_dict()),
        "labels": list(loaded.labels),
        "multi_label": loaded.is_multi_label,
        "input": dataclasses.asdict(loaded.preprocessing) if loaded.preprocessing else None,
        "weights_sha256": results.sha256_of(path),
        "bytes": path.stat().st_size,
    }


def gflops(loaded: Loaded) -> float:
    """Returns billions of multiply-adds for one input, as vendors quote them: half of torch's count."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        golden.forward(loaded, golden.inputs_for(loaded))
    return float(round(counter.get_total_flops() / 2e9, 4))
