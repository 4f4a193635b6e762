"""One step of training: the gradients of a batch and the optimiser's move, in the precision asked for."""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from finetuning.engine import collective, features, optimizers, strategies
from finetuning.engine.depthwise import FastGradients
from finetuning.engine.failures import UserFault
from finetuning.engine.hyper import Hyper, Precision
from finetuning.engine.strategies import Plan
from finetuning.engine.trainee import Trainee

NORM_MIN_BATCH = 16  # smaller batches make batch statistics worse than the pretrained ones
NORM_MIN_ITEMS = 200  # fewer items an epoch make batch statistics worse than the pretrained ones


class Stepper:
    """An optimiser over the plan's groups and what it needs around it. `backward` adds up the gradients of
    `hyper.accumulation` batches, `step` applies and drops them."""

    def __init__(self, trainee: Trainee, plan: Plan, hyper: Hyper, *, device: torch.device) -> None:
        self._trainee, self._plan, self._hyper, self._device = trainee, plan, hyper, device
        # Copies, because an optimiser keeps the dictionaries that it is given and writes into them.
        self.optimizer = optimizers.build([dict(group) for group in plan.groups], hyper)
        self._dtype = training_precision(device, hyper.precision)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._dtype is torch.float16)

    def train_mode(self) -> None:
        """Puts the module into training mode and drops what is left of earlier gradients."""
        trainee = self._trainee
        is_small = self._hyper.batch_size < trainee.norm_min_batch or trainee.items < NORM_MIN_ITEMS
        # Statistics of a share are not those of the batch.
        frozen_norms = is_small or collective.world() > 1
        strategies.train_mode(trainee.module, self._plan.frozen, frozen_norms=frozen_norms)
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, batch: Any, *, place: tuple[int, ...]) -> float:
        """Adds the gradients of this process's share of a batch (None: it has none) and returns the loss of the
        whole batch. Dropout is a function of the seed, `place` and the process alone."""
        torch.manual_seed(seed_of(self._hyper.seed, *place, *([collective.rank()] if collective.rank() else [])))
        if collective.world() == 1:
            loss = self._loss(batch)
            self._scaler.scale(loss / self._hyper.accumulation).backward()
            return loss.item()
        weight = 0.0 if batch is None else self._trainee.weight(batch)
        share = self._loss(batch) if weight else None
        value = 0.0 if share is None else weight * share.item()
        total, weights = collective.sums([value, weight], self._device)
        if share is not None:
            self._scaler.scale(share * (weight / weights / self._hyper.accumulation)).backward()
        return total / max(weights, 1e-12)

    def _loss(self, batch: Any) -> Tensor:
        is_slow = self._device.type == "cpu" and self._dtype is torch.bfloat16
        with features.autocast(self._device, self._dtype), FastGradients() if is_slow else nullcontext():
            return self._trainee.loss(batch)

    def step(self, share: float) -> None:
        """Moves the weights at `share` of every group's peak rate. In float16 a step whose gradients overflowed
        is left out, and the scale of the loss falls."""
        optimizers.set_rates(self.optimizer, share)
        collective.sum_gradients(self._trainee.module.parameters())  # scaled still: an overflow is everybody's
        self._scaler.unscale_(self.optimizer)
        if self._hyper.clip_norm:
            nn.utils.clip_grad_norm_(self._trainee.module.parameters(), self._hyper.clip_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def scale_peaks(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["peak"] *= factor

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "scaler": self._scaler.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])


def training_precision(device: torch.device, wish: Precision) -> torch.dtype:
    """Returns what the forward pass is computed in. Auto on CUDA: bfloat16 where the device has it, else float16
    with a scaled loss (Micikevicius et al. 2018, arXiv 1710.03740); elsewhere float32. Raises UserFault
    (`precision_unsupported`)."""
    match wish:
        case Precision.FLOAT32:
            return torch.float32
        case Precision.BFLOAT16:
            return torch.bfloat16
        case Precision.FLOAT16:
            if device.type != "cuda":
                raise UserFault("precision_unsupported", "float16 needs a CUDA device. Choose auto, or bfloat16.")
            return torch.float16
        case Precision.AUTO:
            if device.type != "cuda":
                return torch.float32
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def seed_of(seed: int, *place: int) -> int:
    """Returns a 63-bit seed that is a function of its arguments alone."""
    text = "/".join(map(str, (seed, *place)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
