"""What each task takes as an upload: its formats, its checks, its report. One module a task, with
`inspect(spec, run_dir, events)`, which writes the packs and returns the report, or raises Rejected."""

from __future__ import annotations

import importlib
from types import ModuleType

from finetuning.engine.hyper import Task
from finetuning.engine.problems import reject

_MODULES: dict[Task, str] = {
    Task.IMAGE_CLASSIFICATION: "classification",
    Task.OBJECT_DETECTION: "detection",
    Task.SEMANTIC_SEGMENTATION: "segmentation",
    Task.TEXT_CLASSIFICATION: "text",
}


def module_of(task: Task) -> ModuleType:
    """Returns the task's module, loaded on first use."""
    if task not in _MODULES:
        raise reject("task_unsupported", f"Data for {task} cannot be checked yet.")
    return importlib.import_module(f"{__name__}.{_MODULES[task]}")
