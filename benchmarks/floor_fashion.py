"""What a head on EfficientNet-Lite0's frozen stages must reach on Fashion-MNIST with 4,000 training images. The clothes
reach the edges, which the model's own preprocessing cuts off: they are kept.

The regularisation is chosen on validation images out of the 4,000; the test images are part of the official test set.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import floors_report, sources
from finetuning.engine.spec import Crop, Features, Hyper, Strategy

FLOOR = 0.905


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks floor_fashion", description=__doc__)
    parser.add_argument("--train", type=int, default=4000, help="training and validation images")
    parser.add_argument("--test", type=int, default=10_000, help="test images")
    parser.add_argument("--size", type=int, default=224, help="pixels of the network's input")
    parser.add_argument("--features", choices=[kind.value for kind in Features], default="grid", help="what it reads")
    parser.add_argument("--crop", choices=[kind.value for kind in Crop], default="none", help="of the images' edges")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="floor-fashion-") as name:
        row = floors_report.measured(
            Path(name),
            sources.fashion(options.train, options.test),
            strategy=Strategy.HEAD,
            hyper=Hyper(features=Features(options.features), crop=Crop(options.crop)),
            size=options.size,
            floor=FLOOR,
            threads=options.threads,
        )
    floors_report.show([row])
