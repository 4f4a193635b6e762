"""A linear head that reads several stages of a convolutional network, not its last layer alone.

Where the data is unlike the pretraining's, the middle of a network tells more than its end: by how much, on
Fashion-MNIST, `python -m benchmarks features --reads stages` shows. Where things lie in the picture tells more still:
the cells of a grid keep some of it (`python -m benchmarks floor_fashion`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from finetuning.engine.hyper import Features
from finetuning.engine.lone_threads import registering

KIND = "stages"
_IMAGE_DIMENSIONS = 4
_MAX_GRID = 4  # a head of a release that was uploaded must not ask for any width
_STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "average": lambda cell: cell.mean((2, 3)),
    "maximum": lambda cell: cell.amax((2, 3)),
}


@dataclass(frozen=True, slots=True)
class Pooling:
    """How a stage (N, C, H, W) becomes numbers: each of the `statistics` over each cell of a grid of `grid` cells a
    side."""

    grid: int = 1
    statistics: tuple[str, ...] = ("average", "maximum")

    @property
    def per_channel(self) -> int:
        return self.grid**2 * len(self.statistics)

    @property
    def config(self) -> dict[str, Any]:
        """What config.json says of it: nothing of the plain one, as releases had it before there were grids."""
        return {} if self == PLAIN else {"grid": self.grid, "statistics": list(self.statistics)}


PLAIN = Pooling()
GRID = Pooling(3, ("maximum",))
POOLINGS = {Features.STAGES: PLAIN, Features.GRID: GRID}
# How many of the last stages are read, in one piece and in cells: these tell of where, which earlier stages know best.
_STAGES_READ, _STAGES_IN_CELLS = 4, 5
# Numbers that a head reads of a grid. Wide networks get fewer cells: 4,000 images of 16,384 numbers are 262 MB.
_MAX_WIDTH = 16_384


def pooling_in(head: dict[str, Any]) -> Pooling | None:
    """Returns what `head` of a config says, or None where it is no pooling."""
    grid, names = head.get("grid", PLAIN.grid), head.get("statistics", list(PLAIN.statistics))
    is_side = isinstance(grid, int) and not isinstance(grid, bool) and 1 <= grid <= _MAX_GRID
    known = [name for name in _STATISTICS if isinstance(names, list) and name in names]
    return Pooling(grid, tuple(known)) if is_side and known and names == known else None


class _LastStageError(Exception):
    """Ends the forward pass of the backbone: nothing behind the last stage is read."""


class StageHead(nn.Module):
    """`backbone` up to its last stage, the `pooling` of each stage in `taps` (dotted names), and a linear
    `classifier` on all of them: (N, 3, H, W) -> (N, C). `former_head` is where the backbone's own classifier was."""

    def __init__(  # a network, what is read of it, and what is made of that
        self,
        backbone: nn.Module,
        taps: Sequence[str],
        classes: int,
        width: int,
        former_head: str,
        pooling: Pooling = PLAIN,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.taps, self.former_head, self.pooling = tuple(taps), former_head, pooling
        self.classifier: nn.Module = nn.Linear(width, classes)
        self.num_classes = classes

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.classifier(pooled(self.backbone, self.taps, images, self.pooling))
        return result

    @property
    def config(self) -> dict[str, Any]:
        """`head` of the release's config.json."""
        return {"kind": KIND, "stages": list(self.taps), **self.pooling.config}


def pooled(backbone: nn.Module, taps: Sequence[str], images: Tensor, pooling: Pooling) -> Tensor:
    """Returns (N, pooling.per_channel * sum of the stages' channels)."""
    return pool(outputs(backbone, taps, images, stop=True)[1], pooling)


def pool(stages: Sequence[Tensor], pooling: Pooling) -> Tensor:
    """Returns the first statistic of every stage (N, C, H, W), cell by cell, then the next."""
    cells = [cell for stage in stages for cell in _cells(stage, pooling.grid)]
    return torch.cat([_STATISTICS[name](cell) for name in pooling.statistics for cell in cells], dim=1)


def _cells(stage: Tensor, grid: int) -> Iterator[Tensor]:
    """Yields the cells, row by row, as adaptive pooling cuts them: where the pixels do not divide they overlap.
    Slices, because ONNX has no adaptive pooling."""
    rows, columns = ([slice(i * n // grid, -(-(i + 1) * n // grid)) for i in range(grid)] for n in stage.shape[2:])
    yield from (stage[:, :, row, column] for row in rows for column in columns)


def outputs(
    module: nn.Module, taps: Sequence[str], images: Tensor, *, stop: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """Returns the module's output and those of the named parts; with `stop` nothing behind the last of them is
    computed, and the first output is that part's."""
    stages = [module.get_submodule(tap) for tap in taps]
    with registering:
        for stage in stages:
            if _note not in stage._forward_hooks.values():  # noqa: SLF001 - torch has no other way to ask
                stage.register_forward_hook(_note)
    before = getattr(_passes, "watch", None)
    watch = _passes.watch = _Watch(frozenset(map(id, stages)), stop=stop)
    try:
        result: Tensor = module(images)
    except _LastStageError:
        result = watch.seen[-1]
    finally:
        _passes.watch = before
    return result, watch.seen


class _Watch:
    """What a forward pass has given in the modules of these ids."""

    def __init__(self, stages: frozenset[int], *, stop: bool) -> None:
        self.stages, self.stop = stages, stop
        self.seen: list[Tensor] = []


# A module may be in the forward passes of several threads, so that its hook stays and looks for what its thread watches.
# Nothing removes it: torch walks through a module's hooks where one raises, and another thread would change them.
_passes = threading.local()


def _note(module: nn.Module, _inputs: Any, output: Tensor) -> None:
    watch: _Watch | None = getattr(_passes, "watch", None)
    if watch is not None and id(module) in watch.stages:
        watch.seen.append(output)
        if watch.stop and len(watch.seen) == len(watch.stages):
            raise _LastStageError


@torch.no_grad()
def channels_of(backbone: nn.Module, taps: Sequence[str], size: int) -> int | None:
    """Returns the sum of the stages' channels, or None where they do not give (N, C, H, W)."""
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
    return sum(shape[1] for shape in shapes) if fits else None


def narrowed(pooling: Pooling, channels: int) -> Pooling:
    """Returns the pooling with as many cells a side as a head of bearable width can read."""
    grid = pooling.grid
    while grid > 1 and Pooling(grid, pooling.statistics).per_channel * channels > _MAX_WIDTH:
        grid -= 1
    return Pooling(grid, pooling.statistics)


def taps_of(
    backbone: nn.Module, stages: Sequence[tuple[str, list[nn.Module]]], pooling: Pooling = PLAIN
) -> tuple[str, ...]:
    """Returns the names of the last stages that hold convolutions, as many as go with the pooling, stem and head
    left out; empty where there are none, as in a transformer."""
    names = {id(module): name for name, module in backbone.named_modules()}
    body = [modules[0] for title, modules in stages if title.startswith(("stage", "features")) and modules]
    convolutional = [module for module in body if any(isinstance(child, nn.Conv2d) for child in module.modules())]
    count = _STAGES_READ if pooling == PLAIN else _STAGES_IN_CELLS
    return tuple(names[id(module)] for module in convolutional[-count:])
