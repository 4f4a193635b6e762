"""How the accuracy floors of image classifiers are run and printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import runs, sources
from benchmarks.sources import Images
from finetuning.engine.spec import Hyper, Strategy


def measured(  # everything that makes one row
    folder: Path, data: Images, *, strategy: Strategy, hyper: Hyper, size: int, floor: float, threads: int
) -> dict[str, Any]:
    """Inspects, trains and evaluates in `folder`; returns one row."""
    release = sources.efficientnet_lite0(folder, size=size)
    packs, labels = sources.packs(folder, data)
    run = runs.fine_tune(
        folder, release=release, packs=packs, labels=labels, strategy=strategy, hyper=hyper, threads=threads
    )
    estimate = run.evaluation["metrics"]["accuracy"]
    return {
        "dataset": data.name,
        "train": len(data.train),
        "test": len(data.test),
        "strategy": strategy.value,
        "size": size,
        "accuracy": estimate["value"],
        "interval": [estimate["low"], estimate["high"]],
        "floor": floor,
        "meets": estimate["value"] >= floor,
        "validation": run.trained["validation"],
        "cross_validation": run.trained.get("cross_validation"),
        "best": run.trained["best"],
        "seconds": run.took.seconds,
        "cpu_seconds": run.took.cpu_seconds,
        "peak_mb": run.took.peak_mb,
    }


def show(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'':14} {'train':>7} {'test':>6} {'strategy':>9} {'size':>5} {'accuracy':>9} {'floor':>7} {'seconds':>8}")
    for row in rows:
        print(
            f"{row['dataset']:14} {row['train']:7,} {row['test']:6,} {row['strategy']:>9} {row['size']:5} "
            f"{row['accuracy']:9.2%} {row['floor']:7.1%} {row['seconds']:8.1f}   "
            f"{'meets' if row['meets'] else 'MISSES'} ({row['interval'][0]:.2%} to {row['interval'][1]:.2%})"
        )
    print(json.dumps({"rows": rows, "meets": all(row["meets"] for row in rows)}))
