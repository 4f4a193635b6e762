"""The whole of EfficientNet-Lite0 tuned: images a second of the engine against those of a plain loop.

Both see every training image as often and are timed from the start of the process to its end, evaluations of the test
images included. The engine also fits the probe and validates each epoch on images of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks import runs, sources
from benchmarks.processes import peer
from benchmarks.reporting import Row, compare
from finetuning.engine import features
from finetuning.engine.spec import Augmentation, Hyper, Precision, Strategy


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks full", description=__doc__)
    parser.add_argument("--train", type=int, default=1000, help="training images")
    parser.add_argument("--test", type=int, default=200, help="test images")
    parser.add_argument("--size", type=int, default=224, help="pixels of the network's input")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=3e-4)
    multiplies = str(features.precision(torch.device("cpu"))).removeprefix("torch.")
    parser.add_argument(
        "--precision",
        choices=tuple(Precision),
        default=multiplies,
        help="of the engine's steps; without one bfloat16 where this processor multiplies it in hardware",
    )
    options = parser.parse_args(arguments)
    hyper = Hyper(
        epochs=options.epochs,
        patience=options.epochs,
        learning_rate=options.rate,
        augmentation=Augmentation.NONE,
        precision=Precision(options.precision),
    )
    with tempfile.TemporaryDirectory(prefix="full-") as name:
        folder = Path(name)
        data = sources.images(options.train, options.test)
        release = sources.efficientnet_lite0(folder, size=options.size)
        packs, labels = sources.packs(folder, data)
        ours = runs.fine_tune(folder, release=release, packs=packs, labels=labels, strategy=Strategy.FULL, hyper=hyper)
        wishes = ("--tune", "full", "--rate", str(options.rate))
        plain = peer("benchmarks.plain_loop", str(release), str(packs), str(options.epochs), *wishes)
    split = sum(ours.trained["class_counts"])  # the engine keeps the others for validation
    speeds = {
        "ours": split * options.epochs / ours.took.seconds,
        "peer": len(data.train) * options.epochs / plain.seconds,
    }
    print(f"\nimages/s of training: engine {speeds['ours']:.1f}, plain loop {speeds['peer']:.1f}")
    compare(
        f"All layers, {len(data.train):,} training and {len(data.test):,} test images of {data.name}",
        ours=ours.row(),
        peer=Row(f"plain loop, {options.epochs} epochs", plain.seconds, plain.result["accuracy"], plain.peak_mb),
        ratio=speeds["ours"] / speeds["peer"],
        dataset=data.name,
        images_per_second=speeds,
        precision=options.precision,
        best=ours.trained["best"],
        cpu_seconds=ours.took.cpu_seconds,
        epoch_accuracies=plain.result["accuracies"],
    )
