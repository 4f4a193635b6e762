"""How a release of each task becomes one ONNX graph from raw input to answer. One module a task, the same
functions in each: `build(loaded)` returns the graph, `notes(loaded)` what a client must know of its input,
`compare(loaded, session, pack, items, events)` its parity."""

from __future__ import annotations

import importlib
from types import ModuleType

from finetuning.engine.failures import UserFault
from finetuning.engine.hyper import Task

_MODULES: dict[Task, str] = {
    Task.IMAGE_CLASSIFICATION: "classification",
    Task.OBJECT_DETECTION: "detection",
    Task.SEMANTIC_SEGMENTATION: "segmentation",
    Task.TEXT_CLASSIFICATION: "text",
}


def module_of(task: Task) -> ModuleType:
    """Returns the task's module, loaded on first use. Raises UserFault (`export_unsupported`)."""
    if task not in _MODULES:
        raise UserFault("export_unsupported", f"Models for {task} cannot be exported to ONNX yet.")
    return importlib.import_module(f"{__name__}.{_MODULES[task]}")
