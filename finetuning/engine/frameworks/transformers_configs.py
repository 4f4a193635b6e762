"""What Transformers' text and image models share: a library's config.json becomes a module, its labels stand in
`id2label`. Settings come from the release, code never."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from finetuning.engine import imports
from finetuning.engine.frameworks.loaded import numbered_names
from finetuning.engine.problems import reject

transformers = imports.transformers()
initialization = importlib.import_module("transformers.initialization")
CLASSIFIES = "single_label_classification"  # the library's own value of `problem_type`
MAX_PARAMETERS = 2 * 10**9  # 8 GB in float32, above every model of these families
# Names that say how to compute, not what: some of them fetch kernels from a hub, which is foreign code.
_OF_THE_LIBRARY = frozenset(
    {
        "attn_implementation",
        "experts_implementation",
        "dtype",
        "torch_dtype",
        "quantization_config",
        "model_type",
        "transformers_version",
    }
)


def check(config: Mapping[str, Any], *, largest: Mapping[str, int]) -> None:
    """Rejects (`config_invalid`) a config that asks for code, or for sizes above `largest`: whole numbers, or
    lists of them, one and more."""
    if "auto_map" in config:
        raise reject("config_invalid", "config.json asks for code from the repository (auto_map); this site runs none.")
    for name, limit in largest.items():
        given = config.get(name, 1)
        values = given if isinstance(given, list) else [given]
        if not values or not all(type(value) is int and 0 < value <= limit for value in values):
            raise reject("config_invalid", f"config.json: {name} is out of range.")


def module_from(config: Mapping[str, Any], build: Callable[[Any], Any]) -> Any:
    """Returns what `build` makes of the library's settings, with random weights in float32. Rejects
    (`config_invalid`) what the library cannot build and what is above `MAX_PARAMETERS`."""
    kept = {key: value for key, value in config.items() if key not in _OF_THE_LIBRARY and not key.startswith("_")}
    try:
        settings = transformers.AutoConfig.for_model(config["model_type"], **kept)
        # Sizes alone, no memory: to draw weights there, torch would import its compiler, a second.
        with torch.device("meta"), initialization.no_init_weights():
            size = sum(parameter.numel() for parameter in build(settings).parameters())
        module = build(settings) if size <= MAX_PARAMETERS else None
    except Exception as error:  # the library raises whatever foreign values lead to
        raise reject("config_invalid", f"config.json: the library cannot build it ({error}).") from error
    if module is None:
        raise reject("config_invalid", f"config.json: the model would have more than {MAX_PARAMETERS:,} parameters.")
    return module


def labels_in(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names in `id2label`. Rejects (`config_invalid`) what does not name the classes from 0 on."""
    names = numbered_names(config)
    if names is None:
        raise reject("config_invalid", "config.json: id2label must name the classes from 0 on.")
    return names


def with_labels(config: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
    """Returns the library's document of a classifier with these labels."""
    document = {
        **config,
        "problem_type": CLASSIFIES,
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    document.pop("num_labels", None)
    return document


def layers_of(encoder: nn.Module) -> nn.ModuleList:
    """Returns the encoder's layers, first to last: its first list of modules."""
    return next(child for child in encoder.modules() if isinstance(child, nn.ModuleList))
