"""Object detection."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from finetuning.engine import (
    box_drawings,
    detecting,
    features,
    frameworks,
    placement,
    probing,
    runtime,
    weights,
)
from finetuning.engine.answers import Answer
from finetuning.engine.detecting import Data, Learner
from finetuning.engine.evaluation import average_precision as coco
from finetuning.engine.evaluation import detector as reports
from finetuning.engine.evaluation import digests
from finetuning.engine.evaluation.average_precision import Found
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import AppFault, UserFault
from finetuning.engine.frameworks import Loaded
from finetuning.engine.hyper import Strategy
from finetuning.engine.packs import PackReader
from finetuning.engine.spec import (
    OUTPUTS_DIR,
    PROBE_FILE,
    EvaluateSpec,
    Preprocessing,
    Task,
    TrainSpec,
)
from finetuning.engine.tasks import Drawing
from finetuning.engine.tasks.detection_training import prepare

__all__ = ["answering", "drawn", "evaluate", "predict", "prepare", "train"]

TOP_BOXES = 100
BATCH = 16


def train(spec: TrainSpec, run_dir: Path, events: EventWriter, device: torch.device) -> dict[str, Any]:
    started = time.perf_counter()
    prepared = prepare(spec, run_dir, events, device)
    data, directory = prepared.data, run_dir / OUTPUTS_DIR
    probe = None
    if spec.strategy is not Strategy.HEAD:
        probe = prepared.probe(spec, events, probing.never)
        weights.save_tensors(directory / PROBE_FILE, probe.head)
    probed_at = time.perf_counter()
    tuned = prepared.start(spec, events, probing.never)
    fitted = prepared.training(spec, tuned, run_dir, events).fit()
    tuned.module.to("cpu").eval()
    tuned = _with_confidence(tuned, data, device, events)
    events.stage("save", "Writing the tuned weights")
    frameworks.write_release(directory / "release", tuned)
    return {
        "validation": {**fitted.validation.metrics, "loss": fitted.validation.loss},
        "best": fitted.best,
        "probe": {"validation_map": probe.validation.metrics["map"]} if probe else {},
        "class_counts": _class_counts(data),
        "confidence": tuned.config["detector"]["confidence"],
        "timing": {"probe_seconds": probed_at - started, "total_seconds": time.perf_counter() - started},
        "precision": str(features.precision(device)).removeprefix("torch."),
    }


def _class_counts(data: Data) -> list[int]:
    """Returns the number of training boxes of each class."""
    counts = [0] * len(data.labels)
    for item in data.train:
        for box in item.boxes:
            counts[int(box[0])] += 1
    return counts


def _with_confidence(tuned: Loaded, data: Data, device: torch.device, events: EventWriter) -> Loaded:
    """Returns the detector with the confidence from which a box counts as found, chosen on validation."""
    found = predict(tuned, data.pack, data.validation, device, events, "validation")
    matches = coco.match([Found.truth(item.boxes) for item in data.validation], found, len(data.labels))
    detector = {**tuned.config["detector"], "confidence": reports.best_confidence(matches)}
    return dataclasses.replace(tuned, config={**tuned.config, "detector": detector})


@torch.inference_mode()
def predict(
    loaded: Loaded, pack: PackReader, items: list[Any], device: torch.device, events: EventWriter, stage: str
) -> list[Found]:
    """Returns what the detector finds in each item, exactly once each, in pixels of its image."""
    spec = loaded.preprocessing or Preprocessing()
    learner = Learner(
        loaded.module.to(device).to(memory_format=torch.channels_last).eval(), placement.side_of(spec.size)
    )
    found: list[Found] = []
    started = time.perf_counter()
    for group, images in features.batches(pack, items, placement.evaluation(spec), BATCH):
        runtime.check_stop()
        answers = learner.detect(images.to(device))
        found += [
            detecting.found_in(placement.fitted(item.size, learner.side), boxes, learner.first_label)
            for item, boxes in zip(group, answers, strict=True)
        ]
        events.progress(stage, len(found), len(items), rate=len(found) / (time.perf_counter() - started))
    loaded.module.to("cpu")
    if len(found) != len(items):
        raise AppFault("count_differs", "Not every image was scored exactly once.")
    return found


def evaluate(spec: EvaluateSpec, run_dir: Path, events: EventWriter, device: torch.device) -> dict[str, Any]:
    pack = PackReader(run_dir / spec.pack)
    if not any(item.boxes for item in pack.items):
        raise UserFault("no_test_images", "There are no test images with boxes. Add images to the dataset.")
    events.stage("evaluate", "Evaluating on the held-out test images")
    tuned = frameworks.load(spec.tuned, run_dir)
    if tuned.labels != spec.labels:
        raise AppFault("labels_differ", "The tuned weights name other classes than the dataset.")
    found = predict(tuned, pack, pack.items, device, events, "evaluate")
    baselines: dict[str, list[Found]] = {}
    if spec.strategy is not Strategy.HEAD:
        bought = frameworks.load(spec.base, run_dir)
        size = (tuned.preprocessing or Preprocessing()).size
        probed = frameworks.detector(bought, spec.labels, size=size)
        learned = weights.load_tensors(run_dir / spec.train_outputs / PROBE_FILE)
        weights.load_strictly(probed.module, {**probed.module.state_dict(), **learned})
        baselines["bought_with_probe"] = predict(probed, pack, pack.items, device, events, "baseline")
    if frameworks.answers(spec.base, run_dir, task=Task.OBJECT_DETECTION, labels=spec.labels):
        baselines["parent"] = predict(frameworks.load(spec.base, run_dir), pack, pack.items, device, events, "parent")
    report = reports.report(
        pack.items,
        found,
        baselines,
        labels=spec.labels,
        confidence=frameworks.confidence(tuned),
        seed=spec.seed,
        leaked=spec.leaked,
    )
    answers = ((item.index, digests.of_boxes(boxes)) for item, boxes in zip(pack.items, found, strict=True))
    return {"evaluation": report, "predictions_sha256": digests.of_answers(answers)}


def drawn(spec: EvaluateSpec, run_dir: Path, rows: list[dict[str, Any]], _device: torch.device) -> Iterator[Drawing]:
    """Yields the worst images with the true boxes and those that were found."""
    pack = PackReader(run_dir / spec.pack)
    item_of = {item.index: item for item in pack.items}
    for row in rows:
        item = item_of[row["index"]]
        yield item.index, box_drawings.compared(pack.image(item), item.boxes, row["found"], spec.labels)


def answering(loaded: Loaded) -> Answer:
    """Returns what `serve` asks: the boxes in pixels of the upright image, the most confident first, and from
    which confidence on the release itself takes them for found."""

    def answer(image: Image.Image, top: int | None) -> dict[str, Any]:
        found = detecting.found_in_image(loaded, image)
        order = np.argsort(-found.scores, kind="stable")[: top or TOP_BOXES]
        return {
            "predictions": [
                {
                    "label": loaded.labels[found.labels[at]],
                    "index": int(found.labels[at]),
                    "confidence": float(found.scores[at]),
                    "box": dict(
                        zip(("left", "top", "right", "bottom"), found.boxes[at].round(2).tolist(), strict=True)
                    ),
                }
                for at in order
            ],
            "width": image.width,
            "height": image.height,
            "threshold": frameworks.confidence(loaded),
        }

    return answer
