"""The frozen part of a network, cut off so that it is computed once for each image and never again.

Both halves are made from the module itself and compared with it: where the cut does not fit an architecture
(its forward pass does more between stages than call them), there is none.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from finetuning.engine.frameworks import stage_head
from finetuning.engine.frameworks.stage_head import StageHead
from finetuning.engine.lone_threads import hooked
from finetuning.engine.strategies import Stages

TOLERANCE = 1e-4  # relative difference (L2) in float32 that is rounding


class _ReachedError(Exception):
    """Carries the activation out of the forward pass: nothing behind the cut is computed."""

    def __init__(self, activation: Tensor) -> None:
        super().__init__()
        self.activation = activation


class Prefix(nn.Module):
    """What the module takes, images (N, 3, H, W) or a text's numbers -> the activation that the first trainable stage
    reads."""

    def __init__(self, module: nn.Module, first: nn.Module) -> None:
        super().__init__()
        self.module, self.first = module, first

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        def stop(_module: nn.Module, given: tuple[Any, ...]) -> None:
            raise _ReachedError(given[0])

        try:
            with hooked((self.first.register_forward_pre_hook, stop)):
                self.module(*inputs, **named)
        except _ReachedError as reached:
            return reached.activation
        raise RuntimeError("the first trainable stage is not part of the forward pass")


class StagePrefix(nn.Module):
    """The same for a head that reads several stages: images (N, 3, H, W) -> rows (N, D) of the activation,
    then the pooling of the frozen stages in `taps`."""

    def __init__(self, whole: StageHead, first: nn.Module, taps: Sequence[str]) -> None:
        super().__init__()
        self.prefix, self.taps, self.pooling = Prefix(whole.backbone, first), tuple(taps), whole.pooling

    def forward(self, images: Tensor) -> Tensor:
        activation, seen = stage_head.outputs(self.prefix, [f"module.{tap}" for tap in self.taps], images)
        parts = [stage_head.pool(seen, self.pooling)] if seen else []
        return torch.cat([activation.flatten(1), *parts], dim=1)


class StageSuffix(nn.Module):
    """Rows of a StagePrefix -> (N, C). `whole` has identities for its frozen stages; `shape` is (C, H, W) of
    the activation."""

    def __init__(self, whole: StageHead, taps: Sequence[str], shape: Sequence[int]) -> None:
        super().__init__()
        self.whole, self.taps = whole, tuple(taps)
        self._shape, self._size = tuple(shape), torch.Size(shape).numel()

    def forward(self, rows: Tensor) -> Tensor:
        activation = rows[:, : self._size].view(-1, *self._shape).contiguous(memory_format=torch.channels_last)
        pooling = self.whole.pooling
        live = stage_head.pooled(self.whole.backbone, self.taps, activation, pooling)
        parts = (part.chunk(len(pooling.statistics), dim=1) for part in (rows[:, self._size :], live))
        read = torch.cat([part for pair in zip(*parts, strict=True) for part in pair], dim=1)
        result: Tensor = self.whole.classifier(read)
        return result


@dataclass(frozen=True, slots=True)
class Cut:
    """`suffix` shares the trainable modules with the network it was cut from: training one trains the other."""

    prefix: nn.Module
    suffix: nn.Module


@torch.inference_mode()
def cut(module: nn.Module, stages: Stages, boundary: int, sample: Tensor) -> Cut | None:
    """Returns the network cut before stage number `boundary`, or None where the halves do not make the whole
    for `sample` (N, 3, H, W)."""
    if boundary == 0:
        return None
    kept = [child for _, modules in stages[boundary:] for child in modules]
    suffix = without(module, [child for _, modules in stages[:boundary] for child in modules], sharing=kept)
    training = module.training
    module.eval()
    try:
        prefix, suffix = _halves(module, suffix, kept[0], sample)
        suffix.eval()
        wanted, got = module(sample), suffix(prefix(sample))
        if got.shape != wanted.shape:
            return None
        difference = (got - wanted).norm() / wanted.norm().clamp(min=1e-12)
    except (RuntimeError, TypeError, ValueError, AttributeError):  # an architecture that no cut fits
        return None
    finally:
        module.train(training)
    return Cut(prefix, suffix) if difference <= TOLERANCE else None


def _halves(module: nn.Module, suffix: nn.Module, first: nn.Module, sample: Tensor) -> tuple[nn.Module, nn.Module]:
    """Returns what computes the frozen part, and what goes on from it; `suffix` is the module without it."""
    if not isinstance(module, StageHead) or not isinstance(suffix, StageHead):
        return Prefix(module, first), suffix
    shape = Prefix(module.backbone, first)(sample).shape[1:]
    live = [tap for tap in module.taps if not isinstance(suffix.backbone.get_submodule(tap), nn.Identity)]
    frozen = [tap for tap in module.taps if tap not in live]
    return StagePrefix(module, first, frozen), StageSuffix(suffix, live, shape)


def without(
    module: nn.Module,
    dropped: Iterable[nn.Module],
    *,
    sharing: Iterable[nn.Module],
    stand_in: Callable[[nn.Module], nn.Module] = lambda _: nn.Identity(),
) -> nn.Module:
    """Returns a copy in which other modules stand for the children `dropped`, identities where nothing else is said; the
    children `sharing` are not copied but the module's own."""
    taken = {id(child): stand_in(child) for child in dropped} | {id(child): child for child in sharing}
    with torch.inference_mode(mode=False):  # parameters made here must be able to learn
        return copy.deepcopy(module, memo=taken)
