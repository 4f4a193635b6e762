"""Cross-validation of the head on cached features: how well the bought model's features tell these classes apart,
judged by every training and validation item instead of the few that a split sets aside.

Valid only on features of a backbone that never saw these items: those of tuned weights are refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import stdtrit
from torch import Tensor, nn

from finetuning.engine import heads, runtime
from finetuning.engine.evaluation import folds, intervals, ridge
from finetuning.engine.evaluation.intervals import CONFIDENCE, Estimate, Floats, Ints
from finetuning.engine.failures import AppFault
from finetuning.engine.labelling import ONE_CLASS, Labelling

FEW_ITEMS, FOLDS, FOLDS_OF_FEW = 300, 5, 10
# 32 MB of float64, of which leave-one-out needs several copies. Of more items the folds are judgement enough.
MAX_ENTRIES = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenFeatures:
    """`table` (N, D) float32, `labels` as `labelling` has them, `groups` (N,) numbered from 0; `backbone` is the digest
    of the network that computed the table."""

    table: Tensor
    labels: Tensor
    groups: Ints
    backbone: str
    labelling: Labelling = ONE_CLASS


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """`logits` (N, C) of each item come from the head that was fitted without its fold, `fold` (N,)."""

    logits: Floats
    fold: Ints
    folds: int


def digest(module: nn.Module) -> str:
    """Returns the sha256 over the names and bytes of the module's tensors."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(name.encode() + b"\0" + tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def check(features: FrozenFeatures, *, bought: str) -> None:
    """Raises AppFault `features_not_frozen` for features of any backbone but the one that was bought."""
    if features.backbone != bought:
        raise AppFault("features_not_frozen", "Cross-validation is valid only on features of the model as bought.")


def out_of_fold(features: FrozenFeatures, *, classes: int, regularization: float, seed: int) -> OutOfFold | None:
    """Returns out-of-fold logits of stratified folds that divide no group: 5, or 10 with fewer than 300 items, or
    as many as the smallest class has groups; of label sets, whose rarest label need not be in every fold, as many as
    there are groups. None where that is fewer than two."""
    labels, groups, is_multi = features.labels.numpy(), features.groups, features.labelling.is_multi
    parts = [groups] if is_multi else [groups[labels == label] for label in np.unique(labels)]
    smallest = min(len(np.unique(part)) for part in parts)
    count = min(FOLDS_OF_FEW if len(labels) < FEW_ITEMS else FOLDS, smallest)
    if count < 2:
        return None
    logits, fold = np.zeros((len(labels), classes)), folds.stratified(labels, groups, count=count, seed=seed)
    for number in range(count):
        runtime.check_stop()
        held = torch.from_numpy(fold == number)
        # From nothing, not from the head of all items: a start that has seen the fold would leak into it.
        samples = heads.Samples(features.table, features.labels, used=~held, labelling=features.labelling)
        head = heads.fit(samples, classes, regularization, dtype=torch.float32)
        logits[held.numpy()] = head.logits(features.table[held]).double().numpy()
    return OutOfFold(logits, fold, count)


def summary(found: OutOfFold, features: FrozenFeatures) -> dict[str, Any]:
    """Returns the part `cross_validation` of the result. The mean's interval is Nadeau and Bengio's; `pooled` is
    the share of all items with its Wilson interval, which leaves out that folds share their training items. Label sets
    have none: heads of different folds rank no images together."""
    logits, labelling = torch.from_numpy(found.logits), features.labelling
    inside = [torch.from_numpy(found.fold == number) for number in range(found.folds)]
    scores = [labelling.score(logits[part], features.labels[part]) for part in inside]
    summed = {
        "k": found.folds,
        "items": len(logits),
        "groups": int(features.groups.max()) + 1,
        labelling.metric: scores,
        "mean": corrected_interval(scores).to_json(),
    }
    if labelling.is_multi:
        return summed
    return {**summed, "pooled": _wilson(found.logits.argmax(axis=1) == features.labels.numpy(), features.groups)}


def corrected_interval(accuracies: list[float]) -> Estimate:
    """Returns the mean of k folds with the corrected resampled t interval (Nadeau and Bengio 2003, Machine Learning
    52, section 3): variance (1/k + n_test / n_train) s^2 with n_test / n_train = 1 / (k - 1), because folds
    share most of their training items and no unbiased estimate exists. Equal folds get the width of one step
    of 1 / k, for lack of any measured spread."""
    folds, mean = len(accuracies), float(np.mean(accuracies))
    spread = float(np.std(accuracies, ddof=1))
    half = float(stdtrit(folds - 1, (1 + CONFIDENCE) / 2)) * spread * (1 / folds + 1 / (folds - 1)) ** 0.5
    plain = Estimate(mean, max(0.0, mean - half), min(1.0, mean + half))
    return intervals.never_of_zero_width(plain, count=folds, bounds=(0.0, 1.0))


def leave_one_out(features: FrozenFeatures, *, classes: int) -> dict[str, Any] | None:
    """Returns the part `leave_one_out` of the result, or None for more than `MAX_ENTRIES` numbers. The penalty is chosen by the same left-out errors: nine values leave little room for luck. None also of
    label sets: a fit without an item has a lower prior of the labels that it shows, and so ranks it too low."""
    items, width = features.table.shape
    if items * width > MAX_ENTRIES or features.labelling.is_multi:
        return None
    labels = features.labels.numpy()
    rows = ridge.standardized(features.table.double().numpy())
    best = ridge.choose(ridge.leave_group_out(rows, labels, groups=features.groups, classes=classes))
    right = best.scores.argmax(axis=1) == labels
    return {
        "method": "ridge",
        "penalty": best.penalty,
        "items": items,
        "groups": int(features.groups.max()) + 1,
        "accuracy": _wilson(right, features.groups),
    }


def _wilson(right: npt.NDArray[np.bool_], groups: Ints) -> dict[str, float]:
    return intervals.wilson_of(right, groups).to_json()
