"""A linear head that reads several stages of a convolutional network, not its last layer alone.

Where the data is unlike the pretraining's, the middle of a network tells more than its end: by how much, on
Fashion-MNIST, `python -m benchmarks features --reads stages` shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

KIND = "stages"
STAGES_READ = 4
_IMAGE_DIMENSIONS = 4


class _LastStageError(Exception):
    """Ends the forward pass of the backbone: nothing behind the last stage is read."""


class StageHead(nn.Module):
    """`backbone` up to its last stage, the average and the maximum over the pixels of each stage in `taps`
    (dotted names), and a linear `classifier` on all of them: (N, 3, H, W) -> (N, C). `former_head` is where
    the backbone's own classifier was."""

    def __init__(self, backbone: nn.Module, taps: Sequence[str], classes: int, width: int, former_head: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.taps, self.former_head = tuple(taps), former_head
        self.classifier: nn.Module = nn.Linear(width, classes)
        self.num_classes = classes

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.classifier(pooled(self.backbone, self.taps, images))
        return result


def pooled(backbone: nn.Module, taps: Sequence[str], images: Tensor) -> Tensor:
    """Returns the averages of every stage, then the maxima: (N, 2 * sum of the stages' channels)."""
    return pool(outputs(backbone, taps, images, stop=True)[1])


def pool(stages: Sequence[Tensor]) -> Tensor:
    """Returns the averages, then the maxima over the pixels of every stage (N, C, H, W)."""
    return torch.cat([*(stage.mean((2, 3)) for stage in stages), *(stage.amax((2, 3)) for stage in stages)], dim=1)


def outputs(
    module: nn.Module, taps: Sequence[str], images: Tensor, *, stop: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """Returns the module's output and those of the named parts; with `stop` nothing behind the last of them is
    computed, and the first output is that part's."""
    seen: list[Tensor] = []

    def note(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen.append(output)
        if stop and len(seen) == len(taps):
            raise _LastStageError

    hooks = [module.get_submodule(tap).register_forward_hook(note) for tap in taps]
    try:
        result: Tensor = module(images)
    except _LastStageError:
        result = seen[-1]
    finally:
        for hook in hooks:
            hook.remove()
    return result, seen


@torch.no_grad()
def width_of(backbone: nn.Module, taps: Sequence[str], size: int) -> int | None:
    """Returns how many numbers the head would read, or None where the stages do not give (N, C, H, W)."""
    shapes: list[torch.Size] = []

    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        shapes.append(output.shape if isinstance(output, Tensor) else torch.Size())

    hooks = [backbone.get_submodule(tap).register_forward_hook(note) for tap in taps]
    was_training = backbone.training
    try:
        backbone.eval()(torch.zeros(1, 3, size, size))
    finally:
        backbone.train(was_training)
        for hook in hooks:
            hook.remove()
    fits = len(shapes) == len(taps) and all(len(shape) == _IMAGE_DIMENSIONS for shape in shapes)
    return 2 * sum(shape[1] for shape in shapes) if fits else None


def taps_of(backbone: nn.Module, stages: Sequence[tuple[str, list[nn.Module]]]) -> tuple[str, ...]:
    """Returns the names of the last `STAGES_READ` stages that hold convolutions, stem and head left out; empty
    where there are none, as in a transformer."""
    names = {id(module): name for name, module in backbone.named_modules()}
    body = [modules[0] for title, modules in stages if title.startswith(("stage", "features")) and modules]
    convolutional = [module for module in body if any(isinstance(child, nn.Conv2d) for child in module.modules())]
    return tuple(names[id(module)] for module in convolutional[-STAGES_READ:])
