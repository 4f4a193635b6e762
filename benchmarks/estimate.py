"""What the verb `estimate` says of a fine-tune, and what the fine-tune then takes.

`python -m benchmarks estimate [--train N] [--test N] [--size PIXELS] [--epochs N] [--strategies head last full]` runs, for
each strategy, the estimate and then the training and evaluation that it is of, each a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import runs, sources
from benchmarks.processes import engine
from finetuning.engine import spec
from finetuning.engine.spec import Hyper, Strategy, Verb

AIM = 0.2  # of the actual time, either way


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks estimate", description=__doc__)
    parser.add_argument("--train", type=int, default=2000, help="training images")
    parser.add_argument("--test", type=int, default=1000, help="test images")
    parser.add_argument("--size", type=int, default=96, help="pixels of the network's input")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--strategies", nargs="+", default=["head", "last", "full"])
    options = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory(prefix="estimate-") as name:
        folder = Path(name)
        data = sources.images(options.train, options.test)
        release = sources.efficientnet_lite0(folder, size=options.size)
        packs, labels = sources.packs(folder, data)
        for strategy in map(Strategy, options.strategies):
            # Without an early end: what is compared is the time of so many epochs.
            hyper = Hyper(epochs=options.epochs, patience=options.epochs)
            given: dict[str, Any] = {"release": release, "packs": packs, "labels": labels, "hyper": hyper}
            rows.append(_row(folder / strategy.value, strategy, test_items=len(data.test), **given))
    _report(rows, data.name)


def _row(folder: Path, strategy: Strategy, *, test_items: int, **given: Any) -> dict[str, Any]:
    run_dir = folder / "estimate"
    (run_dir / "inputs").mkdir(parents=True)
    (run_dir / "inputs/release").symlink_to(given["release"])
    (run_dir / "inputs/train.pack").symlink_to(given["packs"] / "train.pack")
    order = spec.TrainSpec(
        weights=runs.efficientnet("inputs/release"),
        strategy=strategy,
        labels=tuple(given["labels"]),
        hyper=given["hyper"],
    )
    spec.write(spec.EstimateSpec(order=order, test_items=test_items), run_dir)
    told = engine(Verb.ESTIMATE, run_dir)
    run = runs.fine_tune(folder, strategy=strategy, **given)
    estimated = told.result["estimate"]["seconds"]
    return {
        "strategy": strategy.value,
        "estimate_took": round(told.seconds, 1),
        "estimated": round(estimated, 1),
        "actual": round(run.took.seconds, 1),
        "ratio": round(run.took.seconds / estimated, 2),
        "memory_ratio": round(run.trained["peak_memory_bytes"] / told.result["peak_memory_bytes"], 2),
    }


def _report(rows: list[dict[str, Any]], name: str) -> None:
    print(f"\nEstimates of fine-tunes on {name}, seconds\n")
    print("".join(f"{column:>15}" for column in rows[0]))
    for row in rows:
        print("".join(f"{value:>15}" for value in row.values()))
    is_met = all(abs(row["ratio"] - 1) <= AIM for row in rows)
    print(f"\n{'Met' if is_met else 'Missed'}: the actual time within {AIM:.0%} of the estimate.\n")
    print(json.dumps({"rows": rows, "is_met": is_met, "load": os.getloadavg()[0]}))
