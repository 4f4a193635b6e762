"""Segmentation on a network that was trained to classify: its stages and a light decoder on top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_WIDTH = 512
_GROUPS = 8  # of the norms: batch statistics of few images are worse than none
_FINEST, _COARSEST = 4, 32  # strides of the levels that the decoder reads


@dataclass(frozen=True, slots=True)
class Level:
    """A stage's output that the decoder reads: its number among the network's features, channels, stride."""

    number: int
    channels: int
    stride: int


def levels_of(backbone: Any) -> list[Level]:
    """Returns the last features of each stride from 4 to 32, fine to coarse. Empty where the network has no
    such pyramid (plain vision transformers)."""
    found: dict[int, Level] = {}
    for number, entry in enumerate(getattr(backbone, "feature_info", None) or []):
        stride = int(entry["reduction"])
        if _FINEST <= stride <= _COARSEST:
            found[stride] = Level(number, int(entry["num_chs"]), stride)
    return [found[stride] for stride in sorted(found)] if len(found) > 2 else []


class Refined(nn.Sequential):
    """A depthwise and a pointwise convolution with a norm: (N, W, h, w) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
            nn.Conv2d(width, width, 1, bias=False),
            nn.GroupNorm(_GROUPS, width),
            nn.ReLU(inplace=True),
        )


class PyramidDecoder(nn.Module):
    """A feature pyramid (Lin et al. 2017, arXiv 1612.03144) of separable convolutions, with the coarsest level
    weighed by the whole image as in LR-ASPP (Howard et al. 2019, arXiv 1905.02244, section 6.4).

    Levels (N, C_l, h_l, w_l), fine to coarse -> logits (N, classes, h_0, w_0)."""

    def __init__(self, channels: list[int], width: int, classes: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(own, width, 1) for own in channels)
        self.gate = nn.Conv2d(channels[-1], width, 1)
        self.refined = nn.ModuleList(Refined(width) for _ in channels)
        self.classifier = nn.Conv2d(width, classes, 1)

    def forward(self, levels: list[Tensor]) -> Tensor:
        context = functional.adaptive_avg_pool2d(levels[-1], 1)
        merged = self.lateral[-1](levels[-1]) * self.gate(context).sigmoid()
        merged = self.refined[-1](merged)
        for place in range(len(levels) - 2, -1, -1):
            lateral = self.lateral[place](levels[place])
            merged = functional.interpolate(merged, lateral.shape[-2:], mode="bilinear") + lateral
            merged = self.refined[place](merged)
        logits: Tensor = self.classifier(merged)
        return logits


class Segmenter(nn.Module):
    """`backbone` is one of timm's classifiers without its head: (N, 3, H, W) -> {"out": (N, classes, H, W)}."""

    def __init__(self, backbone: Any, *, width: int, classes: int) -> None:
        super().__init__()
        levels = levels_of(backbone)
        self._numbers = [level.number for level in levels]
        backbone.prune_intermediate_layers(self._numbers, prune_norm=True, prune_head=True)
        self.backbone = backbone
        self.decoder = PyramidDecoder([level.channels for level in levels], width, classes)

    def levels(self, images: Tensor) -> list[Tensor]:
        found: list[Tensor] = self.backbone.forward_intermediates(
            images, indices=self._numbers, intermediates_only=True
        )
        return found

    def decode(self, levels: list[Tensor], size: torch.Size) -> dict[str, Tensor]:
        """Returns the logits in `size` (H, W), the images'."""
        return {"out": functional.interpolate(self.decoder(levels), size, mode="bilinear")}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.decode(self.levels(images), images.shape[-2:])
