"""The linear probe: features of the bought network, computed once, and a head fitted to them.

It is the head-only fine-tune, the start of LP-FT (Kumar et al. 2022, arXiv 2202.10054), and the baseline that
every other strategy has to beat.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finetuning.engine import heads, runtime
from finetuning.engine.evaluation import audit, crossval, folds, intervals
from finetuning.engine.events import EventWriter
from finetuning.engine.labelling import ONE_CLASS, Labelling
from finetuning.engine.packs import Item
from finetuning.engine.spec import Split
from finetuning.engine.trainee import Validation

# Under so many validation items their loss says too little to choose by: on 42 film snippets it chose a C ten times
# too large and cost 2 points of accuracy (`python -m benchmarks floor_text --only few`).
FEW_VALIDATION = 100
_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Probe:
    """`start` was fitted to the training items alone, so that validation items can judge what starts from it;
    `head` to training and validation items together, at the regularisation that `point` chose."""

    head: heads.LinearHead
    point: heads.Point
    seconds: float
    backbone: str  # the digest of the network that computed the table
    table: Tensor  # (N, D): the features of the training, then of the validation items
    labelling: Labelling = ONE_CLASS

    @property
    def validation(self) -> Validation:
        """The score of `start`."""
        loss = self.point.validation_loss
        return Validation(loss, loss, {self.labelling.metric: self.point.validation_score})

    @property
    def summary(self) -> dict[str, float]:
        return {
            "regularization": self.point.regularization,
            f"validation_{self.labelling.metric}": self.point.validation_score,
        }

    @property
    def start(self) -> heads.LinearHead:
        return self.point.head


def fit(
    features: Callable[[], Tensor],
    labels: Tensor,
    *,
    groups: Sequence[str],
    training: int,
    classes: int,
    events: EventWriter,
    backbone: str = "",
    labelling: Labelling = ONE_CLASS,
) -> Probe:
    """Fits the head to the table that `features` computes, (N, D): the first `training` rows are the training
    items, the rest the validation items, on which the regularisation is chosen; where they are few, on folds of
    the training items, which divide none of the `groups` (N,)."""
    started = time.perf_counter()
    events.stage("features", "Computing the frozen features once")
    table = features()
    events.stage("head", "Fitting the head")
    samples = heads.Samples(table, labels, labelling=labelling)
    train, validation = (
        replace(samples, features=table[part], labels=labels[part])
        for part in (slice(None, training), slice(training, None))
    )
    path = []
    for point in heads.regularization_path(train, validation, classes):
        runtime.check_stop()
        path.append(point)
        for name, values in (
            ("loss", (point.train_loss, point.validation_loss)),
            (labelling.metric, (point.train_score, point.validation_score)),
        ):
            for which, value in zip((Split.TRAIN, Split.VALIDATION), values, strict=True):
                events.metric(name, which.value, len(path), value)
    point = heads.choose(path)
    if len(labels) - training < FEW_VALIDATION and not labelling.is_multi:
        point = by_folds(path, train, intervals.numbered(list(groups)[:training]), classes)
    measured = f"validation {labelling.metric.replace('_', ' ')} {point.validation_score:.1%}"
    events.log(f"C = {point.regularization:g}: {measured}.")
    head = heads.fit(samples, classes, point.regularization)
    return Probe(head, point, time.perf_counter() - started, backbone, table, labelling)


def by_folds(path: list[heads.Point], train: heads.Samples, groups: intervals.Ints, classes: int) -> heads.Point:
    """Returns the point of the path whose regularisation has the lowest loss on stratified folds held out of the
    training items; that of the lowest validation loss where the smallest class has fewer than two groups."""
    labels = train.labels.numpy()
    smallest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    count = min(_FOLDS, smallest)
    if count < 2:
        return heads.choose(path)
    fold, sums = folds.stratified(labels, groups, count=count, seed=0), dict.fromkeys(heads.REGULARIZATIONS, 0.0)
    for number in range(count):
        held = torch.from_numpy(fold == number)
        kept, left = (heads.Samples(train.features[which], train.labels[which]) for which in (~held, held))
        found = {}
        for point in heads.regularization_path(kept, left, classes):
            runtime.check_stop()
            found[point.regularization] = point.validation_loss * int(held.sum())
        for regularization in sums:  # a path that ends early has passed its best
            sums[regularization] += found.get(regularization, float("inf"))
    return min(path, key=lambda point: sums[point.regularization])


def saved(probe: Probe, class_counts: list[int], items: int) -> dict[str, Tensor]:
    """Returns the tensors of probe.safetensors: what the evaluation rebuilds the baselines from."""
    return {
        "weight": probe.head.weight,
        "bias": probe.head.bias,
        "class_counts": torch.tensor(class_counts, dtype=torch.int64),
        "items": torch.tensor([items], dtype=torch.int64),
    }


def judged(
    probe: Probe, items: Sequence[Item], bought: nn.Module, *, names: tuple[str, ...], seed: int, events: EventWriter
) -> dict[str, Any]:
    """Returns `cross_validation`, `leave_one_out` and `label_audit` of the head on the table's items, each only
    where the data allow it. `bought` is the network that must have computed the table."""
    labelling = probe.labelling
    events.stage("cross_validation", "Cross-validating the head on the frozen features")
    frozen = crossval.FrozenFeatures(
        table=probe.table,
        labels=labelling.truth(items, len(names)),
        groups=intervals.numbered([item.group for item in items]),
        backbone=probe.backbone,
        labelling=labelling,
    )
    crossval.check(frozen, bought=crossval.digest(bought))
    part: dict[str, Any] = {}
    if left_out := crossval.leave_one_out(frozen, classes=len(names)):
        part["leave_one_out"] = left_out
    regularization = probe.point.regularization
    found = crossval.out_of_fold(frozen, classes=len(names), regularization=regularization, seed=seed)
    if found is not None:
        part["cross_validation"] = crossval.summary(found, frozen)
        indices = np.array([item.index for item in items])
        report = audit.report_of_sets if labelling.is_multi else audit.report
        given = frozen.labels.long().numpy()
        part["label_audit"] = report(found.logits, given, indices=indices, names=names)
    return part
