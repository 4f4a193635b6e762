"""Image classification."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from finetuning.engine import (
    activations,
    augment,
    boundary,
    features,
    frameworks,
    loop,
    lora,
    preprocessing,
    probes,
    runtime,
    strategies,
    weights,
)
from finetuning.engine.answers import Answer, ranked
from finetuning.engine.checkpoints import checkpoints_of
from finetuning.engine.evaluation import calibration, classifier, crossval, intervals, slices
from finetuning.engine.evaluation.metrics import Predictions
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import AppFault, UserFault
from finetuning.engine.frameworks import Loaded
from finetuning.engine.frameworks.stage_head import POOLINGS, StageHead
from finetuning.engine.hyper import Augmentation, Hyper, SpecError, Strategy, check_labels
from finetuning.engine.labelling import ONE_CLASS, Labelling, labelling_of, thresholds
from finetuning.engine.packs import Item, PackReader, training_items
from finetuning.engine.probing import IsOver
from finetuning.engine.spec import (
    OUTPUTS_DIR,
    PROBE_FILE,
    Crop,
    EvaluateSpec,
    Framework,
    Preprocessing,
    Task,
    TrainSpec,
)
from finetuning.engine.stepping import NORM_MIN_BATCH
from finetuning.engine.tasks import label_sets
from finetuning.engine.trainee import Validation, shares

MIXUP_ALPHA = 0.2  # Zhang et al. 2018, arXiv 1710.09412
Transform = Callable[[Item, Image.Image], Tensor]


@dataclass(frozen=True, slots=True)
class Data:
    pack: PackReader
    train: list[Item]
    validation: list[Item]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    labelling: Labelling

    def truth(self, items: list[Item]) -> Tensor:
        return self.labelling.truth(items, len(self.labels))

    def evaluation_transform(self, _item: Item, image: Image.Image) -> Tensor:
        return preprocessing.transform(self.preprocessing)(image)

    def training_transform(self, hyper: Hyper, *, epoch: int) -> Transform:
        if hyper.augmentation is Augmentation.NONE:
            return self.evaluation_transform
        return augment.transform(
            self.preprocessing, hyper.augmentation, seed=hyper.seed, epoch=epoch, flip=hyper.horizontal_flip
        )

    @property
    def class_counts(self) -> list[int]:
        return self.labelling.counts(self.truth(self.train), len(self.labels))


def read(spec: TrainSpec, run_dir: Path, base: Loaded) -> Data:
    """Returns the training pack's items by split. Raises UserFault (`too_few_images`, `test_items_present`,
    `loss_unsupported`)."""
    pack = PackReader(run_dir / spec.pack)
    train, validation = training_items(pack.items)
    if not train or not validation:
        raise UserFault("too_few_images", "Training needs training and validation images. Add images to the dataset.")
    labelling = checked_labelling(spec, pack.items)
    return Data(pack, train, validation, spec.labels, base.preprocessing or Preprocessing(), labelling)


def checked_labelling(spec: TrainSpec, items: Iterable[Item]) -> Labelling:
    """Returns how the items are labelled. Raises UserFault (`loss_unsupported`) for a loss that does not suit it."""
    labelling = labelling_of(items)
    try:
        check_labels(spec.hyper.loss, multi_label=labelling.is_multi)
    except SpecError as error:
        raise UserFault("loss_unsupported", str(error)) from error
    return labelling


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is computed once, whatever is then trained. `shelf` keeps frozen activations from one training to
    the next."""

    base: Loaded
    data: Data
    probe: probes.Probe
    device: torch.device
    shelf: activations.Shelf[activations.Frozen]

    @property
    def validation_items(self) -> int:
        return len(self.data.validation)

    def begin(
        self,
        spec: TrainSpec,
        run_dir: Path,
        events: EventWriter,
        *,
        is_over: IsOver,
    ) -> loop.Run | Validation:
        """Returns the training that `spec` asks for, not yet begun; of a head its score, as it needs no epochs."""
        if spec.strategy is Strategy.HEAD:
            return self.probe.validation
        tuned = start(spec, self.base, self.probe)
        return begin(spec, tuned, self.data, run_dir, device=self.device, events=events, shelf=self.shelf)


def prepare(spec: TrainSpec, run_dir: Path, events: EventWriter, device: torch.device) -> Prepared:
    events.stage("load", "Loading the model as bought")
    base = frameworks.load(spec.weights, run_dir)
    frameworks.head_of(base)  # refuses an architecture whose head cannot be replaced, before any work
    if spec.hyper.crop is Crop.NONE:
        base = replace(base, preprocessing=replace(base.preprocessing or Preprocessing(), crop_fraction=1.0))
    if spec.hyper.features in POOLINGS:
        base = frameworks.with_stage_head(base, POOLINGS[spec.hyper.features])
    data = read(spec, run_dir, base)
    if data.labelling.is_multi and base.framework is Framework.KERAS:
        text = "A Keras model ends in a softmax: it names one class each. Choose a model of another library."
        raise UserFault("multi_label_unsupported", text)
    probe = fit_probe(base, data, device=device, events=events)
    return Prepared(base, data, probe, device, activations.Shelf())


def train(spec: TrainSpec, run_dir: Path, events: EventWriter, device: torch.device) -> dict[str, Any]:
    started = time.perf_counter()
    prepared = prepare(spec, run_dir, events, device)
    base, data, probe = prepared.base, prepared.data, prepared.probe
    directory = run_dir / OUTPUTS_DIR
    weights.save_tensors(directory / PROBE_FILE, probes.saved(probe, data.class_counts, len(data.train)))
    best: dict[str, Any] = {"epoch": 0}
    validation = {**probe.validation.metrics, "loss": probe.validation.loss}
    if spec.strategy is Strategy.HEAD:
        tuned = frameworks.replace_head(base, spec.labels, probe.head.weight, probe.head.bias)
        # The head that is saved has seen the validation items; the one that has not stands in for it.
        logits = probe.start.logits(probe.table[len(data.train) :])
    else:
        tuned = start(spec, base, probe)
        fitted = tune(spec, tuned, data, run_dir, device=device, events=events)
        best = fitted.best
        validation = {**fitted.validation.metrics, "loss": fitted.validation.loss}
        events.stage("calibrate", "Fitting the temperature on the validation images")
        logits = validation_logits(tuned, data, device=device, events=events)
    items = [*data.train, *data.validation]
    judged = probes.judged(
        probe, items, frameworks.headless(base), names=spec.labels, seed=spec.hyper.seed, events=events
    )
    truth = data.truth(data.validation)
    calibrate(tuned, logits, truth, data.labelling)
    events.stage("save", "Writing the tuned weights")
    frameworks.write_release(directory / "release", tuned)
    return {
        "validation": validation,
        "best": best,
        **calibrated(tuned, logits, truth, data.labelling),
        "probe": probe.summary,
        **judged,
        "class_counts": data.class_counts,
        "timing": {"probe_seconds": probe.seconds, "total_seconds": time.perf_counter() - started},
        "precision": str(features.precision(device)).removeprefix("torch."),
    }


def calibrate(tuned: Loaded, logits: Tensor, truth: Tensor, labelling: Labelling) -> None:
    """Sets how the tuned weights answer: the temperature, and of label sets the thresholds, both by the validation
    items."""
    tuned.is_multi_label = labelling.is_multi
    tuned.temperature = calibration.temperature(logits, truth, labelling)
    tuned.thresholds = thresholds(logits / tuned.temperature, truth) if labelling.is_multi else ()


def calibrated(tuned: Loaded, logits: Tensor, truth: Tensor, labelling: Labelling) -> dict[str, Any]:
    """Returns what the result says of `calibrate`."""
    part: dict[str, Any] = {"calibration": calibration.summary(logits, truth, tuned.temperature, labelling)}
    if tuned.is_multi_label:
        part["thresholds"] = dict(zip(tuned.labels, tuned.thresholds, strict=True))
    return part


def validation_logits(tuned: Loaded, data: Data, *, device: torch.device, events: EventWriter) -> Tensor:
    """Returns (N, C) of the final weights, computed as the evaluation will compute them."""
    transform, items = data.evaluation_transform, data.validation
    return features.extract(tuned.module, data.pack, items, transform, device=device, events=events, stage="calibrate")[
        0
    ]


def fit_probe(base: Loaded, data: Data, *, device: torch.device, events: EventWriter) -> probes.Probe:
    items, headless = [*data.train, *data.validation], frameworks.headless(base)
    backbone = crossval.digest(headless)

    def table() -> Tensor:
        return features.extract(headless, data.pack, items, data.evaluation_transform, device=device, events=events)[0]

    return probes.fit(
        table,
        data.truth(items),
        groups=[item.group for item in items],
        training=len(data.train),
        classes=len(data.labels),
        events=events,
        backbone=backbone,
        labelling=data.labelling,
    )


def start(spec: TrainSpec, base: Loaded, probe: probes.Probe) -> Loaded:
    """Returns the network that training begins with: bought weights under the probe's or a new head, or
    random weights for the control."""
    if spec.strategy is Strategy.SCRATCH:
        torch.manual_seed(spec.hyper.seed)
        return frameworks.reinitialized(base, spec.labels)
    tuned = frameworks.replace_head(base, spec.labels, probe.start.weight, probe.start.bias)
    if not spec.hyper.start_from_probe:
        head = frameworks.head_of(tuned)
        with torch.no_grad():
            head.weight.normal_(std=0.01, generator=torch.Generator().manual_seed(spec.hyper.seed))
            head.bias.zero_()
    return tuned


def tune(
    spec: TrainSpec, tuned: Loaded, data: Data, run_dir: Path, *, device: torch.device, events: EventWriter
) -> loop.Fitted:
    """Trains `tuned` in place and leaves its best epoch's weights in it, on the processor."""
    return finished(begin(spec, tuned, data, run_dir, device=device, events=events), spec, tuned)


def finished(run: loop.Run, spec: TrainSpec, tuned: Loaded) -> loop.Fitted:
    """Trains to the end, and leaves a plain network on the processor."""
    fitted = run.fit()
    tuned.module.to("cpu").eval()
    if spec.strategy is Strategy.LORA:
        lora.merge(tuned.module)  # on the processor: a graphics card rounds what a convolution is given to ten bits
    return fitted


def begin(
    spec: TrainSpec,
    tuned: Loaded,
    data: Data,
    run_dir: Path,
    *,
    device: torch.device,
    events: EventWriter,
    shelf: activations.Shelf[activations.Frozen] | None = None,
) -> loop.Run:
    """Returns the training of `tuned`, in place, not yet begun."""
    hyper, module = spec.hyper, tuned.module.to(device)
    stages = frameworks.stages(tuned)
    fresh_head = spec.strategy is Strategy.SCRATCH or not hyper.start_from_probe
    if spec.strategy is Strategy.LORA:
        torch.manual_seed(hyper.seed)
        if not lora.attach(module, rank=hyper.lora_rank, skip=stages[-1][1]):
            raise lora.unsupported()
    module = module.to(memory_format=torch.channels_last)  # the updates too: a validation would lay them out anew
    plan = strategies.plan(module, stages, spec.strategy, hyper, fresh_head=fresh_head)
    trainee: Classifier = Classifier(module, data, hyper, device, keeps_statistics=not fresh_head)
    if plan.boundary:
        trainee = _cut_off(trainee, stages, plan.boundary, run_dir, events, shelf) or trainee
    checkpoints = checkpoints_of(spec, run_dir)
    return loop.Run(
        trainee,
        plan,
        hyper,
        device=device,
        events=events,
        checkpoints=checkpoints,
        keep_initial=spec.strategy is not Strategy.SCRATCH and hyper.start_from_probe,
    )


class Classifier:
    """What the loop trains: images through the whole network. `keeps_statistics`: the head was fitted on features
    normalized by the network's own statistics, and would read others in those of a batch: on data that is unlike the
    pretraining's every epoch then diverges (`python -m benchmarks floor_digits --only full`)."""

    def __init__(
        self, module: nn.Module, data: Data, hyper: Hyper, device: torch.device, *, keeps_statistics: bool = False
    ) -> None:
        self.module, self.data, self.hyper, self.device = module, data, hyper, device
        self.norm_min_batch = sys.maxsize if keeps_statistics else NORM_MIN_BATCH
        self.items = len(data.train)
        full, rest = divmod(self.items, hyper.batch_size)
        self.steps = full + (rest > 1 or not full)  # batch statistics of one image are no statistics
        self._criterion = data.labelling.criterion(hyper, data.truth(data.train), len(data.labels))
        self._counts = torch.tensor(data.class_counts)

    def groups(self, epoch: int, *, start: int) -> list[list[int]]:
        """Returns the positions of the training items of each batch from number `start` on."""
        hyper, numbers = self.hyper, range(start, self.steps)
        return shares(self.items, hyper.batch_size, seed=hyper.seed, epoch=epoch, batches=numbers)

    def batches(self, epoch: int, *, start: int) -> Iterator[tuple[Tensor, Tensor] | None]:
        groups = [[self.data.train[at] for at in group] for group in self.groups(epoch, start=start)]
        transform = self.data.training_transform(self.hyper, epoch=epoch)
        for group, images in features.grouped(self.data.pack, groups, transform):
            yield (images, self.data.truth(group)) if group else None

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        images, labels = (part.to(self.device) for part in batch)
        if images.dim() == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.hyper.augmentation is not Augmentation.STRONG:
            return self._criterion(self._logits(images), labels)
        # Drawn from the generator that the loop seeds at each step.
        share = float(torch.distributions.Beta(MIXUP_ALPHA, MIXUP_ALPHA).sample())
        partner = torch.randperm(len(images), device=images.device)
        logits = self._logits(share * images + (1 - share) * images[partner])
        return share * self._criterion(logits, labels) + (1 - share) * self._criterion(logits, labels[partner])

    def weight(self, batch: tuple[Tensor, Tensor]) -> float:
        return self.data.labelling.weight(self.hyper, batch[1], self._counts)

    def _logits(self, images: Tensor) -> Tensor:
        output = self.module(images)
        logits: Tensor = getattr(output, "logits", output)  # Inception's classifiers add one beside
        return logits

    def validate(self, module: nn.Module) -> Validation:
        module.eval()
        logits, truth = torch.cat(list(self._validation_logits(module))), self.data.truth(self.data.validation)
        labelling = self.data.labelling
        loss = float(labelling.loss(logits, truth))
        return Validation(loss, loss, {labelling.metric: labelling.score(logits, truth)})

    def _validation_logits(self, module: nn.Module) -> Iterator[Tensor]:
        """As the evaluation computes them."""
        data = self.data
        return features.outputs(module, data.pack, data.validation, data.evaluation_transform, device=self.device)


class CachedClassifier(Classifier):
    """The same behind a frozen prefix: batches are its activations, computed once for each item and view."""

    def __init__(self, whole: Classifier, suffix: nn.Module, frozen: activations.Frozen) -> None:
        super().__init__(suffix, whole.data, whole.hyper, whole.device)
        self.norm_min_batch = whole.norm_min_batch
        self._frozen = frozen

    def batches(self, epoch: int, *, start: int) -> Iterator[tuple[Tensor, Tensor] | None]:
        for group in self.groups(epoch, start=start):
            labels = self.data.truth([self.data.train[at] for at in group])
            yield (self._frozen.at(epoch, group), labels) if group else None

    def _validation_logits(self, module: nn.Module) -> Iterator[Tensor]:
        places = range(len(self.data.validation))
        for start in range(0, len(places), features.BATCH):
            runtime.check_stop()
            part = self._frozen.validation.get(0, places[start : start + features.BATCH])
            with torch.inference_mode():
                logits = module(part.to(self.device)).float().cpu()
            yield logits


def _cut_off(
    whole: Classifier,
    stages: strategies.Stages,
    boundary_at: int,
    run_dir: Path,
    events: EventWriter,
    shelf: activations.Shelf[activations.Frozen] | None = None,
) -> CachedClassifier | None:
    """Computes the frozen prefix for every item and view, or returns None where it cannot be cut off or its
    activations would take too much disk."""
    data, hyper = whole.data, whole.hyper
    sample = features.loaded(data.pack, data.train[:2], data.evaluation_transform)
    halves = boundary.cut(whole.module, stages, boundary_at, sample.to(whole.device))
    views = activations.views_of(hyper)
    key = activations.key_of(boundary_at, hyper)
    frozen = shelf.get(key) if shelf else None

    def images(view: int | None) -> Iterator[features.Load]:
        items = data.train if view else data.validation
        transform = data.training_transform(hyper, epoch=view) if view else data.evaluation_transform
        return features.loads(data.pack, items, transform, whole.device)

    frozen = frozen or activations.computed(
        halves.prefix if halves else None,
        sample,
        images,
        items=(len(data.train), len(data.validation)),
        views=views,
        device=whole.device,
        run_dir=run_dir,
        events=events,
    )
    if halves is None or frozen is None:
        return None
    if shelf is not None:
        shelf.put(key, frozen)
    return CachedClassifier(whole, halves.suffix, frozen)


def evaluate(spec: EvaluateSpec, run_dir: Path, events: EventWriter, device: torch.device) -> dict[str, Any]:
    pack = PackReader(run_dir / spec.pack)
    if not pack.items:
        raise UserFault("no_test_images", "There are no test images. Add images to the dataset.")
    events.stage("evaluate", "Evaluating on the held-out test images")
    tuned = frameworks.load(spec.tuned, run_dir)
    if tuned.labels != spec.labels:
        raise AppFault("labels_differ", "The tuned weights name other classes than the dataset.")
    probe = weights.load_tensors(run_dir / spec.train_outputs / PROBE_FILE)
    if labelling_of(pack.items).is_multi:
        bought = frameworks.load(spec.base, run_dir)
        return label_sets.evaluated(
            spec,
            pack.items,
            probe,
            lambda loaded, stage: _logits(loaded, pack, device, events, stage),
            tuned=tuned,
            bought=bought,
            probed=None if spec.strategy is Strategy.HEAD else _probed(bought, spec, probe, tuned),
            noun="images",
        )
    predictions = _predict(tuned, pack, device, events, "evaluate")
    baseline = None
    rights: dict[str, classifier.Rights] = {}
    if frameworks.answers(spec.base, run_dir, task=Task.IMAGE_CLASSIFICATION, labels=spec.labels):
        rights["parent"] = _predict(frameworks.load(spec.base, run_dir), pack, device, events, "parent").is_right
    if spec.strategy is not Strategy.HEAD:
        probed = _probed(frameworks.load(spec.base, run_dir), spec, probe, tuned)
        baseline = _predict(probed, pack, device, events, "baseline")
    majority = int(probe["class_counts"].argmax())
    if baseline is not None:
        rights["majority"] = predictions.truth == majority
    report = classifier.report(
        predictions,
        baseline,
        majority,
        labels=spec.labels,
        seed=spec.seed,
        temperature=tuned.temperature,
        leaked=spec.leaked,
        parts=slices.parts_of(pack.items),
    )
    report["other_baselines"] = classifier.others(predictions, rights, seed=spec.seed, noun="test images")
    return {"evaluation": report, "predictions_sha256": predictions.sha256}


def _probed(bought: Loaded, spec: EvaluateSpec, probe: dict[str, Tensor], tuned: Loaded) -> Loaded:
    """Returns the model as bought under the probe that was fitted to it in training, on images cut as they were there."""
    bought = replace(bought, preprocessing=tuned.preprocessing)
    if isinstance(tuned.module, StageHead) and frameworks.head_of(bought).in_features != probe["weight"].shape[1]:
        bought = frameworks.with_stage_head(bought, tuned.module.pooling)  # as the probe read it
    return frameworks.replace_head(bought, spec.labels, probe["weight"], probe["bias"])


def _predict(loaded: Loaded, pack: PackReader, device: torch.device, events: EventWriter, stage: str) -> Predictions:
    logits = _logits(loaded, pack, device, events, stage)
    return Predictions(
        truth=ONE_CLASS.truth(pack.items, len(loaded.labels)).numpy(),
        logits=logits.double().numpy(),
        indices=np.array([item.index for item in pack.items]),
        groups=intervals.numbered([item.group for item in pack.items]),
    )


def _logits(loaded: Loaded, pack: PackReader, device: torch.device, events: EventWriter, stage: str) -> Tensor:
    """Returns the logits (N, C) of every item, exactly once each."""
    to_input = preprocessing.transform(loaded.preprocessing or Preprocessing())

    def transform(_item: Item, image: Image.Image) -> Tensor:
        return to_input(image)

    logits, _ = features.extract(loaded.module, pack, pack.items, transform, device=device, events=events, stage=stage)
    if len(logits) != len(pack.items):
        raise AppFault("count_differs", "Not every test image was scored exactly once.")
    return logits


def answering(loaded: Loaded) -> Answer:
    """Returns what `serve` asks: the likeliest classes of one RGB image."""
    to_input = preprocessing.transform(loaded.preprocessing or Preprocessing())

    def answer(image: Image.Image, top: int | None) -> dict[str, Any]:
        return ranked(loaded, loaded.module(to_input(image).unsqueeze(0))[0], top)

    return answer
