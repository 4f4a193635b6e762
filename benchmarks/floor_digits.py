"""What EfficientNet-Lite0 must reach on scikit-learn's digits: head-only, and tuned from that head (LP-FT)."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import floors_report, sources
from finetuning.engine.spec import Augmentation, Hyper, Strategy

HEAD_FLOOR, TUNED_FLOOR = 0.965, 0.99
TEST = 360  # a fifth of the 1,797; the engine takes its validation images from the others


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks floor_digits", description=__doc__)
    parser.add_argument("--only", choices=("head", "full"), help="run one of the two")
    parser.add_argument("--train", type=int, default=1437, help="training and validation images")
    parser.add_argument("--test", type=int, default=TEST, help="test images")
    parser.add_argument("--size", type=int, default=64, help="pixels of the network's input")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    hyper = Hyper(
        epochs=options.epochs, learning_rate=options.rate, augmentation=Augmentation.LIGHT, patience=options.epochs
    )
    floors = {Strategy.HEAD: HEAD_FLOOR, Strategy.FULL: TUNED_FLOOR}
    rows = []
    for strategy, floor in floors.items():
        if options.only not in (None, strategy.value):
            continue
        with tempfile.TemporaryDirectory(prefix="floor-digits-") as name:
            rows.append(
                floors_report.measured(
                    Path(name),
                    sources.digits(options.train, options.test),
                    strategy=strategy,
                    hyper=hyper,
                    size=options.size,
                    floor=floor,
                    threads=options.threads,
                )
            )
    floors_report.show(rows)
