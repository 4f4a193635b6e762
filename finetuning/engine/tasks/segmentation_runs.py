"""How a segmenter is trained: what all trainings of one order share, and one of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from finetuning.engine import activations, frameworks, loop, probing, strategies, weights
from finetuning.engine.checkpoints import Checkpoints, checkpoints_of
from finetuning.engine.events import EventWriter
from finetuning.engine.frameworks import Loaded, segmenters
from finetuning.engine.hyper import Augmentation, Loss, Strategy
from finetuning.engine.probing import IsOver, Probe, Probes
from finetuning.engine.spec import Preprocessing, TrainSpec
from finetuning.engine.tasks.segmentation_training import Data, Rows, Segmenting, chosen_loss, cut_off, read

PROBE_EPOCHS = 8
PROBED_HEAD_FACTOR = 3.0  # a decoder is deep and never solved, not even by the probe: it goes on learning faster
_TRUNK = "backbone."


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is computed once, whatever is then trained. `shelf` keeps frozen activations from one training to the
    next, `probes` the decoders that trainings begin with."""

    bought: Loaded
    data: Data
    loss: Loss
    device: torch.device
    probes: Probes
    shelf: activations.Shelf[Rows]

    @property
    def validation_items(self) -> int:
        return len(self.data.validation)

    def begin(self, spec: TrainSpec, run_dir: Path, events: EventWriter, *, is_over: IsOver) -> loop.Run:
        """Returns the training that `spec` asks for, not yet begun; the probe that it begins with is fitted now."""
        return self.training(spec, self.start(spec, events, is_over), run_dir, events)

    def probe(self, spec: TrainSpec, events: EventWriter, is_over: IsOver) -> Probe:
        """Returns the decoder fitted to the frozen backbone, without augmentation."""
        order = probing.order(spec)
        hyper = dataclasses.replace(order.hyper, augmentation=Augmentation.NONE, epochs=PROBE_EPOCHS)
        order = dataclasses.replace(order, hyper=hyper)
        if known := self.probes.get(order):
            return known
        events.stage("probe", "Fitting the decoder to the model as bought")
        fresh = self._new(order)
        with events.part("probe") as part:
            run = self._run(order, fresh, self.probes.run_dir, part, self.probes.checkpoints(order))
            fitted = probing.fitted(run, is_over)
        state = fresh.module.to("cpu").state_dict()
        head = {name: tensor for name, tensor in state.items() if not name.startswith(_TRUNK)}
        return self.probes.keep(order, Probe(head, fitted.validation))

    def start(self, spec: TrainSpec, events: EventWriter, is_over: IsOver) -> Loaded:
        """Returns the network that training begins with."""
        if not _begins_with_probe(spec):
            return self._new(spec)
        probe = self.probe(spec, events, is_over)
        return with_head(self._new(spec), probe.head)

    def training(self, spec: TrainSpec, tuned: Loaded, run_dir: Path, events: EventWriter) -> loop.Run:
        """Returns the training of `tuned`, in place, not yet begun."""
        return self._run(spec, tuned, run_dir, events, checkpoints_of(spec, run_dir))

    def _new(self, spec: TrainSpec) -> Loaded:
        fresh = segmenters.started(self.bought, spec.labels, seed=spec.hyper.seed)
        if spec.strategy is not Strategy.SCRATCH:
            return fresh
        torch.manual_seed(spec.hyper.seed)
        return frameworks.reinitialized(fresh, spec.labels)

    def _run(
        self, spec: TrainSpec, tuned: Loaded, run_dir: Path, events: EventWriter, checkpoints: Checkpoints
    ) -> loop.Run:
        module = tuned.module.to(self.device).to(memory_format=torch.channels_last)
        begins_with_probe = _begins_with_probe(spec)
        head_factor = PROBED_HEAD_FACTOR if begins_with_probe else strategies.HEAD_FACTOR
        plan = strategies.plan(
            module, frameworks.stages(tuned), spec.strategy, spec.hyper, fresh_head=True, head_factor=head_factor
        )
        trainee = Segmenting(module, self.data, spec.hyper, self.loss, self.device)
        if plan.boundary:
            trainee = cut_off(trainee, tuned, plan.boundary, run_dir, events, self.shelf) or trainee
        return loop.Run(
            trainee,
            plan,
            spec.hyper,
            device=self.device,
            events=events,
            checkpoints=checkpoints,
            keep_initial=begins_with_probe,
        )


def with_head(fresh: Loaded, head: dict[str, torch.Tensor]) -> Loaded:
    """Returns the segmenter, its tensors outside of the backbone replaced in place."""
    weights.load_strictly(fresh.module, {**fresh.module.state_dict(), **head})
    return fresh


def _begins_with_probe(spec: TrainSpec) -> bool:
    return spec.strategy in (Strategy.LAST, Strategy.FULL) and spec.hyper.start_from_probe


def prepare(spec: TrainSpec, run_dir: Path, events: EventWriter, device: torch.device) -> Prepared:
    events.stage("load", "Loading the model as bought")
    bought = frameworks.load(spec.weights, run_dir)
    segmenters.started(bought, spec.labels, seed=spec.hyper.seed)  # refuses what cannot be one, before any work
    data = read(spec, run_dir, bought.preprocessing or Preprocessing())
    loss = chosen_loss(spec.hyper, data, events)
    return Prepared(bought, data, loss, device, Probes(run_dir), activations.Shelf())
