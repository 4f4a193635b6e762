"""Text classification."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finetuning.engine import (
    activations,
    augment,
    collective,
    features,
    frameworks,
    loop,
    lora,
    probes,
    strategies,
    tfidf,
    token_boundary,
    weights,
)
from finetuning.engine.answers import Answer, ranked
from finetuning.engine.checkpoints import checkpoints_of
from finetuning.engine.evaluation import classifier, crossval, intervals, slices
from finetuning.engine.evaluation.metrics import Predictions
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import AppFault, UserFault
from finetuning.engine.frameworks import Loaded
from finetuning.engine.frameworks.transformers_models import with_head
from finetuning.engine.hyper import Hyper, Strategy
from finetuning.engine.labelling import ONE_CLASS, Labelling, labelling_of
from finetuning.engine.packs import Item, PackReader, training_items
from finetuning.engine.probing import IsOver
from finetuning.engine.spec import (
    OUTPUTS_DIR,
    PROBE_FILE,
    EvaluateSpec,
    TrainSpec,
    WeightsSpec,
)
from finetuning.engine.tasks import label_sets
from finetuning.engine.tasks.classification import calibrate, calibrated, checked_labelling, finished, start
from finetuning.engine.tokens import Rows, TextReader, assembled, fitted_length, logits_of, outputs, over, shuffled
from finetuning.engine.trainee import Validation

# Hu et al. 2021 (section 7.1) update the projections of query and value; each family's names for them.
LORA_NAMES = frozenset({"query", "value", "q_lin", "v_lin", "q", "v", "query_proj", "value_proj"})
MAX_WORST_CHARACTERS = 300
NOUN = "test texts"


@dataclass(frozen=True, slots=True)
class Texts:
    """Items of one split as token numbers."""

    items: list[Item]
    rows: Rows


@dataclass(frozen=True, slots=True)
class Data:
    reader: TextReader
    train: Texts
    validation: Texts
    labels: tuple[str, ...]
    labelling: Labelling

    @property
    def items(self) -> list[Item]:
        """Those of training, then those of validation."""
        return [*self.train.items, *self.validation.items]

    def truth(self, items: list[Item]) -> Tensor:
        return self.labelling.truth(items, len(self.labels))

    @property
    def class_counts(self) -> list[int]:
        return self.labelling.counts(self.truth(self.train.items), len(self.labels))


def read(spec: TrainSpec, run_dir: Path, base: Loaded) -> Data:
    """Returns the training pack's items by split. Raises UserFault (`too_few_texts`, `test_items_present`,
    `loss_unsupported`)."""
    items = PackReader(run_dir / spec.pack).items
    train, validation = training_items(items)
    if not train or not validation:
        raise UserFault("too_few_texts", "Training needs training and validation texts. Add texts to the dataset.")
    labelling = checked_labelling(spec, items)
    reader = TextReader(base, fitted_length(base, [item.text for item in train]))
    return Data(reader, texts_of(reader, train), texts_of(reader, validation), spec.labels, labelling)


def texts_of(reader: TextReader, items: list[Item]) -> Texts:
    return Texts(items, reader.rows([item.text for item in items]))


def load(spec: WeightsSpec, run_dir: Path, *, classes: int) -> Loaded:
    """Returns the release's encoder under a head: its own, or where it has none a random one."""
    return with_head(frameworks.load(spec, run_dir), classes)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is computed once, whatever is then trained. `shelf` keeps frozen layers' states from one training to the
    next."""

    base: Loaded
    data: Data
    probe: probes.Probe
    device: torch.device
    shelf: activations.Shelf[token_boundary.Frozen]

    @property
    def validation_items(self) -> int:
        return len(self.data.validation.items)

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
    base, data = _read_in(spec, run_dir, events)
    return Prepared(base, data, fit_probe(base, data, device=device, events=events), device, activations.Shelf())


def _read_in(spec: TrainSpec, run_dir: Path, events: EventWriter) -> tuple[Loaded, Data]:
    events.stage("load", "Loading the model as bought")
    base = load(spec.weights, run_dir, classes=len(spec.labels))
    data = read(spec, run_dir, base)
    base.config["max_tokens"] = data.reader.max_tokens  # the tuned weights are used at the length of their training
    return base, data


def train(spec: TrainSpec, run_dir: Path, events: EventWriter, device: torch.device) -> dict[str, Any]:
    started = time.perf_counter()
    base, data = _read_in(spec, run_dir, events)
    directory = run_dir / OUTPUTS_DIR
    events.stage("baseline", "Fitting word and character counts, the baseline to beat")
    fit_counts(data).save(directory)
    counted = time.perf_counter()
    probe = fit_probe(base, data, device=device, events=events)
    weights.save_tensors(directory / PROBE_FILE, probes.saved(probe, data.class_counts, len(data.train.items)))
    best: dict[str, Any] = {"epoch": 0}
    validation = {**probe.validation.metrics, "loss": probe.validation.loss}
    if spec.strategy is Strategy.HEAD:
        tuned = frameworks.replace_head(base, spec.labels, probe.head.weight, probe.head.bias)
        # The head that is saved has seen the validation items; the one that has not stands in for it.
        logits = probe.start.logits(probe.table[len(data.train.items) :])
    else:
        tuned = start(spec, base, probe)
        fitted = tune(spec, tuned, data, run_dir, device=device, events=events)
        best = fitted.best
        validation = {**fitted.validation.metrics, "loss": fitted.validation.loss}
        dtype = features.precision(device)
        logits = outputs(tuned.module, data.reader, data.validation.rows, device=device, dtype=dtype)
    judged = probes.judged(
        probe, data.items, frameworks.headless(base), names=spec.labels, seed=spec.hyper.seed, events=events
    )
    truth = data.truth(data.validation.items)
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
        "max_tokens": data.reader.max_tokens,
        "timing": {
            "baseline_seconds": counted - started,
            "probe_seconds": probe.seconds,
            "total_seconds": time.perf_counter() - started,
        },
        "precision": str(features.precision(device)).removeprefix("torch."),
    }


def fit_counts(data: Data) -> tfidf.TextCounts:
    return tfidf.fit(
        [item.text for item in data.items],
        data.truth(data.items),
        training=len(data.train.items),
        classes=len(data.labels),
        labelling=data.labelling,
    )


def fit_probe(base: Loaded, data: Data, *, device: torch.device, events: EventWriter) -> probes.Probe:
    rows, headless = [*data.train.rows, *data.validation.rows], frameworks.headless(base)
    backbone = crossval.digest(headless)

    def table() -> Tensor:
        dtype = features.precision(device)
        return outputs(headless, data.reader, rows, device=device, dtype=dtype, events=events)

    return probes.fit(
        table,
        data.truth(data.items),
        groups=[item.group for item in data.items],
        training=len(data.train.rows),
        classes=len(data.labels),
        events=events,
        backbone=backbone,
        labelling=data.labelling,
    )


def tune(
    spec: TrainSpec, tuned: Loaded, data: Data, run_dir: Path, *, device: torch.device, events: EventWriter
) -> loop.Fitted:
    """Trains `tuned` in place and leaves its best epoch's weights in it, on the processor."""
    return finished(begin(spec, tuned, data, run_dir, device=device, events=events), spec, tuned)


def begin(
    spec: TrainSpec,
    tuned: Loaded,
    data: Data,
    run_dir: Path,
    *,
    device: torch.device,
    events: EventWriter,
    shelf: activations.Shelf[token_boundary.Frozen] | None = None,
) -> loop.Run:
    """Returns the training of `tuned`, in place, not yet begun."""
    hyper, module = spec.hyper, tuned.module.to(device)
    stages = frameworks.stages(tuned)
    if spec.strategy is Strategy.LORA:
        torch.manual_seed(hyper.seed)
        if not lora.attach(module, rank=hyper.lora_rank, skip=stages[-1][1], only=LORA_NAMES):
            raise lora.unsupported()
    fresh_head = spec.strategy is Strategy.SCRATCH or not hyper.start_from_probe
    plan = strategies.plan(module, stages, spec.strategy, hyper, fresh_head=fresh_head)
    trainee = TextClassifier(module, data, hyper, device)
    if plan.boundary >= token_boundary.FEWEST_STAGES:
        trainee = _cut_off(trainee, stages, plan.boundary, run_dir, events, shelf) or trainee
    return loop.Run(
        trainee,
        plan,
        hyper,
        device=device,
        events=events,
        checkpoints=checkpoints_of(spec, run_dir),
        keep_initial=not fresh_head,
    )


class TextClassifier:
    """What the loop trains: token numbers through the whole network, of about equal lengths in each batch."""

    norm_min_batch = 0  # layer norms keep no statistics

    def __init__(self, module: nn.Module, data: Data, hyper: Hyper, device: torch.device) -> None:
        self.module, self.data, self.hyper, self.device = module, data, hyper, device
        self.items = len(data.train.items)
        self.steps = -(-self.items // hyper.batch_size)
        self._truth = data.truth(data.train.items)
        self._criterion = data.labelling.criterion(hyper, self._truth, len(data.labels))
        self._counts = torch.tensor(data.class_counts)

    def batches(self, epoch: int, *, start: int) -> Iterator[tuple[Tensor, Tensor, Tensor] | None]:
        generator = augment.generator(self.hyper.seed, epoch, 0)
        order = list(shuffled(self.data.train.rows, self.hyper.batch_size, generator))
        for positions in map(collective.share, order[start:]):
            yield (*self._batch(positions), self._truth[positions]) if positions else None

    def _batch(self, positions: list[int]) -> tuple[Tensor, Tensor]:
        return self.data.reader.batch([self.data.train.rows[at] for at in positions])

    def loss(self, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        tokens, mask, labels = (part.to(self.device) for part in batch)
        return self._criterion(logits_of(self.module, tokens, mask, given=tokens.is_floating_point()), labels)

    def weight(self, batch: tuple[Tensor, Tensor, Tensor]) -> float:
        return self.data.labelling.weight(self.hyper, batch[2], self._counts)

    def validate(self, module: nn.Module) -> Validation:
        logits = self._validation_logits(module)
        truth, labelling = self.data.truth(self.data.validation.items), self.data.labelling
        loss = float(labelling.loss(logits, truth))
        return Validation(loss, loss, {labelling.metric: labelling.score(logits, truth)})

    def _validation_logits(self, module: nn.Module) -> Tensor:
        rows, dtype = self.data.validation.rows, features.precision(self.device)
        return outputs(module, self.data.reader, rows, device=self.device, dtype=dtype)


class CachedTextClassifier(TextClassifier):
    """The same behind frozen layers: batches are their states, computed once for each text."""

    def __init__(self, whole: TextClassifier, suffix: nn.Module, frozen: token_boundary.Frozen) -> None:
        super().__init__(suffix, whole.data, whole.hyper, whole.device)
        self._frozen = frozen

    def _batch(self, positions: list[int]) -> tuple[Tensor, Tensor]:
        return self._frozen.training.batch(positions)

    def _validation_logits(self, module: nn.Module) -> Tensor:
        module.eval()
        dtype = features.precision(self.device)

        def computed(positions: Sequence[int]) -> Tensor:
            states, mask = self._frozen.validation.batch(positions)
            with torch.inference_mode(), features.autocast(self.device, dtype):
                return logits_of(module, states.to(self.device), mask.to(self.device), given=True).float().cpu()

        rows = self.data.validation.rows
        return assembled(over(rows, computed, device=self.device), len(rows))


def _cut_off(
    whole: TextClassifier,
    stages: strategies.Stages,
    boundary_at: int,
    run_dir: Path,
    events: EventWriter,
    shelf: activations.Shelf[token_boundary.Frozen] | None = None,
) -> CachedTextClassifier | None:
    """Computes the frozen layers for every text, or returns None where they cannot be cut off or their states would take
    too much disk."""
    data = whole.data
    ids, mask = (part.to(whole.device) for part in data.reader.batch(data.train.rows[:2]))
    halves = token_boundary.cut(whole.module, stages, boundary_at, ids, mask)
    if halves is None:
        events.log("The frozen layers of this architecture cannot be cut off: they are computed in every epoch.")
        return None
    rows = (data.train.rows, data.validation.rows)
    frozen = (shelf.get((boundary_at,)) if shelf else None) or token_boundary.computed(
        halves.prefix, data.reader, rows, device=whole.device, run_dir=run_dir, events=events
    )
    if frozen is None:
        return None
    if shelf is not None:
        shelf.put((boundary_at,), frozen)
    return CachedTextClassifier(whole, halves.suffix, frozen)


def evaluate(spec: EvaluateSpec, run_dir: Path, events: EventWriter, device: torch.device) -> dict[str, Any]:
    items = PackReader(run_dir / spec.pack).items
    if not items:
        raise UserFault("no_test_texts", "There are no test texts. Add texts to the dataset.")
    events.stage("evaluate", "Evaluating on the held-out test texts")
    tuned = load(spec.tuned, run_dir, classes=len(spec.labels))
    if tuned.labels != spec.labels:
        raise AppFault("labels_differ", "The tuned weights name other classes than the dataset.")
    reader = TextReader(tuned)
    texts = texts_of(reader, items)
    trained = run_dir / spec.train_outputs
    probe = weights.load_tensors(trained / PROBE_FILE)
    counts = tfidf.TextCounts.load(trained).logits([item.text for item in items])

    def logits(loaded: Loaded, stage: str) -> Tensor:
        return _logits(loaded, reader, texts, device=device, events=events, stage=stage)

    if labelling_of(items).is_multi:
        bought = load(spec.base, run_dir, classes=len(spec.labels))
        part = label_sets.evaluated(
            spec,
            items,
            probe,
            logits,
            tuned=tuned,
            bought=bought,
            probed=None if spec.strategy is Strategy.HEAD else _probed(bought, spec, probe),
            noun="texts",
            counted=counts,
        )
        return {**part, "evaluation": _with_texts(part["evaluation"], items)}
    predictions = _predictions(logits(tuned, "evaluate"), items)
    majority = int(probe["class_counts"].argmax())
    rights = {"tfidf": counts.argmax(axis=1) == predictions.truth}
    baseline = None
    if spec.strategy is not Strategy.HEAD:
        bought = load(spec.base, run_dir, classes=len(spec.labels))
        if bought.labels == spec.labels:
            rights["parent"] = _predictions(logits(bought, "parent"), items).is_right
        baseline = _predictions(logits(_probed(bought, spec, probe), "baseline"), items)
        rights["majority"] = predictions.truth == majority
    report = classifier.report(
        predictions,
        baseline,
        majority,
        labels=spec.labels,
        seed=spec.seed,
        noun=NOUN,
        temperature=tuned.temperature,
        leaked=spec.leaked,
        parts=slices.parts_of(items),
    )
    report["other_baselines"] = classifier.others(predictions, rights, seed=spec.seed, noun=NOUN)
    return {"evaluation": _with_texts(report, items), "predictions_sha256": predictions.sha256}


def _probed(bought: Loaded, spec: EvaluateSpec, probe: dict[str, Tensor]) -> Loaded:
    """Returns the model as bought under the probe that was fitted to it in training."""
    return frameworks.replace_head(bought, spec.labels, probe["weight"], probe["bias"])


def _with_texts(report: dict[str, Any], items: list[Item]) -> dict[str, Any]:
    """Returns the report with the beginning of each of the worst items' text."""
    text_of = {item.index: item.text[:MAX_WORST_CHARACTERS] for item in items}
    return {**report, "worst": [{**mistake, "text": text_of[mistake["index"]]} for mistake in report["worst"]]}


def _logits(
    loaded: Loaded, reader: TextReader, texts: Texts, *, device: torch.device, events: EventWriter, stage: str
) -> Tensor:
    """Returns the logits (N, C) of every item. The tuned weights' reader serves the baselines too: all have the same
    tokenizer, and the probe was fitted at the same length."""
    dtype = features.precision(device)
    return outputs(loaded.module, reader, texts.rows, device=device, dtype=dtype, events=events, stage=stage)


def _predictions(logits: Tensor, items: list[Item]) -> Predictions:
    return Predictions(
        truth=ONE_CLASS.truth(items, 0).numpy(),
        logits=logits.double().numpy(),
        indices=np.array([item.index for item in items]),
        groups=intervals.numbered([item.group for item in items]),
    )


def answering(loaded: Loaded) -> Answer:
    """Returns what `serve` asks: the likeliest classes of one text."""
    reader = TextReader(loaded)

    def answer(text: str, top: int | None) -> dict[str, Any]:
        return ranked(loaded, logits_of(loaded.module, *reader.batch(reader.rows([text])))[0], top)

    return answer
