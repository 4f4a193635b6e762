"""timm's image classifiers as backbones of segmenters. The decoder is ours (decoders.py)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks import timm_models
from finetuning.engine.frameworks.decoders import MAX_WIDTH, Segmenter, levels_of
from finetuning.engine.frameworks.loaded import Loaded, hub_config, labels_in
from finetuning.engine.problems import reject
from finetuning.engine.spec import Task

DECODER, WIDTH = "pyramid", 96
_CONTAINERS = ("blocks", "stages", "layers")


def build(architecture: str, config: dict[str, Any]) -> Loaded:
    """Returns the segmenter without weights. Rejects (`architecture_unknown`, `config_invalid`)."""
    decoder = config.get("decoder")
    width = decoder.get("width") if isinstance(decoder, dict) else None
    if not isinstance(decoder, dict) or decoder.get("kind") != DECODER or set(decoder) != {"kind", "width"}:
        raise reject("config_invalid", f'config.json needs "decoder": {{"kind": "{DECODER}", "width": n}}.')
    if type(width) is not int or not 8 <= width <= MAX_WIDTH or width % 8:
        raise reject("config_invalid", f"config.json: the decoder's width is a multiple of 8 up to {MAX_WIDTH}.")
    classifier = timm_models.build(architecture, {**config, "num_classes": 1, "label_names": ["none"]})
    if not levels_of(classifier.module):
        raise reject("architecture_unknown", f"{architecture} has no feature pyramid, so it cannot segment.")
    return _on(classifier, labels_in(config), width)


def on_classifier(bought: Loaded, labels: tuple[str, ...], *, seed: int) -> Loaded:
    """Returns the classifier's stages, weights and all, under a new decoder drawn from the seed."""
    if not levels_of(bought.module) or not hasattr(bought.module, "forward_intermediates"):
        raise UserFault(
            "backbone_unsupported",
            f"{bought.architecture} has no feature pyramid, so it cannot segment. Choose a convolutional network.",
        )
    torch.manual_seed(seed)
    return _on(bought.changed(module=copy.deepcopy(bought.module), labels=()), labels, WIDTH)


def _on(classifier: Loaded, labels: tuple[str, ...], width: int) -> Loaded:
    module = Segmenter(classifier.module, width=width, classes=len(labels)).eval()
    return Loaded(
        module=module,
        framework=classifier.framework,
        architecture=classifier.architecture,
        task=Task.SEMANTIC_SEGMENTATION,
        labels=labels,
        preprocessing=classifier.preprocessing,
        head_path="decoder.classifier",
        config={"decoder": {"kind": DECODER, "width": width}},
    )


def config(loaded: Loaded) -> dict[str, Any]:
    return {
        "library": "timm",
        "task": Task.SEMANTIC_SEGMENTATION.value,
        "decoder": loaded.config["decoder"],
        **hub_config(loaded),
    }


def stages(loaded: Loaded) -> list[tuple[str, list[nn.Module]]]:
    """Stem, the backbone's own stages, the decoder."""
    backbone: Any = loaded.module.get_submodule("backbone")
    tops = {entry["module"].partition(".")[0] for entry in backbone.feature_info}
    parts: list[tuple[str, list[nn.Module]]] = [("stem", [])]
    for name, child in backbone.named_children():
        if name in _CONTAINERS:
            parts += [(f"stage {number}", [block]) for number, block in enumerate(child.children())]
        elif name in tops and any(True for _ in child.parameters()):
            parts.append((name, [child]))
        else:
            parts[-1][1].append(child)
    return [*(part for part in parts if part[1]), ("head", [loaded.module.get_submodule("decoder")])]


def final_layers(_loaded: Loaded) -> list[str]:
    """Returns the dotted names of the layers whose outputs are classes."""
    return ["decoder.classifier"]


def levels(module: Any, images: Tensor) -> list[Tensor]:
    found: list[Tensor] = module.levels(images)
    return found


def decode(module: Any, features: list[Tensor], size: torch.Size) -> dict[str, Tensor]:
    found: dict[str, Tensor] = module.decode(features, size)
    return found
