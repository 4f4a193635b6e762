"""torchvision's detectors, by a list of names: nothing else is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torchvision.models import get_model
from torchvision.ops import FrozenBatchNorm2d

from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks.detectors import AsPlaced, config_of, inherit, relabelled
from finetuning.engine.frameworks.loaded import Loaded, labels_in, preprocessing_in
from finetuning.engine.problems import reject
from finetuning.engine.spec import Framework, Task

# Whether its published weights carry norms whose statistics never change (torchvision's references do that
# to all but the newer recipes and SSDlite).
ARCHITECTURES = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": True,
    "fasterrcnn_mobilenet_v3_large_fpn": True,
    "fasterrcnn_resnet50_fpn": True,
    "fasterrcnn_resnet50_fpn_v2": False,
    "fcos_resnet50_fpn": True,
    "retinanet_resnet50_fpn": True,
    "retinanet_resnet50_fpn_v2": False,
    "ssdlite320_mobilenet_v3_large": False,
}


def build(architecture: str, config: dict[str, Any]) -> Loaded:
    """Returns the named detector without weights. Rejects (`architecture_unknown`, `config_invalid`)."""
    if architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise reject("architecture_unknown", f"{architecture} is none of torchvision's detectors {known}.")
    labels = labels_in(config)
    detector = config.get("detector", {"kind": "torchvision", "frozen_norms": ARCHITECTURES[architecture]})
    if not isinstance(detector, dict) or not isinstance(detector.get("frozen_norms"), bool):
        raise reject("config_invalid", "config.json: detector needs frozen_norms, true or false.")
    with_background = len(labels) + int(architecture.startswith(("fasterrcnn", "ssd")))
    module: Any = get_model(architecture, weights=None, weights_backbone=None, num_classes=with_background)
    module.transform = AsPlaced()
    if detector["frozen_norms"]:
        _freeze_norms(module.backbone.body)
    return Loaded(
        module=module,
        framework=Framework.TORCHVISION,
        architecture=architecture,
        task=Task.OBJECT_DETECTION,
        labels=labels,
        preprocessing=preprocessing_in(config),
        config={**config, "detector": detector},
    )


def _freeze_norms(body: nn.Module) -> None:
    """Replaces every batch norm by the one of the published weights, which holds no counter."""
    for parent in list(body.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, FrozenBatchNorm2d(child.num_features, eps=child.eps))


def adapted(base: Loaded, labels: Sequence[str], size: int) -> Loaded:
    """Returns the bought detector with new class layers, drawn from torch's generator."""
    if base.task is not Task.OBJECT_DETECTION:
        raise UserFault(
            "backbone_unsupported",
            "torchvision's classifiers cannot become detectors here. Choose a detector, or a timm classifier.",
        )
    config = {**base.config, "num_classes": len(labels), "label_names": list(labels)}
    module = build(base.architecture, config).module
    inherit(module, base.module.state_dict())
    return relabelled(base, module, labels, config, size)


def reinitialized(base: Loaded, labels: Sequence[str], size: int) -> Loaded:
    """Returns the same detector with random weights; its norms must learn what they would not from nothing."""
    config = {
        **base.config,
        "num_classes": len(labels),
        "label_names": list(labels),
        "detector": {**base.config["detector"], "frozen_norms": False},
    }
    return relabelled(base, build(base.architecture, config).module, labels, config, size)


def stages(loaded: Loaded) -> list[tuple[str, list[nn.Module]]]:
    """The body's children in order, the stem as one; then all that is the detector's own."""
    module: Any = loaded.module
    if hasattr(module.backbone, "extra"):  # SSDlite
        blocks = [block for part in module.backbone.features for block in part]
        parts = [(f"features {at}", [block]) for at, block in enumerate(blocks)]
        parts += [(f"extra {at}", [block]) for at, block in enumerate(module.backbone.extra)]
        return [*parts, ("head", [module.head])]
    parts = []
    stem: list[nn.Module] = []
    for name, child in module.backbone.body.named_children():
        if name.startswith("layer") or name.isdecimal():
            parts.append((name, [child]))
        else:
            stem.append(child)
    own = [
        module.backbone.fpn,
        *(getattr(module, name) for name in ("rpn", "roi_heads", "head") if hasattr(module, name)),
    ]
    return [*([("stem", stem)] if stem else []), *parts, ("head", own)]


def trunk(module: Any) -> str:
    """Returns the dotted name of the trunk."""
    return "backbone" if hasattr(module.backbone, "extra") else "backbone.body"


def config(loaded: Loaded) -> dict[str, Any]:
    return config_of(loaded)
