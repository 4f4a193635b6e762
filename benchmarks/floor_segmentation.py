"""The floor of segmentation: digits on photographs, EfficientNet-Lite0 as the backbone, the product's own verbs.

Passes where the mIoU of the held-out test images is 0.75 or more within 8 minutes of training and evaluation."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import sources
from benchmarks.processes import Measured, engine
from finetuning.engine import scenes, spec
from finetuning.engine.spec import Augmentation, Framework, Hyper, Strategy, Task, Verb, WeightsSpec

FLOOR_MIOU, FLOOR_SECONDS = 0.75, 480.0
DIGITS = (40, 80)  # pixels; the example data's are smaller


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks floor_segmentation", description=__doc__)
    parser.add_argument("--scenes", type=int, default=600, help="images in all")
    parser.add_argument("--strategy", default=Strategy.LAST.value, choices=["head", "last", "full", "scratch"])
    parser.add_argument("--stages", type=int, default=5, help="stages to tune, for the strategy last")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    hyper = Hyper(
        epochs=options.epochs,
        stages=options.stages,
        batch_size=options.batch,
        learning_rate=options.rate,
        augmentation=Augmentation.LIGHT,
        patience=options.epochs,
        seed=options.seed,
    )
    with tempfile.TemporaryDirectory(prefix="floor-segmentation-") as name:
        folder = Path(name)
        packs, report = _packs(folder, options.scenes)
        release = sources.efficientnet_lite0(folder, size=192)
        trained, evaluated = _runs(folder, release, packs, tuple(report["labels"]), options, hyper)
    _print(options.strategy, hyper, report, trained, evaluated)


def _packs(folder: Path, count: int) -> tuple[Path, dict[str, Any]]:
    run_dir = folder / "inspect"
    (run_dir / "inputs").mkdir(parents=True)
    with zipfile.ZipFile(run_dir / "inputs/upload", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("classes.txt", "\n".join(("background", *scenes.LABELS)))
        for part, made in scenes.by_split(count, sizes=DIGITS):
            for number, scene in enumerate(made):
                for kind, picture in (("images", scene.image), ("masks", Image.fromarray(scene.classes))):
                    file = io.BytesIO()
                    picture.save(file, "PNG")
                    archive.writestr(f"{kind}/{part}/{number:05d}.png", file.getvalue())
    spec.write(spec.InspectSpec(task=Task.SEMANTIC_SEGMENTATION, salt="benchmark"), run_dir)
    return run_dir / "outputs", engine(Verb.INSPECT, run_dir).result["report"]


def _runs(
    folder: Path, release: Path, packs: Path, labels: tuple[str, ...], options: argparse.Namespace, hyper: Hyper
) -> tuple[Measured, Measured]:
    strategy = Strategy(options.strategy)
    train_dir, test_dir = folder / "train", folder / "evaluate"
    for run_dir in (train_dir, test_dir):
        (run_dir / "inputs").mkdir(parents=True)
    (train_dir / "inputs/release").symlink_to(release)
    (train_dir / "inputs/train.pack").symlink_to(packs / "train.pack")
    bought = WeightsSpec(task=Task.IMAGE_CLASSIFICATION, framework=Framework.TIMM, architecture="tf_efficientnet_lite0")
    order = spec.TrainSpec(
        weights=bought,
        task=Task.SEMANTIC_SEGMENTATION,
        strategy=strategy,
        labels=labels,
        hyper=hyper,
        threads=options.threads,
    )
    spec.write(order, train_dir)
    trained = engine(Verb.TRAIN, train_dir)
    (test_dir / "inputs/release").symlink_to(release)
    (test_dir / "inputs/train").symlink_to(train_dir / "outputs")
    (test_dir / "inputs/test.pack").symlink_to(packs / "test.pack")
    tuned = dataclasses.replace(bought, task=Task.SEMANTIC_SEGMENTATION, directory="inputs/train/release")
    spec.write(
        spec.EvaluateSpec(strategy=strategy, base=bought, tuned=tuned, labels=labels, threads=options.threads), test_dir
    )
    return trained, engine(Verb.EVALUATE, test_dir)


def _print(strategy: str, hyper: Hyper, report: dict[str, Any], trained: Measured, evaluated: Measured) -> None:
    evaluation = evaluated.result["evaluation"]
    miou, baseline = evaluation["metrics"]["miou"], evaluation["baseline"]
    seconds = trained.seconds + evaluated.seconds
    print(f"\nDigit scenes, {report['splits']}, strategy {strategy}\n")
    print(f"{'class':12} {'IoU':>7} {'low':>7} {'high':>7} {'Dice':>7} {'pixels':>9}")
    for row in evaluation["per_class"]:
        iou = row["iou"]
        print(
            f"{row['label']:12} {iou['value']:7.3f} {iou['low']:7.3f} {iou['high']:7.3f} {row['dice']:7.3f} "
            f"{row['pixels']:9,}"
        )
    print(f"\nmIoU {miou['value']:.3f} ({miou['low']:.3f} to {miou['high']:.3f}); {baseline['title']}: ", end="")
    print(f"{baseline['miou']['value']:.3f}\n{evaluation['verdict']}")
    print(
        f"train {trained.seconds:.0f} s ({trained.cpu_seconds:.0f} s of processor time), evaluate "
        f"{evaluated.seconds:.0f} s ({evaluated.cpu_seconds:.0f} s), peak {trained.peak_mb:.0f} MiB\n"
    )
    print(
        json.dumps(
            {
                "miou": miou,
                "floor": FLOOR_MIOU,
                "seconds": seconds,
                "limit_seconds": FLOOR_SECONDS,
                "passed": miou["value"] >= FLOOR_MIOU and seconds <= FLOOR_SECONDS,
                "cpu_seconds": trained.cpu_seconds + evaluated.cpu_seconds,
                "train_seconds": trained.seconds,
                "evaluate_seconds": evaluated.seconds,
                "peak_mb": trained.peak_mb,
                "baseline": baseline,
                "pixel_accuracy": evaluation["metrics"]["pixel_accuracy"]["value"],
                "validation": trained.result["validation"],
                "best": trained.result["best"],
                "loss": trained.result["loss"],
                "timing": trained.result["timing"],
                "strategy": strategy,
                "hyper": dataclasses.asdict(hyper),
                "splits": report["splits"],
            }
        )
    )
