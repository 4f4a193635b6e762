"""The frozen prefix, computed once: what the classifier reads, for every image of a pack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from finetuning.engine import runtime
from finetuning.engine.events import EventWriter
from finetuning.engine.packs import Item, PackReader

BATCH = 32
_DECODERS = 2
# bf16 must be this much faster on one batch to be worth its rounding.
_WORTHWHILE = 1.2
# Batches from which trying bf16 pays for its two warm-up passes.
_PROBE_FROM_BATCHES = 8


def batches(
    pack: PackReader, items: Sequence[Item], transform: Callable[..., Tensor], size: int = BATCH
) -> Iterator[tuple[list[Item], Tensor]]:
    """Yields (items, images (B, 3, S, S) float32); decodes the next batch while this one is computed."""

    def load(item: Item) -> Tensor:
        return transform(item, pack.image(item))

    groups = [list(items[start : start + size]) for start in range(0, len(items), size)]
    with ThreadPoolExecutor(_DECODERS) as pool:
        waiting = [pool.submit(load, item) for item in groups[0]] if groups else []
        for position, group in enumerate(groups):
            ready = torch.stack([future.result() for future in waiting])
            if position + 1 < len(groups):
                waiting = [pool.submit(load, item) for item in groups[position + 1]]
            yield group, ready


def precision(module: nn.Module, device: torch.device, sample: Tensor, count: int) -> torch.dtype:
    """Returns bfloat16 where one batch runs clearly faster in it, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type != "cpu" or count < _PROBE_FROM_BATCHES:
        return torch.float32
    images = sample.contiguous(memory_format=torch.channels_last)
    seconds = {dtype: _seconds(module, images, dtype) for dtype in (torch.float32, torch.bfloat16)}
    faster = seconds[torch.float32] / seconds[torch.bfloat16] >= _WORTHWHILE
    return torch.bfloat16 if faster else torch.float32


@torch.inference_mode()
def _seconds(module: nn.Module, images: Tensor, dtype: torch.dtype) -> float:
    with autocast(images.device, dtype):
        module(images)
        started = time.perf_counter()
        module(images)
    return time.perf_counter() - started


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    return nullcontext() if dtype is torch.float32 else torch.autocast(device.type, dtype=dtype)


@torch.inference_mode()
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
    module = module.to(device).to(memory_format=torch.channels_last).eval()
    total, started, rows = len(items), time.perf_counter(), []
    dtype: torch.dtype | None = None
    done = 0
    for group, images in batches(pack, items, transform):
        runtime.check_stop()
        dtype = dtype or precision(module, device, images, total // BATCH)
        with autocast(device, dtype):
            rows.append(module(images.to(device).contiguous(memory_format=torch.channels_last)).float().cpu())
        done += len(group)
        events.progress(stage, done, total, rate=done / (time.perf_counter() - started))
    return torch.cat(rows), dtype or torch.float32
