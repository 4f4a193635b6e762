"""What all detectors share: torchvision's protocol, whatever the backbone.

A detector maps a batch (N, 3, S, S), already placed and normalised, to its losses while it trains and to boxes
otherwise. Its `backbone` holds a *trunk*, the part that was pretrained on images: {name: feature map}.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList

from finetuning.engine import weights
from finetuning.engine.frameworks.loaded import Loaded, hub_config
from finetuning.engine.spec import Preprocessing, Task

Targets = list[dict[str, Tensor]]
Boxes = list[dict[str, Tensor]]
LOWEST_SCORE = 0.05  # torchvision's own: below it, boxes cost time and move no average precision
# Two fixed boxes, as shares of the side, that a second stage is asked about where its own would vary.
_PROBED_BOXES = ((0.1, 0.1, 0.6, 0.7), (0.3, 0.2, 0.9, 0.9))


class AsPlaced(nn.Module):
    """Stands where torchvision's detectors resize and normalise: the images come as the network reads them."""

    def forward(self, images: Tensor, targets: Targets | None = None) -> tuple[ImageList, Targets | None]:
        height, width = images.shape[-2:]
        return ImageList(images, [(height, width)] * len(images)), targets

    def postprocess(self, found: Boxes, _sizes: Any, _original_sizes: Any) -> Boxes:
        return found


def background(module: nn.Module) -> int:
    """Returns the number of columns before the first class: a softmax over classes has one for nothing, focal
    losses have none."""
    return int(isinstance(module, detection.FasterRCNN | detection.ssd.SSD))


def class_layers(module: nn.Module) -> tuple[str, ...]:
    """Returns the dotted names of the layers whose meaning are the classes: all that a new data set replaces."""
    if isinstance(module, detection.FasterRCNN):
        return ("roi_heads.box_predictor",)
    if isinstance(module, detection.ssd.SSD):
        predictors = module.head.classification_head.module_list
        return tuple(f"head.classification_head.module_list.{at}.1" for at in range(len(predictors)))
    return ("head.classification_head.cls_logits",)


def inherit(fresh: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Gives a new detector all tensors of another one but those of its classes, which stay as initialised:
    N(0, 0.01) with the prior of a rare object in the bias (Lin et al. 2017, arXiv 1708.02002, section 4.1)."""
    own = class_layers(fresh)
    state = fresh.state_dict()
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(own)}
    weights.load_strictly(fresh, {**state, **kept})


@contextmanager
def answering(module: nn.Module, *, losses: bool) -> Iterator[None]:
    """Makes a detector answer with losses or with boxes; the mode of its norms stays what it is."""
    switches = [part for part in (module, *(getattr(module, name, None) for name in ("rpn", "roi_heads"))) if part]
    modes = [part.training for part in switches]
    try:
        for part in switches:
            part.training = losses
        yield
    finally:
        for part, mode in zip(switches, modes, strict=True):
            part.training = mode


def raw_outputs(module: nn.Module, images: Tensor) -> Tensor:
    """Returns (N, M): what the heads say before anything is decoded or suppressed, for a golden pair."""
    maps: Any = module.backbone(images)  # type: ignore[operator]
    features = OrderedDict([("0", maps)]) if isinstance(maps, Tensor) else maps
    if not isinstance(module, detection.FasterRCNN):
        answers = list(module.head(list(features.values())).values())  # type: ignore[operator]
        return torch.cat([answer.flatten(1) for answer in answers], dim=1)
    objectness, shifts = module.rpn.head(list(features.values()))
    height, width = images.shape[-2:]
    boxes = torch.tensor(_PROBED_BOXES) * torch.tensor([width, height, width, height])
    pooled = module.roi_heads.box_roi_pool(features, [boxes.to(images)] * len(images), [(height, width)] * len(images))
    classes, corners = module.roi_heads.box_predictor(module.roi_heads.box_head(pooled))
    rows = [*objectness, *shifts, classes, corners]
    return torch.cat([row.reshape(len(images), -1) for row in rows], dim=1)


def relabelled(loaded: Loaded, module: nn.Module, labels: Sequence[str], config: dict[str, Any], size: int) -> Loaded:
    """Returns a detector of other classes and input size beside what it keeps of the one it came from."""
    spec = dataclasses.replace(loaded.preprocessing or Preprocessing(), size=size, crop_fraction=1.0)
    return Loaded(
        module=module.eval(),
        framework=loaded.framework,
        architecture=loaded.architecture,
        task=Task.OBJECT_DETECTION,
        labels=tuple(labels),
        preprocessing=spec,
        config=config,
    )


def config_of(loaded: Loaded) -> dict[str, Any]:
    """Returns the release's document: the classifier's, with what makes it a detector."""
    return {
        **hub_config(loaded),
        "library": loaded.framework.value,
        "task": Task.OBJECT_DETECTION.value,
        "detector": loaded.config["detector"],
    }
