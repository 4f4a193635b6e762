"""How weights become a module with a replaceable head. One module a framework, the same functions in each."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from finetuning.engine import weights
from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks.loaded import Loaded
from finetuning.engine.problems import reject
from finetuning.engine.spec import CONFIG_FILE, WEIGHTS_FILE, Framework, Task, WeightsSpec

__all__ = [
    "Loaded",
    "build",
    "confidence",
    "detector",
    "head_of",
    "headless",
    "load",
    "reinitialized",
    "replace_head",
    "stages",
    "trunk",
    "write_release",
]

# Loaded on first use: each library takes a second or more to import.
_MODULES: dict[Framework, str] = {
    Framework.TIMM: "timm_models",
    Framework.TORCHVISION: "torchvision_models",
    Framework.TRANSFORMERS: "transformers_models",
}
_DETECTORS: dict[Framework, str] = {
    Framework.TIMM: "timm_detectors",
    Framework.TORCHVISION: "torchvision_detectors",
}


def _module_of(framework: Framework, task: Task | None = None) -> ModuleType:
    modules = _DETECTORS if task is Task.OBJECT_DETECTION else _MODULES
    if framework not in modules:
        kind = "detectors" if task is Task.OBJECT_DETECTION else "models"
        raise UserFault("framework_unsupported", f"This engine does not read {framework} {kind} yet.")
    return importlib.import_module(f"{__name__}.{modules[framework]}")


def read_config(directory: Path) -> dict[str, Any]:
    """Returns `config.json`. Rejects (`config_missing`, `config_invalid`)."""
    path = directory / CONFIG_FILE
    if not path.is_file():
        raise reject("config_missing", f"Upload {CONFIG_FILE}: it names the architecture, labels and preprocessing.")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError):
        raise reject("config_invalid", f"{CONFIG_FILE} is not JSON.") from None
    if not isinstance(document, dict):
        raise reject("config_invalid", f"{CONFIG_FILE} must hold an object.")
    return document


def build(
    framework: Framework, architecture: str, config: dict[str, Any], *, task: Task = Task.IMAGE_CLASSIFICATION
) -> Loaded:
    """Returns the architecture with random weights, its labels and preprocessing from the config."""
    loaded: Loaded = _module_of(framework, task).build(architecture, config)
    return loaded


def load(spec: WeightsSpec, run_dir: Path) -> Loaded:
    """Returns the release's weights in their architecture, strictly loaded, in eval mode, float32.

    Rejects everything that docs/engine.md lists under `verify`."""
    directory = run_dir / spec.directory
    loaded = build(spec.framework, spec.architecture, read_config(directory), task=spec.task)
    if not (directory / WEIGHTS_FILE).is_file():
        raise reject("weights_missing", f"Upload {WEIGHTS_FILE}.")
    tensors = weights.load_tensors(directory / WEIGHTS_FILE)
    for name in getattr(_module_of(spec.framework), "FORMER_BUFFERS", ()):
        tensors.pop(name, None)
    weights.load_strictly(loaded.module, tensors)
    loaded.module.eval()
    return loaded


def head_of(loaded: Loaded) -> nn.Linear:
    """Returns the classifier, the last linear layer."""
    head = loaded.module.get_submodule(loaded.head_path)
    if not isinstance(head, nn.Linear):
        raise UserFault("head_unsupported", "This architecture's head is not a linear layer, so it cannot be replaced.")
    return head


def replace_head(loaded: Loaded, labels: Sequence[str], weight: Tensor, bias: Tensor) -> Loaded:
    """Returns a copy with a new classifier: weight (C, D), bias (C,), and its labels."""
    module = copy.deepcopy(loaded.module)
    head = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    parent, _, name = loaded.head_path.rpartition(".")
    setattr(module.get_submodule(parent), name, head)
    if hasattr(module, "num_classes"):
        setattr(module, "num_classes", weight.shape[0])  # noqa: B010 - not a parameter, so torch has no type for it
    return loaded.changed(module=module.eval(), labels=tuple(labels))


def reinitialized(loaded: Loaded, labels: Sequence[str]) -> Loaded:
    """Returns the same architecture for other classes with random weights, drawn from torch's generator."""
    config = {**loaded.config, "num_classes": len(labels), "label_names": list(labels)}
    fresh = build(loaded.framework, loaded.architecture, config)
    return loaded.changed(module=fresh.module, labels=tuple(labels))


def detector(loaded: Loaded, labels: Sequence[str], *, size: int, fresh: bool = False) -> Loaded:
    """Returns a detector for these labels on a canvas of `size` pixels, made of what was bought; `fresh`: of
    random weights. What is new is drawn from torch's generator."""
    module = _module_of(loaded.framework, Task.OBJECT_DETECTION)
    made: Loaded = (module.reinitialized if fresh else module.adapted)(loaded, labels, size)
    return made


def trunk(loaded: Loaded) -> str:
    """Returns the dotted name of the part of a detector that was pretrained on images."""
    name: str = _module_of(loaded.framework, loaded.task).trunk(loaded.module)
    return name


def confidence(loaded: Loaded) -> float:
    """Returns the score from which on a detector's boxes count as found: its own choice, or a half."""
    value = loaded.config.get("detector", {}).get("confidence", 0.5)
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else 0.5


def headless(loaded: Loaded) -> nn.Module:
    """Returns a copy that gives what the classifier reads: (N, 3, S, S) -> (N, D), in eval mode."""
    module = copy.deepcopy(loaded.module)
    parent, _, name = loaded.head_path.rpartition(".")
    setattr(module.get_submodule(parent), name, nn.Identity())
    return module.eval()


def stages(loaded: Loaded) -> list[tuple[str, list[nn.Module]]]:
    """Returns the parts from the stem to the head, for freezing and layer-wise rates."""
    parts: list[tuple[str, list[nn.Module]]] = _module_of(loaded.framework, loaded.task).stages(loaded)
    return parts


def write_release(directory: Path, loaded: Loaded) -> None:
    """Writes `config.json` and `model.safetensors` so that strict `load` and the framework's own client
    read them."""
    directory.mkdir(parents=True, exist_ok=True)
    config = _module_of(loaded.framework, loaded.task).config(loaded)
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")
    weights.save_tensors(directory / WEIGHTS_FILE, dict(loaded.module.state_dict()))
