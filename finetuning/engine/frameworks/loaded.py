"""A module with what is needed to use it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from finetuning.engine.problems import reject
from finetuning.engine.spec import Framework, Preprocessing, SpecError, Task

MAX_CLASSES = 50_000
MULTI_LABEL = "multi_label_classification"  # the Transformers library's own value of `problem_type`
# Of a release. What is outside follows a handful of items: a separable set would drive the fit to zero.
TEMPERATURES = (0.05, 20.0)


@dataclass(slots=True, kw_only=True)
class Loaded:
    """`head_path` is the classifier's dotted name, empty where there is none. `temperature` divides the logits
    before the softmax of whoever answers with confidences; the module itself knows nothing of it. `thresholds` (C,)
    of a model that names any number of classes (`is_multi_label`): the probabilities from which on each is answered.
    `files` are what
    the release carries beside config and weights, such as a tokenizer, by path."""

    module: nn.Module
    framework: Framework
    architecture: str
    task: Task
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    head_path: str = ""
    temperature: float = 1.0
    is_multi_label: bool = False
    thresholds: tuple[float, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def changed(self, *, module: nn.Module, labels: tuple[str, ...]) -> Loaded:
        """Returns another module, not yet calibrated, in the same dress."""
        return dataclasses.replace(self, module=module, labels=labels, temperature=1.0, thresholds=())

    def probabilities(self, logits: Tensor) -> Tensor:
        """Returns (..., C) of logits (..., C): shares of 1, or of a multi-label model one for each class by itself."""
        calibrated = logits.float() / self.temperature
        return calibrated.sigmoid() if self.is_multi_label else calibrated.softmax(-1)


def labels_in(config: dict[str, Any]) -> tuple[str, ...]:
    """Returns `label_names` of a hub config. Rejects (`config_invalid`) what is no list of names."""
    labels = config.get("label_names")
    classes = config.get("num_classes", len(labels) if isinstance(labels, list) else None)
    if not isinstance(classes, int) or not 1 <= classes <= MAX_CLASSES:
        raise reject("config_invalid", "config.json needs num_classes, a number from 1 to 50,000.")
    if labels is None:
        return tuple(f"class {index}" for index in range(classes))
    if not isinstance(labels, list) or not all(isinstance(item, str) for item in labels) or len(labels) != classes:
        raise reject("config_invalid", f"config.json: label_names must be a list of {classes} names.")
    twice = sorted(name for name, times in Counter(labels).items() if times > 1)
    if twice:
        raise reject("config_invalid", "config.json: label_names holds a name twice. Make each its own.", twice)
    return tuple(labels)


def names_in(config: dict[str, Any]) -> tuple[str, ...]:
    """Returns the classes that a config of any framework names, in their order; empty where it names none."""
    names = config.get("label_names")
    if "id2label" in config:
        return numbered_names(config) or ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def numbered_names(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Returns the names in the Transformers library's `id2label`; None where it does not name the classes from 0 on."""
    names = config.get("id2label")
    wanted = [str(number) for number in range(len(names))] if isinstance(names, dict) else []
    if not isinstance(names, dict) or not 1 <= len(names) <= MAX_CLASSES or set(names) != set(wanted):
        return None
    return tuple(names[number] for number in wanted) if all(isinstance(name, str) for name in names.values()) else None


def thresholds_in(config: Mapping[str, Any], classes: int) -> tuple[float, ...]:
    """Returns `thresholds` of a multi-label release's config, a half each without them. Rejects (`config_invalid`)."""
    given = config.get("thresholds", [0.5] * classes)
    if not isinstance(given, list) or len(given) != classes or not all(_is_share(value) for value in given):
        raise reject("config_invalid", f"config.json: thresholds must be {classes} numbers from 0 to 1.")
    return tuple(float(value) for value in given)


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def temperature_in(config: dict[str, Any]) -> float:
    """Returns `calibration.temperature` of a release's config, 1 without one. Rejects (`config_invalid`)."""
    entry = config.get("calibration") or {}
    value = entry.get("temperature", 1.0) if isinstance(entry, dict) else None
    low, high = TEMPERATURES
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise reject("config_invalid", f"config.json: calibration.temperature must be between {low:g} and {high:g}.")
    return float(value)


def preprocessing_in(config: dict[str, Any]) -> Preprocessing:
    """Returns `pretrained_cfg` of a hub config as Preprocessing. Rejects (`config_invalid`)."""
    entry = config.get("pretrained_cfg") or {}
    try:
        size = entry.get("input_size", [3, 224, 224])[-1]
        return Preprocessing(
            size=int(size),
            mean=tuple(float(value) for value in entry.get("mean", (0.485, 0.456, 0.406))),
            std=tuple(float(value) for value in entry.get("std", (0.229, 0.224, 0.225))),
            interpolation=str(entry.get("interpolation", "bilinear")),
            crop_fraction=float(entry.get("crop_pct", 0.875)),
        )
    except (AttributeError, IndexError, TypeError, ValueError, SpecError) as error:
        raise reject("config_invalid", f"config.json: pretrained_cfg cannot be read: {error}") from error


def hub_config(loaded: Loaded) -> dict[str, Any]:
    """Returns the document that timm reads from a hub, with the labels inside."""
    prep = loaded.preprocessing or Preprocessing()
    kept = {key: value for key, value in loaded.config.items() if key in {"num_features", "global_pool"}}
    return {
        "architecture": loaded.architecture,
        "num_classes": len(loaded.labels),
        **kept,
        "label_names": list(loaded.labels),
        "pretrained_cfg": {
            "input_size": [3, prep.size, prep.size],
            "fixed_input_size": False,
            "mean": list(prep.mean),
            "std": list(prep.std),
            "interpolation": prep.interpolation,
            "crop_pct": prep.crop_fraction,
            "crop_mode": "center",
            "num_classes": len(loaded.labels),
            "classifier": loaded.head_path,
        },
    }
