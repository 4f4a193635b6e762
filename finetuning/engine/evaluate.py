"""Scores a finished training on the test items, which no training process is ever given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from finetuning.engine import comparison, features, frameworks, metrics, preprocessing, runtime, weights
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import AppFault, UserFault
from finetuning.engine.frameworks import Loaded
from finetuning.engine.metrics import Predictions
from finetuning.engine.packs import Item, PackReader
from finetuning.engine.spec import EvaluateSpec, Preprocessing, Strategy
from finetuning.engine.train import PROBE_FILE, labels_of


def run(spec: EvaluateSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns `evaluation` as docs/engine.md describes it."""
    device = runtime.choose_device(spec.device)
    pack = PackReader(run_dir / spec.pack)
    if not pack.items:
        raise UserFault("no_test_images", "There are no test images. Add images to the dataset.")
    events.stage("evaluate", "Evaluating on the held-out test images")
    tuned = frameworks.load(spec.tuned, run_dir)
    if tuned.labels != spec.labels:
        raise AppFault("labels_differ", "The tuned weights name other classes than the dataset.")
    predictions = _predict(tuned, pack, device, events, "evaluate")
    if spec.strategy is Strategy.FULL:
        kind, title = "bought_with_probe", "The model as bought, with a linear probe"
        baseline = _predict(_with_probe(spec, run_dir), pack, device, events, "baseline")
        baseline_right = baseline.is_right
    else:
        kind, title = "majority", "Always guessing the most frequent class"
        baseline_right = predictions.truth == _majority(run_dir / spec.train_outputs)
    compared = comparison.compare(predictions.is_right, baseline_right, seed=spec.seed)
    measured = metrics.measure(predictions, seed=spec.seed)
    baseline_accuracy = metrics.wilson(int(baseline_right.sum()), len(baseline_right))
    counts = metrics.confusion(predictions)
    return {
        "evaluation": {
            "split": "test",
            "items": len(pack.items),
            "labels": list(spec.labels),
            "metrics": measured,
            "per_class": metrics.per_class(counts, spec.labels),
            "confusion": counts.tolist(),
            "worst": metrics.worst(predictions, spec.labels),
            "baseline": {"kind": kind, "title": title, "accuracy": baseline_accuracy.to_json()},
            "comparison": compared.to_json(),
            "verdict": comparison.sentence(
                compared,
                title=title[0].lower() + title[1:],
                accuracy=measured["accuracy"]["value"],
                baseline=baseline_accuracy.value,
                items=len(pack.items),
            ),
            "verdict_code": compared.verdict.value,
        }
    }


def _with_probe(spec: EvaluateSpec, run_dir: Path) -> Loaded:
    probe = weights.load_tensors(run_dir / spec.train_outputs / PROBE_FILE)
    bought = frameworks.load(spec.base, run_dir)
    if frameworks.head_of(bought).in_features != probe["weight"].shape[1]:
        bought = frameworks.with_stage_head(bought)  # as the probe read it
    return frameworks.replace_head(bought, spec.labels, probe["weight"], probe["bias"])


def _majority(train_outputs: Path) -> int:
    """Returns the class with the most training items."""
    probe = weights.load_tensors(train_outputs / PROBE_FILE)
    return int(probe["class_counts"].argmax())


def _predict(loaded: Loaded, pack: PackReader, device: torch.device, events: EventWriter, stage: str) -> Predictions:
    """Returns the logits of every item, exactly once each."""
    to_input = preprocessing.transform(loaded.preprocessing or Preprocessing())

    def transform(_item: Item, image: Image.Image) -> Tensor:
        return to_input(image)

    logits, _ = features.extract(loaded.module, pack, pack.items, transform, device=device, events=events, stage=stage)
    if len(logits) != len(pack.items):
        raise AppFault("count_differs", "Not every test image was scored exactly once.")
    return Predictions(
        truth=labels_of(pack.items).numpy(),
        logits=logits.double().numpy(),
        indices=np.array([item.index for item in pack.items]),
    )
