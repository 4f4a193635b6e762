"""The frozen prefix, computed once: what the classifier reads, for every image of a pack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from finetuning.engine import fusion, lone_threads, runtime
from finetuning.engine.events import EventWriter
from finetuning.engine.packs import Item, PackReader

BATCH = 32
# Images that each thread of a CPU takes through the network at a time: their activations then stay in its cache. By 4, 8
# and 16 EfficientNet-Lite0 took 4.6, 4.3 and 4.4 ms an image (two processors with AVX-512 bfloat16, torch 2.14, one run each).
AT_ONCE = 8
_DECODERS = 2
_CHECKED_IMAGES = 4  # enough to compare a faster form of a network with the original

Load = Callable[[], Any]


def batches(
    pack: PackReader, items: Sequence[Item], transform: Callable[..., Any], size: int = BATCH
) -> Iterator[tuple[list[Item], Any]]:
    """Yields `grouped` for the items in their order, `size` at a time."""
    groups = [list(items[start : start + size]) for start in range(0, len(items), size)]
    yield from grouped(pack, groups, transform)


def grouped(
    pack: PackReader, groups: Sequence[list[Item]], transform: Callable[..., Any]
) -> Iterator[tuple[list[Item], Any]]:
    """Yields (items, what `transform` makes of each, stacked: images (B, 3, S, S) float32, or a list of such
    where it returns several tensors; None for no items) for each group; decodes the next one while this one is
    computed."""

    def load(item: Item) -> Any:
        return transform(item, pack.image(item))

    with lone_threads.pool(_DECODERS) as pool:
        waiting = [pool.submit(load, item) for item in groups[0]] if groups else []
        for position, group in enumerate(groups):
            ready = _stacked([future.result() for future in waiting]) if group else None
            if position + 1 < len(groups):
                waiting = [pool.submit(load, item) for item in groups[position + 1]]
            yield group, ready


def loads(
    pack: PackReader, items: Sequence[Item], transform: Callable[..., Any], device: torch.device
) -> Iterator[Load]:
    """Yields for each of `groups` what returns its images."""
    for group in groups(items, device):
        yield partial(loaded, pack, group, transform)


def groups(items: Sequence[Item], device: torch.device) -> Iterator[Sequence[Item]]:
    """Yields the items, as many as go through a network on this device at a time."""
    size = AT_ONCE if device.type == "cpu" else BATCH
    for start in range(0, len(items), size):
        yield items[start : start + size]


def loaded(pack: PackReader, items: Sequence[Item], transform: Callable[..., Any]) -> Any:
    """Returns what `transform` makes of each item, stacked, as `grouped` does."""
    return _stacked([transform(item, pack.image(item)) for item in items])


def _stacked(views: list[Any]) -> Any:
    """As torch's default_collate, but images whose channels lie side by side stay so, which it would undo."""
    first = views[0]
    if isinstance(first, tuple):
        return [_stacked(list(part)) for part in zip(*views, strict=True)]
    if isinstance(first, Tensor) and first.dim() == 3 and first.stride(0) == 1:
        return torch.stack([view.permute(1, 2, 0) for view in views]).permute(0, 3, 1, 2)
    return default_collate(views)


def precision(device: torch.device) -> torch.dtype:
    """Returns bfloat16 where the device multiplies it in hardware, else float32.

    By what the device is, never by a stopwatch: the same seed must give the same weights, and both sides of
    a comparison the same rounding. On CPUs with AVX-512 BF16 or AMX it is 1.4 to 3 times faster."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu":
        found = torch.cpu.get_capabilities()
        return torch.bfloat16 if found.get("avx512_bf16") or found.get("amx_bf16") else torch.float32
    return torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    return nullcontext() if dtype is torch.float32 else torch.autocast(device.type, dtype=dtype)


@dataclass(frozen=True, slots=True)
class Forward:
    """A module made ready for inference: `run` maps (N, 3, H, W) float32 to its outputs in float32."""

    module: nn.Module
    device: torch.device
    dtype: torch.dtype
    is_fused: bool

    def run(self, images: Tensor) -> Tensor:
        parts = images.split(AT_ONCE) if self.device.type == "cpu" else (images,)
        return torch.cat([self._run(part) for part in parts])

    def over(self, loads: Iterable[Load]) -> Iterator[Tensor]:
        """Yields the outputs for the images of each load, in their order: loaded and, on a CPU, computed by one thread
        each."""
        if self.device.type == "cpu":
            yield from lone_threads.each(lambda load: self.run(load()), loads, torch.get_num_threads())
        else:
            yield from map(self.run, lone_threads.each(lambda load: load(), loads, _DECODERS))

    @torch.inference_mode()
    def _run(self, images: Tensor) -> Tensor:
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        if self.is_fused:
            outputs: Tensor = self.module(images.to(self.dtype))
        else:
            with autocast(self.device, self.dtype):
                outputs = self.module(images)
        return outputs.float().cpu()


def ready(module: nn.Module, sample: Tensor, *, device: torch.device) -> Forward:
    """Returns the fastest form of the module that gives the same outputs for `sample` (N, 3, H, W)."""
    module = module.to(device).to(memory_format=torch.channels_last).eval()
    dtype = precision(device)
    with torch.inference_mode():
        quick = fusion.fused(module, sample[:_CHECKED_IMAGES].contiguous(memory_format=torch.channels_last), dtype)
    return Forward(quick or module, device, dtype, quick is not None)


def extract(
    module: nn.Module,
    pack: PackReader,
    items: Sequence[Item],
    transform: Callable[..., Tensor],
    *,
    device: torch.device,
    events: EventWriter,
    stage: str = "features",
) -> tuple[Tensor, torch.dtype]:
    """Returns ((N, D) float32 on the processor in the order of `items`, the precision used)."""
    total, started, done = len(items), time.perf_counter(), 0
    table = torch.empty(0)
    for rows in outputs(module, pack, items, transform, device=device):
        if not done:
            table = torch.empty(total, *rows.shape[1:])
        table[done : done + len(rows)] = rows
        done += len(rows)
        events.progress(stage, done, total, rate=done / (time.perf_counter() - started))
    return table, precision(device)


def outputs(
    module: nn.Module,
    pack: PackReader,
    items: Sequence[Item],
    transform: Callable[..., Tensor],
    *,
    device: torch.device,
) -> Iterator[Tensor]:
    """Yields what the module, put into eval mode, gives for the items in their order, a few at a time: float32 on the
    processor, computed in `precision`."""
    if not items:
        return
    forward = ready(module, loaded(pack, items[:_CHECKED_IMAGES], transform), device=device)
    for rows in forward.over(loads(pack, items, transform, device)):
        runtime.check_stop()
        yield rows
