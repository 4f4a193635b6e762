"""The evaluation of tuned weights that answer any number of labels, beside their baselines: of images and texts alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from finetuning.engine.evaluation import intervals, label_sets, slices
from finetuning.engine.evaluation.intervals import Floats
from finetuning.engine.evaluation.label_sets import LabelSets
from finetuning.engine.frameworks import Loaded
from finetuning.engine.labelling import ANY_CLASSES, FEWEST_SHOWN
from finetuning.engine.packs import Item
from finetuning.engine.spec import EvaluateSpec

_HALF = 0.5  # from which a baseline without thresholds of its own answers a label
Logits = Callable[[Loaded, str], Tensor]  # (N, C) of every item, in their order, told as the stage that is named


def evaluated(
    spec: EvaluateSpec,
    items: Sequence[Item],
    probe: dict[str, Tensor],
    logits: Logits,
    *,
    tuned: Loaded,
    bought: Loaded,
    probed: Loaded | None,
    noun: str,
    counted: Floats | None = None,
) -> dict[str, Any]:
    """Returns the verb's part of the result. The baselines: the model as bought under the probe, unless that is what was
    trained (`probed` is None then); the labels' shares of the training items; `counted`, the logits (N, C) of word and
    character counts; and where the bought weights are multi-label ones of these classes, those as they are. `noun`
    names the items, `probe` holds the tensors of probe.safetensors."""
    truth = ANY_CLASSES.truth(items, len(spec.labels)).numpy() > 0
    indices = np.array([item.index for item in items])
    groups = intervals.numbered([item.group for item in items])

    def answering(values: Floats, thresholds: Sequence[float]) -> LabelSets:
        limits = np.array(thresholds or [_HALF] * len(spec.labels))
        return LabelSets(truth=truth, logits=values, thresholds=limits, indices=indices, groups=groups)

    def scored(loaded: Loaded, stage: str) -> LabelSets:
        return answering(logits(loaded, stage).double().numpy(), loaded.thresholds)

    def served(loaded: Loaded, stage: str) -> LabelSets:
        return scored(loaded, stage).divided_by(loaded.temperature)

    found = scored(tuned, "evaluate")
    baselines: dict[str, LabelSets] = {}
    if probed is not None:
        baselines["bought_with_probe"] = served(probed, "baseline")
    total = int(probe["items"])
    shown = probe["class_counts"].double().clamp(FEWEST_SHOWN, total - FEWEST_SHOWN).numpy() / total
    baselines["prior"] = found.at_prior(shown)
    if counted is not None:
        baselines["tfidf"] = answering(counted, ())
    if bought.is_multi_label and bought.labels == spec.labels:
        baselines["parent"] = served(bought, "parent")
    report = label_sets.report(
        found,
        baselines,
        labels=spec.labels,
        seed=spec.seed,
        noun=noun,
        temperature=tuned.temperature,
        leaked=spec.leaked,
        parts=slices.parts_of(items),
    )
    return {"evaluation": report, "predictions_sha256": found.divided_by(tuned.temperature).sha256}
