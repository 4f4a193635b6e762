"""The frozen part of a network that gives feature maps of several stages, cut off like `boundary` does it:
computed once for each image and view, and never again."""

from __future__ import annotations

import contextlib
import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from finetuning.engine.boundary import TOLERANCE, without
from finetuning.engine.lone_threads import Hook, hooked
from finetuning.engine.strategies import Stages

_EDGE = "boundary"  # the name of the activation that the first trainable stage reads


class _ReachedError(Exception):
    """Ends a forward pass at the boundary."""


class FrozenTrunk(nn.Module):
    """(N, 3, S, S) -> (N, D): the feature maps that frozen stages give and the activation at the boundary,
    flattened and joined. `shapes` says how to take them apart."""

    def __init__(self, trunk: nn.Module, sources: dict[str, nn.Module], first: nn.Module | None) -> None:
        super().__init__()
        self.trunk, self.sources, self.first = trunk, nn.ModuleDict(sources), first
        self.shapes: dict[str, torch.Size] = {}

    def forward(self, images: Tensor) -> Tensor:
        kept: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def note(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                kept[name] = output

            return note

        def stop(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            kept[_EDGE] = inputs[0]
            raise _ReachedError

        hooks: list[Hook] = [(module.register_forward_hook, keep(name)) for name, module in self.sources.items()]
        if self.first is not None:
            hooks.append((self.first.register_forward_pre_hook, stop))
        with contextlib.suppress(_ReachedError), hooked(*hooks):
            self.trunk(images)
        names = [*self.sources, *([_EDGE] if self.first is not None else [])]
        self.shapes = {name: kept[name].shape[1:] for name in names}
        return torch.cat([kept[name].flatten(1) for name in names], dim=1)


class LearningTrunk(nn.Module):
    """What FrozenTrunk left -> {name: feature map}. `given` (N, D) is set before each pass: detectors hand
    their trunk the images, of which only the size still matters."""

    def __init__(self, rest: nn.Module | None, shapes: dict[str, torch.Size], names: Sequence[str]) -> None:
        super().__init__()
        self.rest, self.shapes, self.names = rest, shapes, list(names)
        self.given = torch.empty(0)

    def forward(self, _images: Tensor) -> OrderedDict[str, Tensor]:
        flat = self.given.split([shape.numel() for shape in self.shapes.values()], dim=1)
        maps = {name: part.unflatten(1, shape) for (name, shape), part in zip(self.shapes.items(), flat, strict=True)}
        if self.rest is not None:
            edge = maps.pop(_EDGE).contiguous(memory_format=torch.channels_last)
            maps = {**self.rest(edge), **maps}
        return OrderedDict((name, maps[name]) for name in self.names)


@dataclass(frozen=True, slots=True)
class Cut:
    """`suffix` shares the trainable modules with the network that it was cut from; `learning` is its trunk."""

    prefix: FrozenTrunk
    suffix: nn.Module
    learning: LearningTrunk


@torch.no_grad()
def cut(module: nn.Module, path: str, stages: Stages, boundary: int, sample: Tensor) -> Cut | None:
    """Returns the network with its trunk, called `path`, cut before stage number `boundary`; None where the
    halves do not make the whole for `sample` (N, 3, S, S)."""
    if boundary == 0:
        return None
    trunk = module.get_submodule(path)
    inside = {id(child) for child in trunk.modules()}
    frozen = [child for _, modules in stages[:boundary] for child in modules]
    learning = [child for _, modules in stages[boundary:] for child in modules if id(child) in inside]
    wanted, sources = _sources(trunk, [modules[-1] for _, modules in stages[:boundary]], sample)
    prefix = FrozenTrunk(trunk, sources, learning[0] if learning else None)
    flat = prefix(sample)
    rest = without(trunk, frozen, sharing=learning) if learning else None
    new = LearningTrunk(rest, prefix.shapes, list(wanted))
    new.given = flat
    try:
        got = new(sample)
    except (RuntimeError, TypeError, ValueError, KeyError):
        return None
    for name, whole in wanted.items():
        if got[name].shape != whole.shape or (got[name] - whole).norm() > TOLERANCE * whole.norm():
            return None
    new.given = torch.empty(0)
    return Cut(prefix, _with_trunk(module, path, new), new)


def _sources(
    trunk: nn.Module, ends: list[nn.Module], sample: Tensor
) -> tuple[OrderedDict[str, Tensor], dict[str, nn.Module]]:
    """Returns the trunk's feature maps, and which of the frozen stages' `ends` gives which of them."""
    outputs: list[tuple[nn.Module, Tensor]] = []
    hooks = [end.register_forward_hook(lambda own, _inputs, output: outputs.append((own, output))) for end in ends]
    try:
        maps: OrderedDict[str, Tensor] = trunk(sample)
    finally:
        for hook in hooks:
            hook.remove()
    return maps, {name: own for name, value in maps.items() for own, output in outputs if output is value}


def _with_trunk(module: nn.Module, path: str, trunk: nn.Module) -> nn.Module:
    """Returns the network around another trunk; every module outside of the trunk is shared."""
    parent, _, own = path.rpartition(".")
    whole = copy.copy(module)
    whole._modules = dict(module._modules)  # noqa: SLF001 - a shallow copy still shares its table of children
    if not parent:
        whole._modules[own] = trunk  # noqa: SLF001
    else:
        first, _, rest = path.partition(".")
        whole._modules[first] = _with_trunk(module.get_submodule(first), rest, trunk)  # noqa: SLF001
    return whole
