"""What segmentation needs of a framework: a head for other classes, and the network in two halves."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

from finetuning.engine import boundary, frameworks
from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks.loaded import Loaded
from finetuning.engine.hyper import Task
from finetuning.engine.spec import Framework
from finetuning.engine.strategies import Stages


def started(bought: Loaded, labels: tuple[str, ...], *, seed: int) -> Loaded:
    """Returns a copy of the bought segmenter with final layers for these labels, or the bought classifier's
    stages under a new decoder. New layers are drawn from the seed. Raises UserFault (`backbone_unsupported`)."""
    if bought.task is Task.SEMANTIC_SEGMENTATION:
        return _with_final_layers(bought, labels, seed=seed)
    if bought.framework is not Framework.TIMM:
        raise UserFault("backbone_unsupported", "Only timm's classifiers can be tuned to segment.")
    module = frameworks.module_of(Framework.TIMM, Task.SEMANTIC_SEGMENTATION)
    segmenter: Loaded = module.on_classifier(bought, labels, seed=seed)
    return segmenter


def _with_final_layers(bought: Loaded, labels: tuple[str, ...], *, seed: int) -> Loaded:
    module = copy.deepcopy(bought.module)
    torch.manual_seed(seed)
    for path in frameworks.module_of(bought.framework, bought.task).final_layers(bought):
        old = module.get_submodule(path)
        assert isinstance(old, nn.Conv2d)  # noqa: S101 - the allow-list of architectures says so
        parent, _, name = path.rpartition(".")
        setattr(module.get_submodule(parent), name, nn.Conv2d(old.in_channels, len(labels), 1))
    return bought.changed(module=module.eval(), labels=labels)


@dataclass(frozen=True, slots=True)
class Halves:
    """`prefix` maps images (N, 3, S, S) to rows (N, D), `suffix` rows to {"out": (N, C, S, S)}; it shares what
    learns with the network it was cut from."""

    prefix: nn.Module
    suffix: nn.Module


class _Prefix(nn.Module):
    """The frozen stages: what the rest reads of them, flattened and side by side."""

    def __init__(self, module: nn.Module, framework: ModuleType, kept: list[int]) -> None:
        super().__init__()
        self.module, self._framework, self._kept = module, framework, kept

    def forward(self, images: Tensor) -> Tensor:
        levels = self._framework.levels(self.module, images)
        return torch.cat([levels[place].flatten(1) for place in self._kept], 1)


class _Suffix(nn.Module):
    def __init__(self, module: nn.Module, framework: ModuleType, shapes: list[torch.Size], size: torch.Size) -> None:
        super().__init__()
        self.module, self._framework, self._shapes, self._size = module, framework, shapes, size
        self.is_head_alone = False

    def forward(self, rows: Tensor) -> dict[str, Tensor]:
        parts = rows.split([math.prod(shape) for shape in self._shapes], 1)
        levels = [
            part.reshape(-1, *shape).contiguous(memory_format=torch.channels_last)
            for part, shape in zip(parts, self._shapes, strict=True)
        ]
        if not self.is_head_alone:  # the last part is what the first trainable stage reads
            known = levels[:-1]
            levels = [*known, *self._framework.levels(self.module, levels[-1])[len(known) :]]
        outputs: dict[str, Tensor] = self._framework.decode(self.module, levels, self._size)
        return outputs


@torch.inference_mode()
def cut(loaded: Loaded, stages: Stages, boundary_at: int, sample: Tensor) -> Halves | None:
    """Returns the network cut before stage number `boundary_at`, or None where the halves do not make the
    whole for `sample` (N, 3, S, S): every level that the frozen stages give is kept, so that a decoder that
    reads several of them can be cut off too."""
    framework = frameworks.module_of(loaded.framework, loaded.task)
    module = loaded.module.eval()
    frozen = [child for _, modules in stages[:boundary_at] for child in modules]
    trainable = [child for _, modules in stages[boundary_at:-1] for child in modules]
    shared = [child for _, modules in stages[boundary_at:] for child in modules]
    try:
        whole = framework.levels(module, sample)
        front = boundary.without(module, trainable, sharing=frozen)
        seen = framework.levels(front, sample)
        same = [one.shape == other.shape and torch.equal(one, other) for one, other in zip(whole, seen, strict=True)]
        known = same.index(False) if False in same else len(same)
        kept = list(range(known)) if known == len(whole) else [*range(known), len(whole) - 1]
        prefix = _Prefix(front, framework, kept)
        shapes = [seen[place].shape[1:] for place in kept]
        suffix = _Suffix(boundary.without(module, frozen, sharing=shared), framework, shapes, sample.shape[-2:])
        suffix.is_head_alone = known == len(whole)
        suffix.eval()
        wanted, got = module(sample)["out"], suffix(prefix(sample))["out"]
    except (RuntimeError, TypeError, ValueError):
        return None
    difference = (got - wanted).norm() / wanted.norm().clamp(min=1e-12)
    return Halves(prefix, suffix) if difference <= boundary.TOLERANCE else None
