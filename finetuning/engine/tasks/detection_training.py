"""How a detector is trained: what all trainings of one order share, and one of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from finetuning.engine import activations, detecting, frameworks, loop, placement, probing, strategies, weights
from finetuning.engine.checkpoints import Checkpoints, checkpoints_of
from finetuning.engine.detecting import Data, Detector, Learner
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks import Loaded
from finetuning.engine.hyper import Strategy
from finetuning.engine.packs import PackReader, training_items
from finetuning.engine.probing import IsOver, Probe, Probes
from finetuning.engine.spec import Preprocessing, TrainSpec

# A detector's head is deep and never solved, not even by the probe: it learns faster than the body throughout.
HEAD_FACTOR = 3.0


def read(spec: TrainSpec, run_dir: Path, base: Loaded) -> Data:
    """Returns the training pack's items by split. Raises UserFault (`too_few_images`, `test_items_present`)."""
    pack = PackReader(run_dir / spec.pack)
    train, validation = training_items(pack.items)
    if not train or not any(item.boxes for item in train) or not any(item.boxes for item in validation):
        raise UserFault("too_few_images", "Training needs training and validation images with boxes. Add images.")
    bought = base.preprocessing or Preprocessing()
    size = placement.side_of(spec.hyper.image_size or bought.size)
    return Data(pack, train, validation, spec.labels, dataclasses.replace(bought, size=size))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is computed once, whatever is then trained. `shelf` keeps frozen activations from one training to the
    next, `probes` the heads that trainings begin with."""

    base: Loaded
    data: Data
    device: torch.device
    probes: Probes
    shelf: activations.Shelf[activations.Frozen]

    @property
    def validation_items(self) -> int:
        return len(self.data.validation)

    def begin(self, spec: TrainSpec, run_dir: Path, events: EventWriter, *, is_over: IsOver) -> loop.Run:
        """Returns the training that `spec` asks for, not yet begun; the probe that it begins with is fitted now."""
        return self.training(spec, self.start(spec, events, is_over), run_dir, events)

    def probe(self, spec: TrainSpec, events: EventWriter, is_over: IsOver) -> Probe:
        order = probing.order(spec)
        if known := self.probes.get(order):
            return known
        fresh = self._new(order)
        with events.part("probe") as part:
            run = self._run(order, fresh, self.probes.run_dir, part, self.probes.checkpoints(order))
            fitted = probing.fitted(run, is_over)
        inside = frameworks.trunk(fresh) + "."
        state = fresh.module.to("cpu").state_dict()
        head = {name: tensor for name, tensor in state.items() if not name.startswith(inside)}
        return self.probes.keep(order, Probe(head, fitted.validation))

    def start(self, spec: TrainSpec, events: EventWriter, is_over: IsOver) -> Loaded:
        """Returns what training begins with: the probe itself, a new head, or random weights for the control."""
        if not _begins_with_probe(spec):
            return self._new(spec)
        probe = self.probe(spec, events, is_over)
        probed = self._new(spec)
        weights.load_strictly(probed.module, {**probed.module.state_dict(), **probe.head})
        return probed

    def training(self, spec: TrainSpec, tuned: Loaded, run_dir: Path, events: EventWriter) -> loop.Run:
        """Returns the training of `tuned`, in place, not yet begun."""
        return self._run(spec, tuned, run_dir, events, checkpoints_of(spec, run_dir))

    def _new(self, spec: TrainSpec) -> Loaded:
        torch.manual_seed(spec.hyper.seed)
        is_control = spec.strategy is Strategy.SCRATCH
        return frameworks.detector(self.base, spec.labels, size=self.data.side, fresh=is_control)

    def _run(
        self, spec: TrainSpec, tuned: Loaded, run_dir: Path, events: EventWriter, checkpoints: Checkpoints
    ) -> loop.Run:
        module = tuned.module.to(self.device).to(memory_format=torch.channels_last)
        stages = frameworks.stages(tuned)
        plan = strategies.plan(module, stages, spec.strategy, spec.hyper, fresh_head=True, head_factor=HEAD_FACTOR)
        trainee = Detector(Learner(module, self.data.side), self.data, spec.hyper, self.device)
        if plan.boundary:
            trainee = detecting.cached(trainee, tuned, plan.boundary, run_dir, events, self.shelf) or trainee
        return loop.Run(
            trainee,
            plan,
            spec.hyper,
            device=self.device,
            events=events,
            checkpoints=checkpoints,
            keep_initial=_begins_with_probe(spec),
        )


def _begins_with_probe(spec: TrainSpec) -> bool:
    return spec.strategy in (Strategy.LAST, Strategy.FULL) and spec.hyper.start_from_probe


def prepare(spec: TrainSpec, run_dir: Path, events: EventWriter, device: torch.device) -> Prepared:
    events.stage("load", "Loading the model as bought")
    base = frameworks.load(spec.weights, run_dir)
    data = read(spec, run_dir, base)
    return Prepared(base, data, device, Probes(run_dir), activations.Shelf())
