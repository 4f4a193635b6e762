"""A detector as the one training loop takes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from finetuning.engine import activations, features, frameworks, placement, runtime, taps
from finetuning.engine.evaluation import average_precision as coco
from finetuning.engine.evaluation.average_precision import Found
from finetuning.engine.events import EventWriter
from finetuning.engine.frameworks import Loaded
from finetuning.engine.frameworks.detectors import Boxes, Targets, answering, background
from finetuning.engine.hyper import Hyper
from finetuning.engine.packs import Item, PackReader
from finetuning.engine.placement import Placement
from finetuning.engine.spec import Preprocessing
from finetuning.engine.stepping import NORM_MIN_BATCH
from finetuning.engine.trainee import Validation, shares

VALIDATION_BATCH = 16
_VALIDATION_SEED = 0  # two-stage detectors sample boxes for their loss: the same ones each epoch


@dataclass(frozen=True, slots=True)
class Data:
    pack: PackReader
    train: list[Item]
    validation: list[Item]
    labels: tuple[str, ...]
    preprocessing: Preprocessing

    @property
    def side(self) -> int:
        return placement.side_of(self.preprocessing.size)

    def placed(self, item: Item, hyper: Hyper, epoch: int) -> Placement:
        return placement.drawn(item, self.side, hyper, epoch=epoch)


def target(item: Item, at: Placement, first_label: int) -> dict[str, Tensor]:
    """Returns the boxes (M, 4) of a placed item on the canvas and their labels (M,)."""
    table = torch.tensor(item.boxes, dtype=torch.float32).reshape(-1, 5)
    boxes, visible = at.boxes(table[:, 1:])
    return {"boxes": boxes[visible], "labels": table[visible, 0].long() + first_label}


def found_in(at: Placement, boxes: dict[str, Tensor], first_label: int) -> Found:
    """Returns a detector's answer in pixels of the image that lies there."""
    placed = at.back(boxes["boxes"].float().cpu())
    labels = boxes["labels"].cpu().numpy().astype(np.int64) - first_label
    known = labels >= 0
    return Found(placed.numpy().astype(np.float64)[known], labels[known], boxes["scores"].double().cpu().numpy()[known])


@torch.inference_mode()
def found_in_image(loaded: Loaded, image: Image.Image) -> Found:
    """Returns what a detector finds in one picture, in its pixels."""
    spec = loaded.preprocessing or Preprocessing()
    at = placement.fitted(image.size, placement.side_of(spec.size))
    learner = Learner(loaded.module.eval(), at.side)
    return found_in(at, learner.detect(placement.painted(image, at, spec).unsqueeze(0))[0], learner.first_label)


class Learner(nn.Module):
    """A detector, or the part of one behind a frozen trunk: then inputs are what the trunk left, (N, D)."""

    def __init__(self, detector: nn.Module, side: int, learning: taps.LearningTrunk | None = None) -> None:
        super().__init__()
        self.detector, self.side, self.is_cut = detector, side, learning is not None
        self.first_label = background(detector)

    def losses(self, inputs: Tensor, targets: Targets) -> Tensor:
        """Returns the sum of the detector's losses, averaged over the batch as torchvision does."""
        with answering(self.detector, losses=True):
            parts: dict[str, Tensor] = self.detector(self._images(inputs), targets)
        return torch.stack(list(parts.values())).sum()

    def detect(self, inputs: Tensor) -> Boxes:
        with answering(self.detector, losses=False):
            boxes: Boxes = self.detector(self._images(inputs))
        return boxes

    def _images(self, inputs: Tensor) -> Tensor:
        if not self.is_cut:
            return inputs.contiguous(memory_format=torch.channels_last)
        next(part for part in self.detector.modules() if isinstance(part, taps.LearningTrunk)).given = inputs
        return inputs.new_zeros(1).expand(len(inputs), 3, self.side, self.side)


class Detector:
    """What the loop trains: images through the whole network."""

    norm_min_batch = NORM_MIN_BATCH

    def __init__(self, learner: Learner, data: Data, hyper: Hyper, device: torch.device) -> None:
        self.module: nn.Module = learner
        self.data, self.hyper, self.device = data, hyper, device
        self._learner = learner
        self.items = len(data.train)
        self.steps = -(-self.items // hyper.batch_size)
        self.truths = [Found.truth(item.boxes) for item in data.validation]

    def groups(self, epoch: int, *, start: int) -> list[list[int]]:
        """Returns the positions of the training items of each batch from number `start` on."""
        hyper, numbers = self.hyper, range(start, self.steps)
        return shares(self.items, hyper.batch_size, seed=hyper.seed, epoch=epoch, batches=numbers)

    def batches(self, epoch: int, *, start: int) -> Iterator[tuple[Tensor, Targets] | None]:
        groups = [[self.data.train[at] for at in group] for group in self.groups(epoch, start=start)]
        transform = placement.training(self.data.preprocessing, self.hyper, epoch=epoch)
        for group, images in features.grouped(self.data.pack, groups, transform):
            yield (images, self.targets(group, epoch)) if group else None

    def targets(self, items: Sequence[Item], epoch: int) -> Targets:
        return [target(item, self.data.placed(item, self.hyper, epoch), self._learner.first_label) for item in items]

    def loss(self, batch: tuple[Tensor, Targets]) -> Tensor:
        return self._losses(self._learner, *batch)

    def weight(self, batch: tuple[Tensor, Targets]) -> float:
        return float(len(batch[1]))

    def _losses(self, learner: Learner, inputs: Tensor, targets: Targets) -> Tensor:
        moved = [{name: part.to(self.device) for name, part in entry.items()} for entry in targets]
        return learner.losses(inputs.to(self.device), moved)

    @torch.no_grad()
    def validate(self, module: nn.Module) -> Validation:
        """Scores by COCO's average precision: the loss keeps falling where boxes no longer get better."""
        assert isinstance(module, Learner)  # noqa: S101 - the loop hands back what it was given
        module.eval()
        torch.manual_seed(_VALIDATION_SEED)
        total, found = 0.0, list[Found]()
        for items, inputs in self._validation_batches():
            runtime.check_stop()
            places = [placement.fitted(item.size, self.data.side) for item in items]
            pairs = list(zip(items, places, strict=True))
            total += len(items) * float(
                self._losses(module, inputs, [target(*pair, module.first_label) for pair in pairs])
            )
            answers = module.detect(inputs.to(self.device))
            found += [found_in(at, boxes, module.first_label) for at, boxes in zip(places, answers, strict=True)]
        matches = coco.match(self.truths, found, len(self.data.labels))
        once = np.ones((1, len(found)))
        scores = np.nan_to_num(np.nanmean([coco.average_precision(entry, once)[0] for entry in matches], axis=0))
        precision = float(scores.mean())
        return Validation(-precision, total / len(found), {"map": precision, "map50": float(scores[0])})

    def _validation_batches(self) -> Iterator[tuple[list[Item], Tensor]]:
        transform = placement.evaluation(self.data.preprocessing)
        yield from features.batches(self.data.pack, self.data.validation, transform, VALIDATION_BATCH)


class CachedDetector(Detector):
    """The same behind a frozen trunk: batches are its feature maps, computed once for each item and view."""

    def __init__(self, whole: Detector, learner: Learner, frozen: activations.Frozen) -> None:
        super().__init__(learner, whole.data, whole.hyper, whole.device)
        self._frozen = frozen

    def batches(self, epoch: int, *, start: int) -> Iterator[tuple[Tensor, Targets] | None]:
        view = 1 + (epoch - 1) % self._frozen.views
        for group in self.groups(epoch, start=start):
            targets = self.targets([self.data.train[at] for at in group], view)
            yield (self._frozen.at(epoch, group), targets) if group else None

    def _validation_batches(self) -> Iterator[tuple[list[Item], Tensor]]:
        places = range(len(self.data.validation))
        for start in range(0, len(places), VALIDATION_BATCH):
            part = places[start : start + VALIDATION_BATCH]
            yield [self.data.validation[at] for at in part], self._frozen.validation.get(0, part)


@torch.no_grad()
def cached(
    whole: Detector,
    loaded: Loaded,
    boundary_at: int,
    run_dir: Path,
    events: EventWriter,
    shelf: activations.Shelf[activations.Frozen],
) -> CachedDetector | None:
    """Computes the frozen stages for every item and view, or takes them from the shelf; returns None where they cannot
    be cut off or would take too much disk."""
    data, hyper = whole.data, whole.hyper
    key = activations.key_of(boundary_at, hyper)
    still = placement.evaluation(data.preprocessing)
    sample = features.loaded(data.pack, data.train[:2], still)
    loaded.module.eval()
    halves = taps.cut(
        loaded.module, frameworks.trunk(loaded), frameworks.stages(loaded), boundary_at, sample.to(whole.device)
    )

    def images(view: int | None) -> Iterator[features.Load]:
        transform = placement.training(data.preprocessing, hyper, epoch=view) if view else still
        items = data.train if view else data.validation
        return features.loads(data.pack, items, transform, whole.device)

    frozen = shelf.get(key) or activations.computed(
        halves.prefix if halves else None,
        sample,
        images,
        items=(len(data.train), len(data.validation)),
        views=activations.views_of(hyper),
        device=whole.device,
        run_dir=run_dir,
        events=events,
    )
    if halves is None or frozen is None:
        return None
    shelf.put(key, frozen)
    return CachedDetector(whole, Learner(halves.suffix, data.side, halves.learning), frozen)
