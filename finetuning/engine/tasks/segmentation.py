"""Semantic segmentation: a class for each pixel."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from finetuning.engine import canvas, features, frameworks, palettes, probing, runtime, weights
from finetuning.engine.answers import Answer
from finetuning.engine.evaluation import digests, pixels, segmenter
from finetuning.engine.evaluation.segmenter import Scored
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import AppFault, UserFault
from finetuning.engine.frameworks import Loaded, segmenters
from finetuning.engine.gathering import MAX_SHORT_SIDE
from finetuning.engine.hyper import Strategy, Task
from finetuning.engine.images import shrink
from finetuning.engine.packs import Item, PackReader
from finetuning.engine.spec import OUTPUTS_DIR, PROBE_FILE, EvaluateSpec, Preprocessing, TrainSpec
from finetuning.engine.tasks import Drawing
from finetuning.engine.tasks.segmentation_runs import prepare, with_head

__all__ = ["answering", "drawn", "evaluate", "prepare", "train"]

_HEAD_PREFIX = "head."
_OVERLAY_SIDE = 512  # pixels


def train(spec: TrainSpec, run_dir: Path, events: EventWriter, device: torch.device) -> dict[str, Any]:
    started = time.perf_counter()
    prepared = prepare(spec, run_dir, events, device)
    data, directory = prepared.data, run_dir / OUTPUTS_DIR
    kept: dict[str, Any] = {"pixel_counts": data.pixel_counts}
    part: dict[str, Any] = {}
    if spec.strategy is not Strategy.HEAD:
        probe = prepared.probe(spec, events, probing.never)
        kept |= {f"{_HEAD_PREFIX}{name}": tensor for name, tensor in probe.head.items()}
        part["probe"] = {"validation_miou": probe.validation.metrics["miou"]}
    seconds = time.perf_counter() - started
    tuned = prepared.start(spec, events, probing.never)
    fitted = prepared.training(spec, tuned, run_dir, events).fit()
    tuned.module.to("cpu").eval()
    weights.save_tensors(directory / PROBE_FILE, kept)
    events.stage("save", "Writing the tuned weights")
    frameworks.write_release(directory / "release", tuned)
    return {
        "validation": {**fitted.validation.metrics, "loss": fitted.validation.loss},
        "best": fitted.best,
        **part,
        "loss": prepared.loss.value,
        "pixel_shares": (data.pixel_counts / data.pixel_counts.sum()).tolist(),
        "timing": {"probe_seconds": seconds, "total_seconds": time.perf_counter() - started},
        "precision": str(features.precision(device)).removeprefix("torch."),
    }


def evaluate(spec: EvaluateSpec, run_dir: Path, events: EventWriter, device: torch.device) -> dict[str, Any]:
    pack = PackReader(run_dir / spec.pack)
    if not pack.items:
        raise UserFault("no_test_images", "There are no test images. Add images to the dataset.")
    events.stage("evaluate", "Evaluating on the held-out test images")
    tuned = frameworks.load(spec.tuned, run_dir)
    if tuned.task is not Task.SEMANTIC_SEGMENTATION or tuned.labels != spec.labels:
        raise AppFault("labels_differ", "The tuned weights name other classes than the dataset.")
    scored = _score(tuned, pack, device, events, "evaluate")
    probe = weights.load_tensors(run_dir / spec.train_outputs / PROBE_FILE)
    baselines: dict[str, Scored] = {}
    if spec.strategy is not Strategy.HEAD:
        baselines["bought_with_probe"] = _score(_probed(spec, run_dir, probe), pack, device, events, "baseline")
    baselines["majority"] = segmenter.majority(scored, int(probe["pixel_counts"].argmax()))
    if frameworks.answers(spec.base, run_dir, task=Task.SEMANTIC_SEGMENTATION, labels=spec.labels):
        baselines["parent"] = _score(frameworks.load(spec.base, run_dir), pack, device, events, "parent")
    report = segmenter.report(scored, baselines, labels=spec.labels, seed=spec.seed, leaked=spec.leaked)
    report["palette"] = palettes.hex_colors(len(spec.labels))
    return {"evaluation": report, "predictions_sha256": scored.sha256}


def _probed(spec: EvaluateSpec, run_dir: Path, probe: dict[str, torch.Tensor]) -> Loaded:
    """Returns the model as bought under the head that was fitted to it in training."""
    head = {name.removeprefix(_HEAD_PREFIX): tensor for name, tensor in probe.items() if name.startswith(_HEAD_PREFIX)}
    return with_head(segmenters.started(frameworks.load(spec.base, run_dir), spec.labels, seed=0), head)


@torch.inference_mode()
def _score(loaded: Loaded, pack: PackReader, device: torch.device, events: EventWriter, stage: str) -> Scored:
    """Returns the confusion of every item on the stored image's own pixels, exactly once each."""
    confusions, answers = [], []
    started = time.perf_counter()
    for items, predicted in _predictions(loaded, pack, pack.items, device):
        for item, classes in zip(items, predicted, strict=True):
            truth = np.asarray(pack.mask(item))
            confusions.append(pixels.confusion(truth, classes, len(loaded.labels)))
            answers.append(digests.of_classes(classes))
        events.progress(stage, len(confusions), len(pack.items), rate=len(confusions) / (time.perf_counter() - started))
    if len(confusions) != len(pack.items):
        raise AppFault("count_differs", "Not every test image was scored exactly once.")
    return Scored(
        indices=[item.index for item in pack.items],
        groups=[item.group or f"item {item.index}" for item in pack.items],
        confusions=confusions,
        answers=answers,
    )


@torch.inference_mode()
def _predictions(loaded: Loaded, pack: PackReader, items: list[Item], device: torch.device) -> Any:
    """Yields (items, the class of each pixel of each, (H, W) uint8)."""
    module = loaded.module.to(device).to(memory_format=torch.channels_last).eval()
    spec = loaded.preprocessing or Preprocessing()

    def view(_item: Item, image: Any) -> torch.Tensor:
        return canvas.evaluation_view(image, None, spec)[0]

    for group, images in features.batches(pack, items, view, features.BATCH):
        runtime.check_stop()
        logits = module(images.to(device).contiguous(memory_format=torch.channels_last))["out"].float().cpu()
        yield (
            group,
            [canvas.classes_on(own, (item.width, item.height)) for own, item in zip(logits, group, strict=True)],
        )


def drawn(spec: EvaluateSpec, run_dir: Path, rows: list[dict[str, Any]], device: torch.device) -> Iterator[Drawing]:
    """Yields the worst images under the truth and beside it under the prediction."""
    tuned, pack = frameworks.load(spec.tuned, run_dir), PackReader(run_dir / spec.pack)
    item_of = {item.index: item for item in pack.items}
    for group, predicted in _predictions(tuned, pack, [item_of[row["index"]] for row in rows], device):
        for item, classes in zip(group, predicted, strict=True):
            truth = np.asarray(pack.mask(item))
            yield item.index, palettes.comparison(pack.image(item), truth, classes, side=_OVERLAY_SIDE)


def answering(loaded: Loaded) -> Answer:
    """Returns what `serve` asks: the class of each pixel as a palette PNG, and each class's color and share of
    the pixels."""

    def answer(image: Image.Image, _top: int | None) -> dict[str, Any]:
        image = shrink(image, MAX_SHORT_SIDE)  # as in training: a mask of more pixels would show no more
        pixels, _ = canvas.evaluation_view(image, None, loaded.preprocessing or Preprocessing())
        classes = canvas.classes_on(loaded.module(pixels.unsqueeze(0))["out"][0], image.size)
        counts = np.bincount(classes.ravel(), minlength=len(loaded.labels))
        colors = palettes.hex_colors(len(loaded.labels))
        return {
            "mask": {
                "png": base64.b64encode(palettes.palette_png(classes)).decode(),
                "width": image.width,
                "height": image.height,
            },
            "classes": [
                {"label": label, "index": place, "color": colors[place], "share": int(counts[place]) / classes.size}
                for place, label in enumerate(loaded.labels)
            ],
        }

    return answer
