"""What the frozen part of a network gives for every item and view, computed once and kept on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from finetuning.engine import features, runtime
from finetuning.engine.events import EventWriter
from finetuning.engine.hyper import Augmentation, Hyper

CACHE_FILE = "activations.cache"  # in the run directory
MAX_CACHE_BYTES = 20 * 2**30
# From a view's number, counted from 1, or None for the validation items as they are, to what loads its images
# (B, 3, S, S), all items in their order.
Images = Callable[[int | None], Iterable[features.Load]]


class ActivationCache:
    """Rows of all items and views in one memory-mapped file, so that the memory of a run does not grow with the
    data set. The file's name is gone at once: the mapping keeps it, and a killed run leaves nothing behind."""

    def __init__(self, path: Path, *, items: int, views: int, shape: Sequence[int], dtype: torch.dtype) -> None:
        self._shape = (views, items, *shape)
        size = torch.Size(self._shape).numel()
        self._table = torch.from_file(str(path), shared=True, size=size, dtype=dtype).view(self._shape)
        path.unlink()

    @property
    def bytes(self) -> int:
        return self._table.numel() * self._table.element_size()

    def put(self, view: int, first: int, activations: Tensor) -> None:
        self._table[view, first : first + len(activations)] = activations.to(self._table.dtype)

    def get(self, view: int, positions: Sequence[int]) -> Tensor:
        """Returns (len(positions), ...) float32."""
        return self._table[view, torch.tensor(positions)].float()


@dataclass(frozen=True, slots=True)
class Frozen:
    """The activations of the training items, `views` of each, and of the validation items as they are."""

    training: ActivationCache
    validation: ActivationCache
    views: int

    @property
    def bytes(self) -> int:
        return self.training.bytes + self.validation.bytes

    def at(self, epoch: int, positions: Sequence[int]) -> Tensor:
        """Returns the activations of training items in the view that is the epoch's turn, epochs from 1."""
        return self.training.get((epoch - 1) % self.views, positions)


class Sized(Protocol):
    @property
    def bytes(self) -> int: ...


Kept = TypeVar("Kept", bound=Sized)


class Shelf(Generic[Kept]):
    """Frozen activations of earlier trainings on the same items, the oldest dropped beyond `max_bytes`."""

    def __init__(self, max_bytes: int = MAX_CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[tuple[Any, ...], Kept] = {}

    def get(self, key: tuple[Any, ...]) -> Kept | None:
        """Returns the activations of exactly these choices."""
        return self._kept.get(key)

    def put(self, key: tuple[Any, ...], frozen: Kept) -> None:
        self._kept[key] = frozen
        while len(self._kept) > 1 and sum(kept.bytes for kept in self._kept.values()) > self._max_bytes:
            del self._kept[next(iter(self._kept))]


def views_of(hyper: Hyper) -> int:
    """Returns how many views of each training item are worth caching: no more than there are epochs."""
    return 1 if hyper.augmentation is Augmentation.NONE else min(hyper.cached_views, hyper.epochs)


def key_of(boundary: int, hyper: Hyper) -> tuple[Any, ...]:
    """Returns what the activations of one network before stage number `boundary` depend on."""
    return (boundary, views_of(hyper), hyper.augmentation, hyper.horizontal_flip, hyper.seed)


def computed(
    prefix: nn.Module | None,
    sample: Tensor,
    images: Images,
    *,
    items: tuple[int, int],
    views: int,
    device: torch.device,
    run_dir: Path,
    events: EventWriter,
) -> Frozen | None:
    """Runs the frozen `prefix` over every view of the training items and over the validation items (`items`: how
    many of each). `sample` (N, 3, S, S) are a few images, to know the shape from. Returns None, and says why in
    the events, without a prefix, or where the activations would take more disk than `MAX_CACHE_BYTES`."""
    if prefix is None:
        events.log("The frozen stages of this architecture cannot be cut off: they are computed in every epoch.")
        return None
    forward = features.ready(prefix, sample, device=device)
    shape, (training, validation) = forward.run(sample).shape[1:], items
    size = shape.numel() * forward.dtype.itemsize * (training * views + validation)
    if size > MAX_CACHE_BYTES:
        events.log(f"The frozen activations would take {size / 2**30:.0f} GiB: they are computed in every epoch.")
        return None
    events.log(f"Caching {views} view{'s' if views > 1 else ''} of each image at the frozen boundary.")
    path, dtype = run_dir / CACHE_FILE, forward.dtype
    frozen = Frozen(
        ActivationCache(path, items=training, views=views, shape=shape, dtype=dtype),
        ActivationCache(path, items=validation, views=1, shape=shape, dtype=dtype),
        views,
    )
    for view in range(views):
        events.stage("activations", f"Computing the frozen stages once, view {view + 1} of {views}")
        done, started = 0, time.perf_counter()
        for rows in forward.over(images(view + 1)):
            runtime.check_stop()
            frozen.training.put(view, done, rows)
            done += len(rows)
            events.progress("activations", done, training, rate=done / (time.perf_counter() - started))
    done = 0
    for rows in forward.over(images(None)):
        runtime.check_stop()
        frozen.validation.put(0, done, rows)
        done += len(rows)
    return frozen
