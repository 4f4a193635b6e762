"""What the loop trains of a segmenter: batches of images and masks, or of the frozen part's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from finetuning.engine import activations, canvas, features, frameworks, losses, runtime
from finetuning.engine.activations import ActivationCache
from finetuning.engine.evaluation import pixels
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks import Loaded, segmenters
from finetuning.engine.hyper import Hyper, Loss
from finetuning.engine.packs import Item, PackReader, training_items
from finetuning.engine.palettes import IGNORED
from finetuning.engine.spec import Preprocessing, TrainSpec
from finetuning.engine.trainee import Validation, shares

AUX_WEIGHT = 0.5  # of the auxiliary head's loss, as in torchvision's references
RARE_SHARE = 0.02  # a class with fewer of the pixels is drowned by plain cross-entropy
NORM_MIN_BATCH = 8
MASKS_FILE = "masks.cache"  # in the run directory, for a moment


@dataclass(frozen=True, slots=True)
class Data:
    """`pixel_counts` (C,) are those of the training masks."""

    pack: PackReader
    train: list[Item]
    validation: list[Item]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    pixel_counts: Tensor

    def batches(
        self, items: list[Item], size: int, *, hyper: Hyper | None = None, epoch: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields `grouped` for the items in their order, `size` at a time."""
        groups = [items[start : start + size] for start in range(0, len(items), size)]
        for batch in self.grouped(groups, hyper=hyper, epoch=epoch):
            if batch is not None:
                yield batch

    def grouped(
        self, groups: list[list[Item]], *, hyper: Hyper | None, epoch: int
    ) -> Iterator[tuple[Tensor, Tensor] | None]:
        """Yields (images (B, 3, S, S) float32, classes (B, S, S) uint8) for each group, None for an empty one: the
        epoch's random views with `hyper`, else the whole images."""
        for _, views in features.grouped(self.pack, groups, self.view(hyper, epoch=epoch)):
            yield views and (views[0], views[1])

    def view(self, hyper: Hyper | None, *, epoch: int) -> Callable[[Item, Any], canvas.Pair]:
        """Returns what makes an item's image and its mask, as `grouped` gives them."""
        random_view = canvas.training_view(self.preprocessing, hyper, epoch=epoch) if hyper else None

        def view(item: Item, image: Any) -> canvas.Pair:
            mask = self.pack.mask(item)
            if random_view is not None:
                return random_view(item, image, mask)
            return canvas.evaluation_view(image, mask, self.preprocessing)

        return view


def read(spec: TrainSpec, run_dir: Path, preprocessing: Preprocessing) -> Data:
    """Returns the training pack's items by split. Raises UserFault (`too_few_images`, `test_items_present`,
    `masks_missing`)."""
    pack = PackReader(run_dir / spec.pack)
    train, validation = training_items(pack.items)
    if len(train) < 2 or not validation:
        raise UserFault("too_few_images", "Training needs training and validation images. Add images to the dataset.")
    if not all(item.mask for item in pack.items):
        raise UserFault("masks_missing", "This dataset has no masks. Choose one that was checked for segmentation.")
    counts = np.zeros(len(spec.labels), np.int64)
    for item in train:
        counts += np.bincount(np.asarray(pack.mask(item)).ravel(), minlength=IGNORED + 1)[: len(counts)]
    return Data(pack, train, validation, spec.labels, preprocessing, torch.from_numpy(counts))


def chosen_loss(hyper: Hyper, data: Data, events: EventWriter) -> Loss:
    """Returns the loss that `auto` stands for, and tells why."""
    if hyper.loss is not Loss.AUTO:
        return hyper.loss
    shares = (data.pixel_counts / data.pixel_counts.sum()).tolist()
    share, label = min(zip(shares, data.labels, strict=True))
    if share >= RARE_SHARE:
        events.log(f"Loss: cross-entropy, as every class has {share:.1%} of the pixels or more.")
        return Loss.CROSS_ENTROPY
    events.log(f"Loss: cross-entropy and Dice, as the class {label!r} has only {share:.2%} of the pixels.")
    return Loss.CROSS_ENTROPY_DICE


class Segmenting:
    """What the loop trains: images through the whole network."""

    norm_min_batch = NORM_MIN_BATCH

    def __init__(self, module: nn.Module, data: Data, hyper: Hyper, loss: Loss, device: torch.device) -> None:
        self.module, self.data, self.hyper, self.device = module, data, hyper, device
        self.loss_kind = loss
        self.items = len(data.train)
        full, rest = divmod(self.items, hyper.batch_size)
        self.steps = full + (rest > 1 or not full)  # a pooled norm cannot train on one image
        self._criterion = losses.segmentation(loss, data.pixel_counts, ignore_index=IGNORED)
        self._class_weights = losses.class_weights(loss, data.pixel_counts)

    def groups(self, epoch: int, *, start: int) -> list[list[int]]:
        """Returns the positions of the training items of each batch from number `start` on."""
        hyper, numbers = self.hyper, range(start, self.steps)
        return shares(self.items, hyper.batch_size, seed=hyper.seed, epoch=epoch, batches=numbers)

    def batches(self, epoch: int, *, start: int) -> Iterator[tuple[Tensor, Tensor] | None]:
        groups = [[self.data.train[at] for at in group] for group in self.groups(epoch, start=start)]
        return self.data.grouped(groups, hyper=self.hyper, epoch=epoch)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        inputs, classes = _on(self.device, batch[0]), batch[1].to(self.device).long()
        outputs = self.module(inputs)
        loss = self._criterion(outputs["out"], classes)
        return loss + AUX_WEIGHT * self._criterion(outputs["aux"], classes) if "aux" in outputs else loss

    def weight(self, batch: tuple[Tensor, Tensor]) -> float:
        return losses.weight_of(batch[1], self._class_weights, ignore_index=IGNORED)

    @torch.inference_mode()
    def validate(self, module: nn.Module) -> Validation:
        """Scores the validation items on the network's square: mIoU of the summed confusion, and the mean
        cross-entropy of the pixels whatever the loss."""
        module.eval()
        counts, total = np.zeros((len(self.data.labels),) * 2, np.int64), 0.0
        for inputs, classes in self._validation_batches():
            runtime.check_stop()
            logits = module(_on(self.device, inputs))["out"].float().cpu()
            total += float(functional.cross_entropy(logits, classes.long(), ignore_index=IGNORED, reduction="sum"))
            counts += pixels.confusion(classes.numpy(), logits.argmax(1).numpy(), len(counts))
        miou, judged = float(pixels.miou(counts)), max(1, int(counts.sum()))
        accuracy = float(np.trace(counts) / judged)
        return Validation(-miou, total / judged, {"miou": miou, "pixel_accuracy": accuracy})

    def _validation_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self.data.batches(self.data.validation, features.BATCH)


@dataclass(frozen=True, slots=True)
class Rows:
    """The frozen part's outputs, with the classes of the same views: `masks` of the training items and of the
    validation items."""

    frozen: activations.Frozen
    masks: dict[bool, ActivationCache]

    @property
    def bytes(self) -> int:
        return self.frozen.bytes + sum(masks.bytes for masks in self.masks.values())

    def training(self, epoch: int, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        view = (epoch - 1) % self.frozen.views
        return self.frozen.at(epoch, positions), self.masks[True].get(view, positions).to(torch.uint8)

    def validation(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.frozen.validation.get(0, positions), self.masks[False].get(0, positions).to(torch.uint8)


class CachedSegmenting(Segmenting):
    """The same behind frozen stages: batches are their outputs, computed once for each item and view."""

    def __init__(self, whole: Segmenting, suffix: nn.Module, rows: Rows) -> None:
        super().__init__(suffix, whole.data, whole.hyper, whole.loss_kind, whole.device)
        self._rows = rows

    def batches(self, epoch: int, *, start: int) -> Iterator[tuple[Tensor, Tensor] | None]:
        for group in self.groups(epoch, start=start):
            yield self._rows.training(epoch, group) if group else None

    def _validation_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        places = range(len(self.data.validation))
        for first in range(0, len(places), features.BATCH):
            yield self._rows.validation(places[first : first + features.BATCH])


def cut_off(
    whole: Segmenting,
    loaded: Loaded,
    boundary_at: int,
    run_dir: Path,
    events: EventWriter,
    shelf: activations.Shelf[Rows],
) -> CachedSegmenting | None:
    """Computes the frozen stages for every item and view, or takes them from the shelf; returns None where they cannot
    be cut off or their outputs would take too much disk."""
    data = whole.data
    sample, _ = next(data.batches(data.train[:2], 2))
    halves = segmenters.cut(loaded, frameworks.stages(loaded), boundary_at, sample.to(whole.device))
    key = activations.key_of(boundary_at, whole.hyper)
    rows = shelf.get(key) or _computed(whole, halves.prefix if halves else None, sample, run_dir, events)
    if halves is None or rows is None:
        return None
    shelf.put(key, rows)
    return CachedSegmenting(whole, halves.suffix, rows)


def _computed(
    whole: Segmenting, prefix: nn.Module | None, sample: Tensor, run_dir: Path, events: EventWriter
) -> Rows | None:
    data, hyper, views = whole.data, whole.hyper, activations.views_of(whole.hyper)
    square = (data.preprocessing.size,) * 2
    masks = {
        is_training: ActivationCache(
            run_dir / MASKS_FILE, items=len(items), views=count, shape=square, dtype=torch.uint8
        )
        for is_training, items, count in ((True, data.train, views), (False, data.validation, 1))
    }

    def images(view: int | None) -> Iterator[features.Load]:
        items, random, done = (data.train, hyper, 0) if view else (data.validation, None, 0)
        pair = data.view(random, epoch=view or 0)

        def load(group: Sequence[Item], first: int) -> Tensor:
            batch: Tensor
            batch, classes = features.loaded(data.pack, group, pair)
            masks[view is not None].put((view or 1) - 1, first, classes)
            return batch

        for group in features.groups(items, whole.device):
            yield partial(load, group, done)
            done += len(group)

    frozen = activations.computed(
        prefix,
        sample,
        images,
        items=(len(data.train), len(data.validation)),
        views=views,
        device=whole.device,
        run_dir=run_dir,
        events=events,
    )
    return Rows(frozen, masks) if frozen else None


def _on(device: torch.device, inputs: Tensor) -> Tensor:
    inputs = inputs.to(device)
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs
