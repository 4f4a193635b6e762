"""The memory of a head-only run on few and on ten times as many images: it must hardly grow.

The row of the peer is the same run on the small dataset; `grown_mb` is the difference that is bounded.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import runs, sources
from benchmarks.reporting import Row, compare

LIMIT_MB = 300


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks memory", description=__doc__)
    parser.add_argument("--images", type=int, default=2000, help="training images of the smaller run")
    parser.add_argument("--factor", type=int, default=10, help="the larger run has so many times as many")
    parser.add_argument("--size", type=int, default=224, help="pixels of the network's input")
    options = parser.parse_args(arguments)
    small, large = (measured(count, size=options.size) for count in (options.images, options.images * options.factor))
    grown = large.peak_mb - small.peak_mb
    print(f"\n{grown:+.0f} MiB; the limit is {LIMIT_MB}")
    compare(
        "Memory of train and evaluate",
        ours=large,
        peer=small,
        grown_mb=grown,
        limit_mb=LIMIT_MB,
        reached=grown <= LIMIT_MB,
    )


def measured(count: int, *, size: int) -> Row:
    """Runs head-only on `count` training and as many test images divided by ten."""
    with tempfile.TemporaryDirectory(prefix="memory-") as name:
        folder = Path(name)
        data = sources.images(count, count // 10)
        if len(data.train) < count:
            raise SystemExit(f"{data.name} has {len(data.train):,} training images only: install Fashion-MNIST.")
        release = sources.efficientnet_lite0(folder, size=size)
        packs, labels = sources.packs(folder, data)
        run = runs.fine_tune(folder, release=release, packs=packs, labels=labels)
        return Row(f"{count:,} images", run.took.seconds, run.accuracy, run.took.peak_mb)
