"""The last stage and the head of EfficientNet-Lite0, the rest frozen: the engine against a plain loop with the same
layers frozen, as many epochs and the same rate.

Ours is the wall time of `train` and `evaluate`, start-up, probe and cross-validation included; the peer evaluates after
each epoch, as one does without a validation split of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import runs, sources
from benchmarks.processes import peer
from benchmarks.reporting import Row, compare
from finetuning.engine.spec import Augmentation, Hyper, Strategy


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks last_stage", description=__doc__)
    parser.add_argument("--train", type=int, default=1000, help="training images")
    parser.add_argument("--test", type=int, default=1000, help="test images")
    parser.add_argument("--size", type=int, default=224, help="pixels of the network's input")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=3e-4)
    options = parser.parse_args(arguments)
    hyper = Hyper(
        epochs=options.epochs,
        patience=options.epochs,
        learning_rate=options.rate,
        augmentation=Augmentation.NONE,
        stages=1,
    )
    with tempfile.TemporaryDirectory(prefix="last-stage-") as name:
        folder = Path(name)
        data = sources.images(options.train, options.test)
        release = sources.efficientnet_lite0(folder, size=options.size)
        packs, labels = sources.packs(folder, data)
        ours = runs.fine_tune(folder, release=release, packs=packs, labels=labels, strategy=Strategy.LAST, hyper=hyper)
        wishes = ("--tune", "last", "--rate", str(options.rate))
        plain = peer("benchmarks.plain_loop", str(release), str(packs), str(options.epochs), *wishes)
    compare(
        f"The last stage, {len(data.train):,} training and {len(data.test):,} test images of {data.name}",
        ours=ours.row(),
        peer=Row(f"plain loop, {options.epochs} epochs", plain.seconds, plain.result["accuracy"], plain.peak_mb),
        dataset=data.name,
        train=len(data.train),
        test=len(data.test),
        best=ours.trained["best"],
        cpu_seconds=ours.took.cpu_seconds,
        epoch_accuracies=plain.result["accuracies"],
    )
