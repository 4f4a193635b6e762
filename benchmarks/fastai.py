"""Head-only work against fastai: `fit_one_cycle` on the frozen body of the same weights, for the same images.

The engine is timed through `train` and `evaluate`; the peer through its epochs, each validated on the test images. The
ratio holds only where the engine is no less accurate than the peer in the end: `reached` says so.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import peers, runs, sources
from benchmarks.processes import peer
from benchmarks.reporting import Row, compare


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks fastai", description=__doc__)
    parser.add_argument("--train", type=int, default=1000, help="training images")
    parser.add_argument("--test", type=int, default=1000, help="test images")
    parser.add_argument("--size", type=int, default=224, help="pixels of the network's input")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args(arguments)
    peers.need("fastai")
    with tempfile.TemporaryDirectory(prefix="fastai-") as name:
        folder = Path(name)
        data = sources.images(options.train, options.test)
        release = sources.efficientnet_lite0(folder, size=options.size)
        packs, labels = sources.packs(folder, data)
        ours = runs.fine_tune(folder, release=release, packs=packs, labels=labels)
        theirs = peer("benchmarks.fastai_fit", str(release), str(packs), str(options.epochs))
    compare(
        f"Head-only on {len(data.train):,} training and {len(data.test):,} test images of {data.name}",
        ours=ours.row(),
        peer=Row(
            f"fastai {theirs.result['version']}, {options.epochs} epochs",
            theirs.seconds,
            theirs.result["accuracy"],
            theirs.peak_mb,
        ),
        reached=ours.accuracy >= theirs.result["accuracy"],
        epoch_accuracies=theirs.result["accuracies"],
    )
