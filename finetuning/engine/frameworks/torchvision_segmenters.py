"""torchvision's segmentation models, by an allow-list."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from finetuning.engine.frameworks.loaded import Loaded, hub_config, labels_in, preprocessing_in
from finetuning.engine.problems import reject
from finetuning.engine.spec import Framework, Task

# The layers whose outputs are classes; those of the auxiliary head only where the weights have one.
_PLAIN = ("classifier.4", "aux_classifier.4")
FINAL_LAYERS: dict[str, tuple[str, ...]] = {
    "lraspp_mobilenet_v3_large": ("classifier.low_classifier", "classifier.high_classifier"),
    "deeplabv3_mobilenet_v3_large": _PLAIN,
    "deeplabv3_resnet50": _PLAIN,
    "deeplabv3_resnet101": _PLAIN,
    "fcn_resnet50": _PLAIN,
    "fcn_resnet101": _PLAIN,
}


def build(architecture: str, config: dict[str, Any]) -> Loaded:
    """Returns the named model without weights. Rejects (`architecture_unknown`, `config_invalid`)."""
    if architecture not in FINAL_LAYERS:
        raise reject("architecture_unknown", f"Segmentation models are accepted of: {', '.join(FINAL_LAYERS)}.")
    if config.get("architecture", architecture) != architecture:
        raise reject("config_invalid", f"config.json names {config['architecture']!r}, the listing {architecture!r}.")
    labels = labels_in(config)
    has_aux = FINAL_LAYERS[architecture] is _PLAIN and config.get("aux_classifier", True) is True
    extra = {"aux_loss": has_aux} if FINAL_LAYERS[architecture] is _PLAIN else {}
    module = models.get_model(architecture, weights=None, weights_backbone=None, num_classes=len(labels), **extra)
    return Loaded(
        module=module,
        framework=Framework.TORCHVISION,
        architecture=architecture,
        task=Task.SEMANTIC_SEGMENTATION,
        labels=labels,
        preprocessing=preprocessing_in(config),
        head_path=FINAL_LAYERS[architecture][-1 if not extra else 0],
        config={"aux_classifier": has_aux},
    )


def config(loaded: Loaded) -> dict[str, Any]:
    return {
        "library": "torchvision",
        "task": Task.SEMANTIC_SEGMENTATION.value,
        "aux_classifier": loaded.config["aux_classifier"],
        **hub_config(loaded),
    }


def stages(loaded: Loaded) -> list[tuple[str, list[nn.Module]]]:
    """The backbone's children in order, then everything that reads them."""
    backbone = loaded.module.get_submodule("backbone")
    parts: list[tuple[str, list[nn.Module]]] = []
    for name, child in backbone.named_children():
        if sum(1 for _ in child.parameters()) or not parts:
            parts.append((name, [child]))
        else:
            parts[-1][1].append(child)
    heads = [child for name, child in loaded.module.named_children() if name != "backbone"]
    return [*parts, ("head", heads)]


def final_layers(loaded: Loaded) -> list[str]:
    """Returns the dotted names of the layers whose outputs are classes."""
    names = FINAL_LAYERS[loaded.architecture]
    return [name for name in names if loaded.config["aux_classifier"] or not name.startswith("aux")]


def levels(module: Any, images: Tensor) -> list[Tensor]:
    """Returns what the heads read, in the order of the backbone's layers."""
    return list(module.backbone(images).values())


def decode(module: Any, features: list[Tensor], size: torch.Size) -> dict[str, Tensor]:
    """Returns the logits `out` (N, C, H, W) and, in training, those of the auxiliary head, `aux`."""
    names = [
        module.backbone.return_layers[layer] for layer in module.backbone if layer in module.backbone.return_layers
    ]
    found = OrderedDict(zip(names, features, strict=True))
    if "out" not in found:  # LR-ASPP reads two levels at once
        return {"out": functional.interpolate(module.classifier(found), size, mode="bilinear")}
    outputs = {"out": functional.interpolate(module.classifier(found["out"]), size, mode="bilinear")}
    if module.aux_classifier is not None and module.training:
        outputs["aux"] = functional.interpolate(module.aux_classifier(found["aux"]), size, mode="bilinear")
    return outputs
