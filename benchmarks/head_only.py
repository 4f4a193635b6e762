"""Head-only fine-tuning of EfficientNet-Lite0 at 224 px: the engine against the loop of a tutorial.

Ours is the wall time of the product's two processes, `train` and `evaluate`, start-up included; the peer's
is that of one process which decodes the same packs, trains for three epochs and evaluates after each.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import runs, sources
from benchmarks.processes import peer
from benchmarks.reporting import Row, compare

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
        ours = runs.fine_tune(folder, release=release, packs=packs, labels=labels)
        plain = peer("benchmarks.plain_loop", str(release), str(packs), str(EPOCHS))
    compare(
        f"Head-only on {len(data.train):,} training and {len(data.test):,} test images of {data.name}",
        ours=ours.row(),
        peer=Row(f"plain loop, {EPOCHS} epochs", plain.seconds, plain.result["accuracy"], plain.peak_mb),
        dataset=data.name,
        train=len(data.train),
        test=len(data.test),
        precision=ours.trained["precision"],
        cpu_seconds=ours.took.cpu_seconds,
        epoch_accuracies=plain.result["accuracies"],
    )
