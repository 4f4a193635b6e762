"""timm's image classifiers as the backbone of a detector: a feature pyramid (Lin et al. 2017, arXiv 1612.03144)
and a light FCOS head (Tian et al. 2019, arXiv 1904.01355) on their stages."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import timm
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import FeaturePyramidNetwork

from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks.detectors import LOWEST_SCORE, AsPlaced, config_of, inherit, relabelled
from finetuning.engine.frameworks.loaded import Loaded, labels_in, preprocessing_in
from finetuning.engine.problems import reject
from finetuning.engine.spec import Framework, Task

STRIDES = (8, 16, 32)  # pixels of the canvas for one cell of each level
# FCOS's own head is 256 wide and 4 deep for 80 classes on a GPU; this one costs a twentieth of it.
DETECTOR = {"kind": "fcos", "channels": 96, "convolutions": 2}
_CHANNELS, _CONVOLUTIONS = (32, 64, 96, 128, 192, 256), range(1, 5)  # channels: whole groups of 32 for its norms
_BODY = "backbone.body.net."
_STAGE = re.compile(r"layer\d+")


class Trunk(nn.Module):
    """(N, 3, S, S) -> {stride: (N, C, S / stride, S / stride)}, the classifier's stages without its head."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        reductions = [level["reduction"] for level in net.feature_info]
        self.indices = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES]
        self.channels = [net.feature_info[at]["num_chs"] for at in self.indices]
        net.prune_intermediate_layers(self.indices, prune_norm=True, prune_head=True)
        self.net = net

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.net.forward_intermediates(images, indices=self.indices, intermediates_only=True)
        return OrderedDict(zip(map(str, STRIDES), maps, strict=True))


class Pyramid(nn.Module):
    """(N, 3, S, S) -> {stride: (N, channels, S / stride, S / stride)}."""

    def __init__(self, body: Trunk, channels: int) -> None:
        super().__init__()
        self.body = body
        self.fpn = FeaturePyramidNetwork(body.channels, channels)
        self.out_channels = channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        maps: OrderedDict[str, Tensor] = self.fpn(self.body(images))
        return maps


def build(architecture: str, config: dict[str, Any]) -> Loaded:
    """Returns the named detector without weights. Rejects (`architecture_unknown`, `config_invalid`)."""
    if not timm.is_model(architecture):
        raise reject("architecture_unknown", f"timm has no model named {architecture}.")
    if config.get("architecture", architecture) != architecture:
        raise reject("config_invalid", f"config.json names {config['architecture']!r}, the listing {architecture!r}.")
    detector = _detector_in(config)
    labels = labels_in(config)
    body = Trunk(_net(architecture))
    module = FCOS(
        Pyramid(body, detector["channels"]),
        num_classes=len(labels),
        anchor_generator=AnchorGenerator(tuple((stride,) for stride in STRIDES), ((1.0,),) * len(STRIDES)),
        head=FCOSHead(detector["channels"], 1, len(labels), detector["convolutions"]),
        score_thresh=LOWEST_SCORE,
    )
    module.transform = AsPlaced()
    return Loaded(
        module=module,
        framework=Framework.TIMM,
        architecture=architecture,
        task=Task.OBJECT_DETECTION,
        labels=labels,
        preprocessing=preprocessing_in(config),
        config=config,
    )


def _net(architecture: str) -> nn.Module:
    net: Any = timm.create_model(architecture, pretrained=False, num_classes=0)
    reductions = {level["reduction"] for level in getattr(net, "feature_info", ())}
    if not reductions.issuperset(STRIDES) or not hasattr(net, "prune_intermediate_layers"):
        raise UserFault(
            "backbone_unsupported",
            f"{architecture} has no feature maps at 1/8, 1/16 and 1/32 of the image, so it cannot become a detector.",
        )
    module: nn.Module = net
    return module


def _detector_in(config: dict[str, Any]) -> dict[str, Any]:
    detector = config.get("detector")
    if not isinstance(detector, dict) or detector.get("kind") != "fcos":
        raise reject("config_invalid", 'config.json needs detector: {"kind": "fcos", "channels", "convolutions"}.')
    if detector.get("channels") not in _CHANNELS or detector.get("convolutions") not in _CONVOLUTIONS:
        raise reject("config_invalid", f"config.json: detector needs channels of {_CHANNELS} and 1 to 4 convolutions.")
    return detector


def adapted(base: Loaded, labels: Sequence[str], size: int) -> Loaded:
    """Returns a detector for these labels: a bought classifier gets a new pyramid and head, a bought detector
    new class layers. New tensors are drawn from torch's generator."""
    config = _config_for(base, labels)
    module = build(base.architecture, config).module
    given = base.module.state_dict()
    if base.task is Task.OBJECT_DETECTION:
        inherit(module, given)
    else:
        own = module.state_dict()
        wanted = [name for name in own if name.startswith(_BODY)]
        if missing := [name for name in wanted if name.removeprefix(_BODY) not in given]:
            raise UserFault("backbone_unsupported", "This model's stages cannot be told from its head.", missing)
        inherit(module, {name: given[name.removeprefix(_BODY)] for name in wanted})
    return relabelled(base, module, labels, config, size)


def reinitialized(base: Loaded, labels: Sequence[str], size: int) -> Loaded:
    """Returns the same detector with random weights."""
    config = _config_for(base, labels)
    return relabelled(base, build(base.architecture, config).module, labels, config, size)


def _config_for(base: Loaded, labels: Sequence[str]) -> dict[str, Any]:
    detector = base.config.get("detector", DETECTOR)
    return {**base.config, "detector": detector, "num_classes": len(labels), "label_names": list(labels)}


def stages(loaded: Loaded) -> list[tuple[str, list[nn.Module]]]:
    """Stem, the net's own stages, then pyramid and head as one: both are new in a detector."""
    module: Any = loaded.module
    net = module.backbone.body.net
    parts: list[tuple[str, list[nn.Module]]] = [("stem", [])]
    for name, child in net.named_children():
        if name in {"blocks", "stages", "layers"}:
            parts += [(f"stage {at}", [stage]) for at, stage in enumerate(child)]
        elif _STAGE.fullmatch(name):
            parts.append((name, [child]))
        elif len(parts) == 1 or next(child.parameters(), None) is not None:
            parts[-1][1].append(child)
    return [*parts, ("head", [module.backbone.fpn, module.head])]


def trunk(_module: Any) -> str:
    """Returns the dotted name of the trunk."""
    return "backbone.body"


def config(loaded: Loaded) -> dict[str, Any]:
    return config_of(loaded)
