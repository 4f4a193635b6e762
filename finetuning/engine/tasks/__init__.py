"""What each task makes of items, heads, losses and scores. One module a task, the same functions in each:
`train(spec, run_dir, events, device)` and `evaluate(spec, run_dir, events, device)` return their verb's part
of the result; `prepare(spec, run_dir, events, device)` returns a `search.Prepared`; `answering(loaded)` returns the
function from one input to its logits that `serve` asks. Where a picture says more than a list,
`drawn(spec, run_dir, worst, device)` yields a `Drawing` of each of the evaluation's worst items."""

from __future__ import annotations

import importlib
from types import ModuleType

from PIL import Image

from finetuning.engine.failures import UserFault
from finetuning.engine.hyper import Task

Drawing = tuple[int, Image.Image]  # the item's number in the upload, and its picture
_MODULES: dict[Task, str] = {
    Task.IMAGE_CLASSIFICATION: "classification",
    Task.OBJECT_DETECTION: "detection",
    Task.SEMANTIC_SEGMENTATION: "segmentation",
    Task.TEXT_CLASSIFICATION: "text",
}


def module_of(task: Task) -> ModuleType:
    """Returns the task's module, loaded on first use."""
    if task not in _MODULES:
        raise UserFault("task_unsupported", f"This engine does not train {task} yet.")
    return importlib.import_module(f"{__name__}.{_MODULES[task]}")
