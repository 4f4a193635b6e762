"""Which parameters learn, how fast, and what stays exactly as it was bought."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from finetuning.engine.hyper import Hyper, Strategy

HEAD_FACTOR = 10.0  # a head that starts from nothing learns faster than the body
HEAD = "head"
Stages = list[tuple[str, list[nn.Module]]]
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)  # noqa: SLF001 - torch's own base class


@dataclass(frozen=True, slots=True)
class Plan:
    """`groups` are an optimiser's, each with its `peak` rate. `frozen` modules are kept in eval mode, so that
    neither their parameters nor their norms' statistics change. `boundary` counts the frozen stages."""

    groups: list[dict[str, Any]]
    frozen: list[nn.Module]
    boundary: int


def plan(
    module: nn.Module,
    stages: Stages,
    strategy: Strategy,
    hyper: Hyper,
    *,
    fresh_head: bool,
    head_factor: float = HEAD_FACTOR,
) -> Plan:
    """Returns what the strategy lets learn, from the stages in order, stem first and head last. A fresh head
    learns `head_factor` times as fast as the body.

    Rates fall towards the stem by `stage_decay`; norms and biases have no decay (Howard and Ruder 2018,
    arXiv 1801.06146, section 3.2). Parameters outside the stages (class tokens) learn like the stem."""
    boundary = boundary_of(stages, strategy, hyper)
    parts: Stages = [*stages]
    staged = {id(parameter) for _, modules in stages for parameter in parameters_of(modules)}
    loose = [parameter for parameter in module.parameters() if id(parameter) not in staged]
    frozen = [child for _, modules in parts[:boundary] for child in modules]
    for parameter in [*parameters_of(frozen), *(loose if boundary else [])]:
        parameter.requires_grad_(False)
    if loose and not boundary:
        parts = [("tokens", [nn.ParameterList(loose)]), *parts]
    decay = hyper.stage_decay if strategy in (Strategy.LAST, Strategy.FULL) else 1.0
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()
    for position, (name, modules) in enumerate(reversed(parts[boundary:])):
        own = [
            parameter for parameter in parameters_of(modules) if parameter.requires_grad and id(parameter) not in seen
        ]
        seen |= {id(parameter) for parameter in own}
        factor = head_factor if name == HEAD and fresh_head else 1.0
        peak = hyper.learning_rate * factor * decay**position
        for decays in (True, False):
            if chosen := [parameter for parameter in own if (parameter.dim() > 1) is decays]:
                weight_decay = hyper.weight_decay if decays else 0.0
                groups.append({"params": chosen, "lr": peak, "peak": peak, "weight_decay": weight_decay})
    return Plan(groups, frozen, boundary)


def boundary_of(stages: Stages, strategy: Strategy, hyper: Hyper) -> int:
    """Returns how many stages, from the stem on, stay frozen."""
    match strategy:
        case Strategy.HEAD:
            return len(stages) - 1
        case Strategy.LAST:
            return max(0, len(stages) - 1 - hyper.stages)
        case _:
            return 0


def parameters_of(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]


def train_mode(module: nn.Module, frozen: Iterable[nn.Module], *, frozen_norms: bool) -> None:
    """Puts the module into training mode, all but what is frozen: `module.train()` alone would let the frozen
    norms' statistics drift (pytorch issue 86590). `frozen_norms` keeps every norm's statistics."""
    module.train()
    for child in frozen:
        child.eval()
    if frozen_norms:
        for child in module.modules():
            if isinstance(child, _NORMS) or getattr(child, "is_norm", False):  # the mark of another library's norms
                child.eval()
