"""How weights become a module with a replaceable head. One module a framework, the same functions in each."""

from __future__ import annotations

import copy
import dataclasses
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
from finetuning.engine.frameworks import stage_head
from finetuning.engine.frameworks.loaded import MULTI_LABEL, Loaded, names_in, temperature_in, thresholds_in
from finetuning.engine.frameworks.stage_head import Pooling
from finetuning.engine.hyper import CLASSIFICATION, Task
from finetuning.engine.problems import reject
from finetuning.engine.spec import CONFIG_FILE, WEIGHTS_FILE, Framework, Preprocessing, WeightsSpec

__all__ = [
    "Loaded",
    "answers",
    "build",
    "confidence",
    "detector",
    "head_of",
    "headless",
    "load",
    "module_of",
    "names_in",
    "reinitialized",
    "replace_head",
    "stages",
    "trunk",
    "with_stage_head",
    "write_release",
]

MAX_FILE_BYTES = 64 * 2**20  # of a tokenizer; the largest vocabularies take about 20 MiB

# Loaded on first use: each library takes a second or more to import.
_MODULES: dict[Framework, str] = {
    Framework.TIMM: "timm_models",
    Framework.TORCHVISION: "torchvision_models",
    Framework.TRANSFORMERS: "transformers_models",
    Framework.KERAS: "keras_models",
}
_DETECTORS: dict[Framework, str] = {
    Framework.TIMM: "timm_detectors",
    Framework.TORCHVISION: "torchvision_detectors",
}
_SEGMENTERS: dict[Framework, str] = {
    Framework.TIMM: "timm_segmenters",
    Framework.TORCHVISION: "torchvision_segmenters",
}
_OF_TASK: dict[Task, dict[Framework, str]] = {
    Task.IMAGE_CLASSIFICATION: {**_MODULES, Framework.TRANSFORMERS: "transformers_images"},
    Task.OBJECT_DETECTION: _DETECTORS,
    Task.SEMANTIC_SEGMENTATION: _SEGMENTERS,
}
# Their config.json says the task, because the same architecture can be the backbone of any of them.
_SAID_IN_CONFIG = (Task.OBJECT_DETECTION, Task.SEMANTIC_SEGMENTATION)


def module_of(framework: Framework, task: Task | None) -> ModuleType:
    """Returns the framework's module for models of this task, loaded on first use."""
    names = _OF_TASK.get(task, _MODULES) if task else _MODULES
    if framework not in names:
        raise UserFault("framework_unsupported", f"This engine does not read {framework} models of this task yet.")
    return importlib.import_module(f"{__name__}.{names[framework]}")


def answers(spec: WeightsSpec, run_dir: Path, *, task: Task, labels: tuple[str, ...]) -> bool:
    """Whether a release does this task with exactly these classes: then it can be compared with as it is."""
    return spec.task is task and names_in(read_config(run_dir / spec.directory)) == labels


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


def build(framework: Framework, architecture: str, config: dict[str, Any]) -> Loaded:
    """Returns the architecture with random weights, its labels and preprocessing from the config. Rejects
    (`config_invalid`) a config that names another library."""
    _check_library(framework, config)
    loaded: Loaded = module_of(framework, _task_in(config, framework)).build(architecture, config)
    wish = config.get("head")
    if isinstance(wish, dict) and wish.get("kind") == stage_head.KIND:
        return _with_stage_head(loaded, wish.get("stages"), stage_head.pooling_in(wish))
    return loaded


def _check_library(framework: Framework, config: dict[str, Any]) -> None:
    library = config.get("library", framework.value)
    if library != framework.value:
        raise reject("config_invalid", f"config.json names the library {library!r}, the listing {framework.value!r}.")


def _task_in(config: dict[str, Any], framework: Framework) -> Task | None:
    """Returns what the config says that the model is for; None where it does not say."""
    if task := next((task for task in _SAID_IN_CONFIG if config.get("task") == task), None):
        return task
    kinds = module_of(framework, Task.IMAGE_CLASSIFICATION).ARCHITECTURES if framework is Framework.TRANSFORMERS else ()
    return Task.IMAGE_CLASSIFICATION if config.get("model_type") in kinds else None


def with_stage_head(loaded: Loaded, pooling: Pooling = stage_head.PLAIN) -> Loaded:
    """Returns a copy whose head reads several stages, with random weights in the head alone; the same weights
    unchanged where the architecture has no such stages, or its head reads them already, as finely or finer."""
    plain = loaded
    if isinstance(loaded.module, stage_head.StageHead):
        own = loaded.module.pooling
        if pooling in (stage_head.PLAIN, own) or own.grid > pooling.grid:
            return loaded
        backbone, path = loaded.module.backbone, loaded.module.former_head
        plain = dataclasses.replace(loaded, module=backbone, head_path=path)
    taps = stage_head.taps_of(plain.module, stages(plain), pooling)
    size = (loaded.preprocessing or Preprocessing()).size
    channels = stage_head.channels_of(plain.module, taps, size) if taps else None
    if channels is None:
        return loaded
    return _with_stage_head(plain, list(taps), stage_head.narrowed(pooling, channels))


def _with_stage_head(loaded: Loaded, taps: Any, pooling: Pooling | None) -> Loaded:
    """Builds the head over the named stages. Rejects (`config_invalid`) names that are none."""
    known = {name for name, _ in loaded.module.named_modules() if name}
    is_known = isinstance(taps, list) and taps and all(isinstance(tap, str) and tap in known for tap in taps)
    if not is_known or len({id(loaded.module.get_submodule(tap)) for tap in taps}) < len(taps):
        raise reject("config_invalid", "config.json: head.stages must name stages of this architecture, each once.")
    if pooling is None:
        text = "config.json: head.grid must be 1 to 4, and head.statistics of average and maximum, in this order."
        raise reject("config_invalid", text)
    channels = stage_head.channels_of(loaded.module, taps, (loaded.preprocessing or Preprocessing()).size)
    if channels is None:
        raise reject("config_invalid", "config.json: head.stages must name stages that give images.")
    backbone = copy.deepcopy(loaded.module)
    parent, _, name = loaded.head_path.rpartition(".")
    setattr(backbone.get_submodule(parent), name, nn.Identity())
    width = pooling.per_channel * channels
    module = stage_head.StageHead(backbone, taps, len(loaded.labels), width, loaded.head_path, pooling)
    config = {**loaded.config, "head": module.config}
    return dataclasses.replace(loaded, module=module.eval(), head_path="classifier", config=config)


def load(spec: WeightsSpec, run_dir: Path) -> Loaded:
    """Returns the release's weights in their architecture, strictly loaded, in eval mode, float32.

    Rejects everything that docs/engine.md lists under `verify`."""
    directory = run_dir / spec.directory
    config = read_config(directory)
    if spec.task in _SAID_IN_CONFIG and config.get("task") != spec.task:
        raise reject("config_invalid", f'config.json needs "task": "{spec.task}", as the listing says.')
    if spec.framework is Framework.KERAS:  # its weights' file says what the network is
        _check_library(spec.framework, config)
        loaded: Loaded = module_of(spec.framework, spec.task).read_release(directory, spec.architecture, config)
    else:
        loaded = _built_and_filled(spec, directory, config)
    if loaded.task is not spec.task:
        raise reject("config_invalid", f"config.json describes a model for {loaded.task}, the listing {spec.task}.")
    loaded.temperature = temperature_in(config)
    if loaded.task in CLASSIFICATION and loaded.labels and config.get("problem_type") == MULTI_LABEL:
        loaded.is_multi_label, loaded.thresholds = True, thresholds_in(config, len(loaded.labels))
    loaded.module.eval()
    return loaded


def _built_and_filled(spec: WeightsSpec, directory: Path, config: dict[str, Any]) -> Loaded:
    """Returns the named architecture with the release's weights and what else it carries."""
    loaded = build(spec.framework, spec.architecture, config)
    if not (directory / WEIGHTS_FILE).is_file():
        raise reject("weights_missing", f"Upload {WEIGHTS_FILE}.")
    module = module_of(loaded.framework, loaded.task)
    if names := getattr(module, "FILES", ()):
        loaded.files = _files(directory, names)
        module.take_files(loaded)
    getattr(module, "read_weights", _read_weights)(loaded, directory)
    return loaded


def _read_weights(loaded: Loaded, directory: Path) -> None:
    """Loads `model.safetensors`, whose tensors are named as the module's, strictly."""
    tensors = weights.load_tensors(directory / WEIGHTS_FILE)
    for name in getattr(module_of(loaded.framework, loaded.task), "FORMER_BUFFERS", ()):
        tensors.pop(name, None)
    weights.load_strictly(loaded.module, tensors)


def _write_weights(loaded: Loaded, directory: Path) -> None:
    weights.save_tensors(directory / WEIGHTS_FILE, dict(loaded.module.state_dict()))


def _files(directory: Path, names: Sequence[str]) -> dict[str, bytes]:
    found = {name: directory / name for name in names if (directory / name).is_file()}
    if large := [name for name, path in found.items() if path.stat().st_size > MAX_FILE_BYTES]:
        raise reject("config_invalid", f"Some files are larger than {MAX_FILE_BYTES >> 20} MiB.", large)
    return {name: path.read_bytes() for name, path in found.items()}


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
    if loaded.framework is Framework.KERAS:
        made: Loaded = module_of(loaded.framework, loaded.task).reinitialized(loaded, tuple(labels))
        return made
    relabeled = loaded.changed(module=loaded.module, labels=tuple(labels))
    config = {**loaded.config, **module_of(loaded.framework, loaded.task).config(relabeled)}
    fresh = build(loaded.framework, loaded.architecture, config)
    return loaded.changed(module=fresh.module, labels=tuple(labels))


def detector(loaded: Loaded, labels: Sequence[str], *, size: int, fresh: bool = False) -> Loaded:
    """Returns a detector for these labels on a canvas of `size` pixels, made of what was bought; `fresh`: of
    random weights. What is new is drawn from torch's generator."""
    module = module_of(loaded.framework, Task.OBJECT_DETECTION)
    made: Loaded = (module.reinitialized if fresh else module.adapted)(loaded, labels, size)
    return made


def trunk(loaded: Loaded) -> str:
    """Returns the dotted name of the part of a detector that was pretrained on images."""
    name: str = module_of(loaded.framework, loaded.task).trunk(loaded.module)
    return name


def confidence(loaded: Loaded) -> float:
    """Returns the score from which on a detector's boxes count as found: its own choice, or a half."""
    value = loaded.config.get("detector", {}).get("confidence", 0.5)
    return float(value) if isinstance(value, int | float) and 0 <= value <= 1 else 0.5


def headless(loaded: Loaded) -> nn.Module:
    """Returns a copy that gives what the classifier reads: images (N, 3, S, S), or token numbers and their mask
    (N, L), -> (N, D), in eval mode."""
    module = copy.deepcopy(loaded.module)
    parent, _, name = loaded.head_path.rpartition(".")
    setattr(module.get_submodule(parent), name, nn.Identity())
    return module.eval()


def stages(loaded: Loaded) -> list[tuple[str, list[nn.Module]]]:
    """Returns the parts from the stem to the head, for freezing and layer-wise rates."""
    if isinstance(loaded.module, stage_head.StageHead):
        inner = dataclasses.replace(loaded, module=loaded.module.backbone, head_path=loaded.module.former_head)
        return [*stages(inner)[:-1], ("head", [loaded.module.classifier])]
    parts: list[tuple[str, list[nn.Module]]] = module_of(loaded.framework, loaded.task).stages(loaded)
    return parts


def write_release(directory: Path, loaded: Loaded) -> None:
    """Writes `config.json`, the weights and what belongs beside them so that strict `load` and the framework's own
    client read them."""
    directory.mkdir(parents=True, exist_ok=True)
    module = module_of(loaded.framework, loaded.task)
    config = dict(module.config(loaded))
    if isinstance(loaded.module, stage_head.StageHead):
        config["head"] = loaded.module.config
    config.pop("thresholds", None)  # of the bought model
    if loaded.is_multi_label:
        config |= {"problem_type": MULTI_LABEL, "thresholds": list(loaded.thresholds)}
    if loaded.temperature != 1.0:
        config["calibration"] = {"temperature": loaded.temperature}
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")
    getattr(module, "write_weights", _write_weights)(loaded, directory)
    for name in getattr(module, "TOKENIZER_FILES", ()):
        if name in loaded.files:
            (directory / name).write_bytes(loaded.files[name])
