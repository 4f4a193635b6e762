"""Probes that are trained in epochs: a head on the frozen bought network, the baseline of every strategy but `head` and
the start of LP-FT (Kumar et al. 2022). Trainings whose probes have the same settings share one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import Tensor

from finetuning.engine.checkpoints import Checkpoints, checkpoints_of
from finetuning.engine.hyper import Hyper, Strategy, of_the_probe
from finetuning.engine.loop import Fitted, Run
from finetuning.engine.spec import TrainSpec, canonical, to_json
from finetuning.engine.trainee import Validation

IsOver = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Probe:
    """`head` has every tensor outside of the trunk, on the processor."""

    head: dict[str, Tensor]
    validation: Validation


@dataclass(slots=True)
class Probes:
    """The probes that have been fitted, by their settings. Their checkpoints lie in `run_dir`, apart from those of what
    is trained after them: who was killed goes on with them."""

    run_dir: Path
    _fitted: dict[Hyper, Probe] = field(default_factory=dict)

    def get(self, spec: TrainSpec) -> Probe | None:
        return self._fitted.get(spec.hyper)

    def keep(self, spec: TrainSpec, probe: Probe) -> Probe:
        self._fitted[spec.hyper] = probe
        return probe

    def checkpoints(self, spec: TrainSpec) -> Checkpoints:
        name = hashlib.sha256(canonical(to_json(spec)["hyper"])).hexdigest()[:16]
        return checkpoints_of(spec, self.run_dir, f"probe-{name}")


def order(spec: TrainSpec) -> TrainSpec:
    """Returns the training that is the probe of this one."""
    return replace(spec, strategy=Strategy.HEAD, hyper=of_the_probe(spec.target, spec.hyper))


def fitted(run: Run, is_over: IsOver) -> Fitted:
    """Trains to the end, or until `is_over`, asked after each epoch."""
    for _ in run.epochs():
        if is_over():
            break
    return run.finish()


def never() -> bool:
    return False
