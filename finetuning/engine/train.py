"""Fine-tunes an image classifier. The probe comes first in every strategy: it is the baseline, the check
and, for `full`, the start (LP-FT, Kumar et al. 2022, arXiv 2202.10054)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from finetuning.engine import augment, features, frameworks, heads, preprocessing, runtime, weights
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks import Loaded
from finetuning.engine.packs import Item, PackReader
from finetuning.engine.spec import OUTPUTS_DIR, Augmentation, Features, Hyper, Preprocessing, Split, Strategy, TrainSpec

PROBE_FILE = "probe.safetensors"
STAGE_DECAY = 0.75  # each stage towards the stem learns this much slower
HEAD_FACTOR = 10.0  # a head that starts from nothing learns faster than the body
WARM_UP = 0.1  # share of the steps
CLIP_NORM = 1.0
# Fewer images a batch or an epoch than this make batch statistics worse than the pretrained ones.
NORM_MIN_BATCH, NORM_MIN_IMAGES = 16, 200
DIVERGED_FACTOR = 3.0  # a validation loss above this multiple of the best one is a divergence
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)  # noqa: SLF001 - torch's own base class


@dataclass(frozen=True, slots=True)
class Data:
    pack: PackReader
    train: list[Item]
    validation: list[Item]
    labels: tuple[str, ...]
    preprocessing: Preprocessing

    def evaluation_transform(self, _item: Item, image: Image.Image) -> Tensor:
        return preprocessing.transform(self.preprocessing)(image)


@dataclass(frozen=True, slots=True)
class Probe:
    head: heads.LinearHead
    point: heads.Point
    precision: torch.dtype
    seconds: float


def run(spec: TrainSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns the train verb's part of the result (docs/engine.md)."""
    device = runtime.choose_device(spec.device)
    started = time.perf_counter()
    events.stage("load", "Loading the model as bought")
    base = frameworks.load(spec.weights, run_dir)
    frameworks.head_of(base)  # refuses an architecture whose head cannot be replaced, before any work
    if spec.hyper.features is Features.STAGES:
        base = frameworks.with_stage_head(base)
    data = _data(spec, run_dir, base)
    probe = fit_probe(base, data, device=device, events=events)
    directory = run_dir / OUTPUTS_DIR
    head = probe.head
    weights.save_tensors(
        directory / PROBE_FILE,
        {"weight": head.weight, "bias": head.bias, "class_counts": torch.tensor(_class_counts(data))},
    )
    # LP-FT starts from the head that has not seen the validation items: they judge every epoch, this one first.
    start = probe.point.head if spec.strategy is Strategy.FULL else head
    tuned = frameworks.replace_head(base, spec.labels, start.weight, start.bias)
    best: dict[str, Any] = {"epoch": 0}
    validation = {"accuracy": probe.point.validation_accuracy, "loss": probe.point.validation_loss}
    if spec.strategy is Strategy.FULL:
        best, validation = tune(tuned, data, spec.hyper, device=device, events=events)
    events.stage("save", "Writing the tuned weights")
    frameworks.write_release(directory / "release", tuned)
    return {
        "strategy": spec.strategy.value,
        "validation": validation,
        "best": best,
        "probe": {
            "regularization": probe.point.regularization,
            "validation_accuracy": probe.point.validation_accuracy,
        },
        "class_counts": _class_counts(data),
        "timing": {"probe_seconds": probe.seconds, "total_seconds": time.perf_counter() - started},
        "precision": str(probe.precision).removeprefix("torch."),
        "peak_memory_bytes": runtime.peak_memory_bytes(device),
    }


def _data(spec: TrainSpec, run_dir: Path, base: Loaded) -> Data:
    pack = PackReader(run_dir / spec.pack)
    train = [item for item in pack.items if item.split is Split.TRAIN]
    validation = [item for item in pack.items if item.split is Split.VALIDATION]
    if not train or not validation:
        raise UserFault("too_few_images", "Training needs training and validation images. Add images to the dataset.")
    if any(item.split is Split.TEST for item in pack.items):
        raise UserFault("test_items_present", "The training pack holds test items; inspect the dataset again.")
    return Data(pack, train, validation, spec.labels, base.preprocessing or Preprocessing())


def _class_counts(data: Data) -> list[int]:
    counts = [0] * len(data.labels)
    for item in data.train:
        counts[item.label] += 1
    return counts


def labels_of(items: list[Item]) -> Tensor:
    return torch.tensor([item.label for item in items], dtype=torch.int64)


def fit_probe(base: Loaded, data: Data, *, device: torch.device, events: EventWriter) -> Probe:
    """Computes the frozen features once and fits the linear head: its regularisation is chosen on the
    validation items, then it is fitted again on training and validation items together."""
    started = time.perf_counter()
    events.stage("features", "Computing the frozen features once")
    items = [*data.train, *data.validation]
    table, dtype = features.extract(
        frameworks.headless(base), data.pack, items, data.evaluation_transform, device=device, events=events
    )
    labels, split = labels_of(items), len(data.train)
    events.stage("head", "Fitting the head")
    train = heads.Samples(table[:split], labels[:split])
    path = []
    for point in heads.regularization_path(train, heads.Samples(table[split:], labels[split:]), len(data.labels)):
        runtime.check_stop()
        path.append(point)
        for name, values in (
            ("loss", (point.train_loss, point.validation_loss)),
            ("accuracy", (point.train_accuracy, point.validation_accuracy)),
        ):
            for which, value in zip((Split.TRAIN, Split.VALIDATION), values, strict=True):
                events.metric(name, which.value, len(path), value)
    point = heads.choose(path)
    events.log(f"C = {point.regularization:g}: validation accuracy {point.validation_accuracy:.1%}.")
    head = heads.fit(heads.Samples(table, labels), len(data.labels), point.regularization)
    return Probe(head, point, dtype, time.perf_counter() - started)


def tune(
    tuned: Loaded, data: Data, hyper: Hyper, *, device: torch.device, events: EventWriter
) -> tuple[dict[str, Any], dict[str, float]]:
    """Tunes every layer in place, keeps the epoch with the lowest validation loss. The probe's head counts as
    epoch 0: a fine-tune that never beats it returns it."""
    module = tuned.module.to(device).to(memory_format=torch.channels_last)
    if not hyper.start_from_probe:
        nn.init.normal_(frameworks.head_of(tuned).weight, std=0.01)
        nn.init.zeros_(frameworks.head_of(tuned).bias)
    steps = math.ceil(len(data.train) / hyper.batch_size)
    optimizer = torch.optim.AdamW(_groups(tuned, hyper))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps * hyper.epochs))
    frozen_norms = hyper.batch_size < NORM_MIN_BATCH or len(data.train) < NORM_MIN_IMAGES
    best_loss, best_accuracy = validate(module, data, device)
    best_state, best_epoch, started, epoch = _snapshot(module), 0, time.perf_counter(), 0
    events.stage("tune", "Tuning every layer")
    for epoch in range(1, hyper.epochs + 1):
        _train_mode(module, frozen_norms=frozen_norms)
        losses: list[float] = []
        for images, labels in _epoch(data, hyper, epoch):
            runtime.check_stop()
            output = module(images.to(device, memory_format=torch.channels_last))
            logits = getattr(output, "logits", output)  # Inception's classifiers add one beside
            loss = functional.cross_entropy(logits, labels.to(device), label_smoothing=hyper.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                break
            done = (epoch - 1) * steps + len(losses)
            rate = done * hyper.batch_size / (time.perf_counter() - started)
            events.progress("tune", done, steps * hyper.epochs, rate=rate)
        train_loss = sum(losses) / len(losses)
        validation_loss, accuracy = validate(module, data, device)
        events.metric("loss", "train", epoch, train_loss)
        events.metric("loss", "validation", epoch, validation_loss)
        events.metric("accuracy", "validation", epoch, accuracy)
        events.metric("learning_rate", "train", epoch, float(schedule.get_last_lr()[0]))
        if not math.isfinite(validation_loss) or validation_loss > DIVERGED_FACTOR * max(best_loss, 0.1):
            events.log("The loss diverged: back to the best epoch, at half the rate.", level="warning")
            module.load_state_dict(best_state)
            for group in optimizer.param_groups:
                group["initial_lr"] *= 0.5
            schedule.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
            optimizer.state.clear()
        elif validation_loss < best_loss:
            best_loss, best_accuracy, best_epoch = validation_loss, accuracy, epoch
            best_state = _snapshot(module)
        if epoch - best_epoch >= hyper.patience:
            events.log(f"Stopped early: no lower validation loss for {hyper.patience} epochs.")
            break
    module.load_state_dict(best_state)
    module.to("cpu").eval()
    return {"epoch": best_epoch, "epochs": epoch}, {"accuracy": best_accuracy, "loss": best_loss}


def _epoch(data: Data, hyper: Hyper, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the batches of one epoch; the order is a function of the seed and the epoch."""
    order = torch.randperm(len(data.train), generator=augment.generator(hyper.seed, epoch, 0)).tolist()
    items = [data.train[position] for position in order]
    transform: Callable[[Item, Image.Image], Tensor] = data.evaluation_transform
    if hyper.augmentation is Augmentation.LIGHT:
        transform = augment.light(data.preprocessing, seed=hyper.seed, epoch=epoch, flip=hyper.horizontal_flip)
    for group, images in features.batches(data.pack, items, transform, hyper.batch_size):
        if len(group) > 1:  # batch statistics of one image are no statistics
            yield images, labels_of(group)


def _rate(step: int, total: int) -> float:
    """Linear warm-up, then cosine to zero, as a share of the peak."""
    warm = max(1, round(WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def _groups(tuned: Loaded, hyper: Hyper) -> list[dict[str, Any]]:
    """Returns parameter groups by stage: rates fall towards the stem; norms and biases have no decay."""
    groups: list[dict[str, Any]] = []
    parts = frameworks.stages(tuned)
    staged = {id(parameter) for _, modules in parts for module in modules for parameter in module.parameters()}
    # Class tokens and position embeddings belong to no stage: they learn like the stem.
    loose = [parameter for parameter in tuned.module.parameters() if id(parameter) not in staged]
    if loose:
        parts = [("tokens", [nn.ParameterList(loose)]), *parts]
    seen: set[int] = set()
    for position, (name, modules) in enumerate(reversed(parts)):
        fresh = hyper.learning_rate * (HEAD_FACTOR if name == "head" and not hyper.start_from_probe else 1.0)
        rate = fresh * STAGE_DECAY**position
        found = [parameter for module in modules for parameter in module.parameters() if id(parameter) not in seen]
        seen |= {id(parameter) for parameter in found}
        for decay in (True, False):
            chosen = [parameter for parameter in found if (parameter.dim() > 1) is decay]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": hyper.weight_decay if decay else 0.0})
    return groups


def _train_mode(module: nn.Module, *, frozen_norms: bool) -> None:
    """Training mode; where batches are too small the norms keep their pretrained statistics."""
    module.train()
    if frozen_norms:
        for child in module.modules():
            if isinstance(child, _NORMS):
                child.eval()


def _snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


@torch.inference_mode()
def validate(module: nn.Module, data: Data, device: torch.device) -> tuple[float, float]:
    """Returns the mean loss in nats and the accuracy on the validation items, in float32."""
    module.eval()
    loss, right = 0.0, 0
    for group, images in features.batches(data.pack, data.validation, data.evaluation_transform):
        runtime.check_stop()
        logits = module(images.to(device, memory_format=torch.channels_last)).float().cpu()
        labels = labels_of(group)
        loss += functional.cross_entropy(logits, labels, reduction="sum").item()
        right += int((logits.argmax(1) == labels).sum())
    return loss / len(data.validation), right / len(data.validation)
