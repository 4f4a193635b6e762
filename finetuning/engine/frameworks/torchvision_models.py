"""torchvision's image classifiers."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision import models

from finetuning.engine.frameworks.loaded import Loaded, hub_config, labels_in, preprocessing_in
from finetuning.engine.problems import reject
from finetuning.engine.spec import Framework, Task


def build(architecture: str, config: dict[str, Any]) -> Loaded:
    """Returns the named model without weights. Rejects (`architecture_unknown`, `config_invalid`)."""
    if architecture not in models.list_models(module=models):
        raise reject("architecture_unknown", f"torchvision has no image classifier named {architecture}.")
    labels = labels_in(config)
    extra = {"init_weights": False} if architecture in {"googlenet", "inception_v3"} else {}
    module = models.get_model(architecture, weights=None, num_classes=len(labels), **extra)
    linear = [name for name, child in module.named_modules() if isinstance(child, nn.Linear)]
    return Loaded(
        module=module,
        framework=Framework.TORCHVISION,
        architecture=architecture,
        task=Task.IMAGE_CLASSIFICATION,
        labels=labels,
        preprocessing=preprocessing_in(config),
        head_path=linear[-1] if linear else "",
        config=config,
    )


def stages(loaded: Loaded) -> list[tuple[str, list[nn.Module]]]:
    """The model's children in order, `features` opened up; the last one is the head."""
    parts: list[tuple[str, list[nn.Module]]] = []
    for name, child in loaded.module.named_children():
        if name == "features" and isinstance(child, nn.Sequential):
            parts += [(f"features {index}", [block]) for index, block in enumerate(child)]
        elif sum(1 for _ in child.parameters()):
            parts.append((name, [child]))
    return [*parts[:-1], ("head", parts[-1][1])]


def config(loaded: Loaded) -> dict[str, Any]:
    return {"library": "torchvision", **hub_config(loaded)}
