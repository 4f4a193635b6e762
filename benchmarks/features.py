"""Features of EfficientNet-Lite0, its last layer's by default: the engine's forward pass against eager float32 in the default layout.

Each side is one process, from its start to its end: imports, loading, decoding, what makes the network faster, and the
forward pass. Both write their table; the accuracy is that of a linear head fitted to it, the same for both.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import sources
from benchmarks.processes import Measured, peer
from benchmarks.reporting import Row, compare
from finetuning.engine import heads
from finetuning.engine.packs import PackReader
from finetuning.engine.spec import Split

REGULARIZATION = 10.0  # what the validation loss chooses on 1,000 images; the same for both tables


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks features", description=__doc__)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--size", type=int, default=224, help="pixels of the network's input")
    parser.add_argument(
        "--reads",
        choices=("last", "stages"),
        default="last",
        help="the layers that the engine reads; the peer: the last",
    )
    parser.add_argument("--at-once", type=int, default=0, help="images that the engine takes through at a time")
    parser.add_argument("--allocator", choices=("kept", "system"), default="kept", help="the engine's memory")
    options = parser.parse_args(arguments)
    wishes = ("--reads", options.reads, "--at-once", str(options.at_once), "--allocator", options.allocator)
    with tempfile.TemporaryDirectory(prefix="features-") as name:
        folder = Path(name)
        data = sources.images(options.images, 100)
        release = sources.efficientnet_lite0(folder, size=options.size)
        packs, _ = sources.packs(folder, data)
        pack = PackReader(packs / "train.pack")
        sides = {}
        for way in ("engine", "eager"):
            measured = peer(
                "benchmarks.forward_pass", way, str(release), str(pack.path), str(folder / f"{way}.npy"), *wishes
            )
            sides[way] = _row(way, measured, accuracy(pack, np.load(folder / f"{way}.npy")))
    speeds = {way: len(pack) / row.seconds for way, row in sides.items()}
    print(f"\nimages/s, start included: {', '.join(f'{way} {speed:.0f}' for way, speed in speeds.items())}")
    compare(
        f"Features of {len(pack):,} images of {data.name}",
        ours=sides["engine"],
        peer=sides["eager"],
        images_per_second=speeds,
        reads=options.reads,
    )


def accuracy(pack: PackReader, table: np.ndarray) -> float:
    """Returns the share of the pack's validation items that a head on the training items' rows gets right."""
    labels = torch.tensor([item.label for item in pack.items])
    trained = torch.tensor([item.split is Split.TRAIN for item in pack.items])
    rows = torch.from_numpy(table)
    head = heads.fit(heads.Samples(rows[trained], labels[trained]), int(labels.max()) + 1, REGULARIZATION)
    return heads.score(head, heads.Samples(rows[~trained], labels[~trained]))[1]


def _row(way: str, measured: Measured, share: float) -> Row:
    title = f"{way}, {measured.result['precision']}"
    return Row(title, measured.seconds, share, measured.peak_mb)
