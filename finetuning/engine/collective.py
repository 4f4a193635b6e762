"""What the processes of one training tell each other. With one process every function is the identity.

The module is not wrapped in DistributedDataParallel: see docs/adr/0013."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn

from finetuning.engine import ranks

_TIMEOUT = timedelta(hours=2)  # the others wait while the first validates
T = TypeVar("T")


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Inside, the processes that torchrun started can reach each other: by NCCL on CUDA, else by gloo."""
    if ranks.own().world == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def world() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def share(positions: Sequence[T]) -> list[T]:
    """Returns this process's share of a batch; empty where the batch has fewer items than there are processes."""
    return list(positions[rank() :: world()])


def sums(values: Sequence[float], device: torch.device) -> list[float]:
    """Returns the sum over processes of each value."""
    if world() == 1:
        return list(values)
    summed = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(summed)
    result: list[float] = summed.tolist()
    return result


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces every gradient by its sum over processes, in one message. Who had no share of a batch, or a part
    that did not answer, counts as zero; a gradient that nobody has stays None."""
    if world() == 1:
        return
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in learning]
    has = parts[0].new_tensor([one.grad is not None for one in learning])
    message = torch.cat([*(part.flatten() for part in parts), has])
    distributed.all_reduce(message)
    *summed, holders = message.split([*(part.numel() for part in parts), len(parts)])
    for parameter, gradient, count in zip(learning, summed, holders.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if count else None


def from_first(value: T) -> T:
    """Returns the first process's value; what the others give does not matter."""
    if world() == 1:
        return value
    carried = [value]
    distributed.broadcast_object_list(carried, src=0)
    return carried[0]


def same_weights(module: nn.Module) -> None:
    """Gives every process the first one's tensors: features of other machines may differ in the last bit."""
    if world() > 1:
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, src=0)
