"""Low-rank updates beside frozen weights (Hu et al. 2021, arXiv 2106.09685), merged before anything is saved."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from finetuning.engine.failures import AppFault, UserFault

ALPHA_OVER_RANK = 2.0  # the update is scaled by alpha / rank
MERGE_TOLERANCE = 1e-4  # relative difference (L2) of a layer's answers in float32 that is rounding


class LowRank(nn.Module):
    """`frozen` plus scale * B A. For a convolution A keeps its kernel and B is 1 x 1."""

    def __init__(self, frozen: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.frozen = frozen.requires_grad_(False)
        weight = frozen.weight
        rank = min(rank, weight.shape[0], weight[0].numel())
        self.down = nn.Parameter(weight.new_empty(rank, *weight.shape[1:]))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))  # the update starts at zero
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    @property
    def weight(self) -> Tensor:
        """The frozen weight: some libraries ask a layer for its weight's dtype or device."""
        weight: Tensor = self.frozen.weight
        return weight

    def delta(self) -> Tensor:
        """Returns the update in the shape of the frozen weight."""
        flat = ALPHA_OVER_RANK * self.up @ self.down.flatten(1)
        return flat.view_as(self.frozen.weight)

    def sample(self) -> Tensor:
        """Returns two random inputs of the layer."""
        weight = self.frozen.weight
        shape = list(weight.shape[1:])
        if isinstance(self.frozen, nn.Conv2d):
            shape[1:] = [2 * side * reach for side, reach in zip(shape[1:], self.frozen.dilation, strict=True)]
        return torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(weight)

    def forward(self, inputs: Tensor) -> Tensor:
        base: Tensor = self.frozen(inputs)
        if isinstance(self.frozen, nn.Linear):
            return base + ALPHA_OVER_RANK * functional.linear(functional.linear(inputs, self.down), self.up)
        narrow = functional.conv2d(
            inputs, self.down, None, self.frozen.stride, self.frozen.padding, self.frozen.dilation
        )
        return base + ALPHA_OVER_RANK * functional.conv2d(narrow, self.up[..., None, None])


def attach(module: nn.Module, *, rank: int, skip: Iterable[nn.Module], only: Collection[str] = ()) -> list[LowRank]:
    """Freezes the module, all but `skip` (the head), and adds an update to each linear layer and to each plain
    convolution (no groups, TensorFlow padding left out): with `only`, to those of these names (`query`).
    Returns the updates."""
    kept = {id(child) for part in skip for child in part.modules()}
    trainable = {id(parameter) for part in skip for parameter in part.parameters()}
    for parameter in module.parameters():
        parameter.requires_grad_(id(parameter) in trainable)
    made = []
    for name, child in list(module.named_modules()):
        parent, _, own = name.rpartition(".")
        if id(child) not in kept and _takes_update(child) and (not only or own in only):
            update = LowRank(child, rank)
            setattr(module.get_submodule(parent), own, update)
            made.append(update)
    return made


def _takes_update(child: nn.Module) -> bool:
    if type(child) is nn.Linear:
        return True
    return type(child) is nn.Conv2d and child.groups == 1 and child.padding_mode == "zeros"


def unsupported() -> UserFault:
    text = "This architecture has no layers that low-rank updates fit. Tune its last stages instead."
    return UserFault("strategy_unsupported", text)


@torch.no_grad()
def merge(module: nn.Module) -> None:
    """Adds every update to its frozen weight and takes the updates out, in place. Raises AppFault (`merge_differs`) where
    a layer then answers otherwise than it did beside its update: what is saved must be what was validated."""
    for name, child in list(module.named_modules()):
        if isinstance(child, LowRank):
            sample = child.sample()
            wanted = child(sample)
            child.frozen.weight += child.delta()
            difference = (child.frozen(sample) - wanted).norm() / wanted.norm().clamp(min=1e-12)
            if not difference <= MERGE_TOLERANCE:
                raise AppFault(
                    "merge_differs", f"The update of {name} could not be merged: {float(difference):.1e} apart."
                )
            parent, _, own = name.rpartition(".")
            setattr(module.get_submodule(parent), own, child.frozen)
    for parameter in module.parameters():
        parameter.requires_grad_(True)
