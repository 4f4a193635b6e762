"""Head-only fine-tuning of EfficientNet-Lite0 at 224 px: the engine against the loop of a tutorial.

Ours is the wall time of the product's two processes, `train` and `evaluate`, start-up included; the peer's
is that of one process which decodes the same packs, trains for three epochs and evaluates after each.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import sources
from benchmarks.processes import Measured, engine, peer
from benchmarks.reporting import Row, compare
from finetuning.engine import spec
from finetuning.engine.spec import Framework, Strategy, Task, Verb, WeightsSpec

EPOCHS = 3


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks head_only", description=__doc__)
    parser.add_argument("--train", type=int, default=1000, help="training images")
    parser.add_argument("--test", type=int, default=1000, help="test images")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="head-only-") as name:
        folder = Path(name)
        data = sources.images(options.train, options.test)
        release = sources.efficientnet_lite0(folder)
        packs, labels = sources.packs(folder, data)
        trained, evaluated = ours(folder, release, packs, labels)
        plain = peer("benchmarks.plain_loop", str(release), str(packs), str(EPOCHS))
    accuracy = evaluated.result["evaluation"]["metrics"]["accuracy"]["value"]
    compare(
        f"Head-only on {len(data.train):,} training and {len(data.test):,} test images of {data.name}",
        ours=Row(
            "engine: train + evaluate",
            trained.seconds + evaluated.seconds,
            accuracy,
            max(trained.peak_mb, evaluated.peak_mb),
        ),
        peer=Row(f"plain loop, {EPOCHS} epochs", plain.seconds, plain.result["accuracy"], plain.peak_mb),
        dataset=data.name,
        train=len(data.train),
        test=len(data.test),
        precision=trained.result["precision"],
        epoch_accuracies=plain.result["accuracies"],
    )


def ours(folder: Path, release: Path, packs: Path, labels: list[str]) -> tuple[Measured, Measured]:
    """Runs the two verbs of a fine-tune as the product does, each in a directory of its own."""
    train_dir, test_dir = folder / "train", folder / "evaluate"
    for run_dir in (train_dir, test_dir):
        (run_dir / "inputs").mkdir(parents=True)
    (train_dir / "inputs/release").symlink_to(release)
    (train_dir / "inputs/train.pack").symlink_to(packs / "train.pack")
    spec.write(
        spec.TrainSpec(weights=_weights("inputs/release"), strategy=Strategy.HEAD, labels=tuple(labels)), train_dir
    )
    trained = engine(Verb.TRAIN, train_dir)
    (test_dir / "inputs/base").symlink_to(release)
    (test_dir / "inputs/train").symlink_to(train_dir / "outputs")
    (test_dir / "inputs/test.pack").symlink_to(packs / "test.pack")
    spec.write(
        spec.EvaluateSpec(
            strategy=Strategy.HEAD,
            base=_weights("inputs/base"),
            tuned=_weights("inputs/train/release"),
            labels=tuple(labels),
        ),
        test_dir,
    )
    return trained, engine(Verb.EVALUATE, test_dir)


def _weights(directory: str) -> WeightsSpec:
    return WeightsSpec(
        task=Task.IMAGE_CLASSIFICATION,
        framework=Framework.TIMM,
        architecture="tf_efficientnet_lite0",
        directory=directory,
    )
