"""The verb `train`: fine-tunes on the training and validation items; the test items are never given to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetuning.engine import collective, runtime, tasks
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import UserFault
from finetuning.engine.hyper import SpecError, Strategy, Task, check
from finetuning.engine.spec import TrainSpec


def run(spec: TrainSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns the train verb's part of the result (docs/engine.md). Raises UserFault (`strategy_unsupported`,
    `loss_unsupported`) for what the task does not have."""
    try:
        check(spec.target, spec.strategy, spec.hyper)
    except SpecError as error:
        raise UserFault(f"{error.field}_unsupported", str(error)) from error
    device = runtime.choose_device(spec.device)
    with collective.joined(device):
        processes = collective.world()
        if processes > 1:
            _check_processes(spec)
            events.log(f"{processes} processes share every batch. Batch norms keep their statistics.")
        part: dict[str, Any] = tasks.module_of(spec.target).train(spec, run_dir, events, device)
    return {
        "strategy": spec.strategy.value,
        **part,
        "processes": processes,
        "peak_memory_bytes": runtime.peak_memory_bytes(device),
    }


def _check_processes(spec: TrainSpec) -> None:
    """Raises UserFault (`needs_one_process`) where frozen batch norms would be no norms at all."""
    if spec.strategy is Strategy.SCRATCH and spec.target is not Task.TEXT_CLASSIFICATION:
        raise UserFault(
            "needs_one_process",
            "Images are learned from scratch in one process: batch norms need whole batches. Start without torchrun.",
        )
