"""Detection on digit scenes: EfficientNet-Lite0 as the backbone must find digits on photographs.

The time is that of the product's `train` and `evaluate` processes, start-up and probe included. Digits and
scenes of the test split are never those of training: the upload names the splits.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from benchmarks import sources
from benchmarks.processes import Measured, engine
from finetuning.engine import scenes, spec
from finetuning.engine.hyper import Augmentation
from finetuning.engine.spec import Framework, Hyper, Strategy, Task, Verb, WeightsSpec

FLOOR, FLOOR_SECONDS = 0.90, 480.0
ARCHITECTURE = "tf_efficientnet_lite0"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks floor_detection", description=__doc__)
    parser.add_argument("--scenes", type=int, default=800, help="scenes in all three splits")
    parser.add_argument("--strategy", choices=("head", "last", "full"), default="last")
    parser.add_argument("--stages", type=int, default=5, help="stages to tune; the others are frozen and cached")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--augmentation", choices=tuple(Augmentation), default="light")
    parser.add_argument("--no-probe-start", action="store_true", help="begin with a new head")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    hyper = Hyper(
        batch_size=8,
        epochs=options.epochs,
        stages=options.stages,
        learning_rate=options.rate,
        augmentation=Augmentation(options.augmentation),
        start_from_probe=not options.no_probe_start,
        patience=options.epochs,
    )
    with tempfile.TemporaryDirectory(prefix="floor-detection-") as name:
        folder = Path(name)
        report = packs(folder, options.scenes)
        release = sources.efficientnet_lite0(folder, size=scenes.SIDE)
        trained, evaluated = fine_tune(folder, release, report, Strategy(options.strategy), hyper, options.threads)
    _print(options.scenes, options.strategy, trained, evaluated)


def packs(folder: Path, count: int) -> dict[str, Any]:
    """Inspects an upload of scenes in COCO's format; returns the report."""
    run_dir = folder / "inspect"
    (run_dir / "inputs").mkdir(parents=True)
    with zipfile.ZipFile(run_dir / "inputs/upload", "w", zipfile.ZIP_STORED) as archive:
        for part, made in scenes.by_split(count):
            names = [f"{part}/{number:05d}.png" for number in range(len(made))]
            for name, scene in zip(names, made, strict=True):
                file = io.BytesIO()
                scene.image.save(file, "PNG")
                archive.writestr(name, file.getvalue())
            archive.writestr(f"annotations/instances_{part}.json", scenes.coco(made, names))
    spec.write(spec.InspectSpec(task=Task.OBJECT_DETECTION, salt="floor"), run_dir)
    result = engine(Verb.INSPECT, run_dir).result
    if result["status"] != "valid":
        raise SystemExit(json.dumps(result["problems"], indent=1))
    report: dict[str, Any] = result["report"]
    return report


def fine_tune(
    folder: Path, release: Path, report: dict[str, Any], strategy: Strategy, hyper: Hyper, threads: int
) -> tuple[Measured, Measured]:
    """Runs the two verbs of a fine-tune as the product does, each in a directory of its own."""
    train_dir, test_dir, outputs = folder / "train", folder / "evaluate", folder / "inspect/outputs"
    for run_dir in (train_dir, test_dir):
        (run_dir / "inputs").mkdir(parents=True)
    (train_dir / "inputs/release").symlink_to(release)
    (train_dir / "inputs/train.pack").symlink_to(outputs / "train.pack")
    labels = tuple(report["labels"])
    order = spec.TrainSpec(
        weights=_weights(Task.IMAGE_CLASSIFICATION, "inputs/release"),
        task=Task.OBJECT_DETECTION,
        strategy=strategy,
        hyper=hyper,
        labels=labels,
        threads=threads,
    )
    spec.write(order, train_dir)
    trained = engine(Verb.TRAIN, train_dir)
    (test_dir / "inputs/base").symlink_to(release)
    (test_dir / "inputs/train").symlink_to(train_dir / "outputs")
    (test_dir / "inputs/test.pack").symlink_to(outputs / "test.pack")
    judge = spec.EvaluateSpec(
        strategy=strategy,
        base=_weights(Task.IMAGE_CLASSIFICATION, "inputs/base"),
        tuned=_weights(Task.OBJECT_DETECTION, "inputs/train/release"),
        labels=labels,
        threads=threads,
    )
    spec.write(judge, test_dir)
    return trained, engine(Verb.EVALUATE, test_dir)


def _weights(task: Task, directory: str) -> WeightsSpec:
    return WeightsSpec(task=task, framework=Framework.TIMM, architecture=ARCHITECTURE, directory=directory)


def _print(count: int, strategy: str, trained: Measured, evaluated: Measured) -> None:
    evaluation = evaluated.result["evaluation"]
    seconds = trained.seconds + evaluated.seconds
    metrics = evaluation["metrics"]
    print(f"\nDigit scenes: {count:,} scenes, 10 classes, {scenes.SIDE} px, {strategy}\n")
    for name, estimate in metrics.items():
        print(f"{name:16} {estimate['value']:7.3f}   95% interval {estimate['low']:.3f} to {estimate['high']:.3f}")
    print(f"{'baseline map':16} {evaluation['baseline']['map']['value']:7.3f}   {evaluation['baseline']['title']}")
    print(
        f"{'train, seconds':16} {trained.seconds:7.1f}   of which probe {trained.result['timing']['probe_seconds']:.1f}"
    )
    cpu = trained.cpu_seconds + evaluated.cpu_seconds
    print(f"{'in all, seconds':16} {seconds:7.1f}   of which on a CPU {cpu:.1f}")
    print(f"\n{evaluation['verdict']}\n")
    reached = metrics["map50"]["value"] >= FLOOR and seconds <= FLOOR_SECONDS
    print(
        json.dumps(
            {
                "floor": {"map50": FLOOR, "seconds": FLOOR_SECONDS, "reached": reached},
                "metrics": {name: estimate["value"] for name, estimate in metrics.items()},
                "baseline_map": evaluation["baseline"]["map"]["value"],
                "errors": evaluation["errors"],
                "seconds": seconds,
                "cpu_seconds": cpu,
                "train_seconds": trained.seconds,
                "peak_mb": max(trained.peak_mb, evaluated.peak_mb),
                "scenes": count,
                "strategy": strategy,
                "best": trained.result["best"],
                "probe": trained.result["probe"],
            }
        )
    )
