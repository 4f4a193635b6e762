"""Optimisers and rates, as functions of the spec and the step alone."""

from __future__ import annotations

import math
from typing import Any

import torch

from finetuning.engine.hyper import Hyper, Optimizer, Schedule

MOMENTUM = 0.9
STEPS_AT, STEP_FACTOR = (0.6, 0.85), 0.1  # torchvision's detection references: two drops by ten


def build(groups: list[dict[str, Any]], hyper: Hyper) -> torch.optim.Optimizer:
    """Returns the optimiser of parameter groups that carry their own `lr` and `weight_decay`."""
    match hyper.optimizer:
        case Optimizer.SGD:
            return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True)
        case Optimizer.ADAM:
            return torch.optim.Adam(groups)
        case Optimizer.ADAMW:
            return torch.optim.AdamW(groups)


def share_at(step: int, total: int, hyper: Hyper) -> float:
    """Returns the rate of a step (from 0) as a share of the peak, 0 to 1."""
    warm = max(1, round(hyper.warm_up * total)) if hyper.warm_up else 0
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, total - warm)
    match hyper.schedule:
        case Schedule.CONSTANT:
            return 1.0
        case Schedule.STEP:
            return float(STEP_FACTOR ** sum(step >= share * total for share in STEPS_AT))
        case Schedule.ONE_CYCLE:  # Smith and Topin 2018: falls further than cosine ends, to 1/10,000
            return max(1e-4, 0.5 * (1 + math.cos(math.pi * done)))
        case Schedule.LINEAR:
            return 1 - done
        case Schedule.COSINE:
            return 0.5 * (1 + math.cos(math.pi * done))


def set_rates(optimizer: torch.optim.Optimizer, share: float) -> float:
    """Sets every group's rate to its peak times `share`; returns the highest."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
    return max(float(group["lr"]) for group in optimizer.param_groups)
