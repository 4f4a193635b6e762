"""What a text encoder must reach on rated film snippets to be worth more than word and character counts.

Few training snippets: the frozen encoder under a linear head against counts under a linear head. Many: the tuned
encoder against the same. The evaluation's own figures, on test snippets that are the same in both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import snippets
from benchmarks.processes import engine
from finetuning.engine import spec
from finetuning.engine.spec import Framework, Hyper, Strategy, Task, Verb, WeightsSpec

FEW, MANY = 300, 6000
FEW_FLOOR, MANY_FLOOR = 0.08, 0.02  # accuracy above the counts'
TEST = 2000


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks floor_text", description=__doc__)
    parser.add_argument("--only", choices=("few", "many"), help="run one of the two")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hyper", default="{}", help="choices of the tuned run as JSON, over the task's defaults")
    options = parser.parse_args(arguments)
    rated = snippets.film_reviews()
    rows = []
    if options.only != "many":
        rows.append(measured(rated, Strategy.HEAD, train=FEW, floor=FEW_FLOOR, threads=options.threads, choices={}))
    if options.only != "few":
        choices = json.loads(options.hyper)
        rows.append(
            measured(rated, Strategy.FULL, train=MANY, floor=MANY_FLOOR, threads=options.threads, choices=choices)
        )
    print(f"\n{'training snippets':>18} {'strategy':>9} {'accuracy':>9} {'counts':>7} {'probe':>7} {'seconds':>8}")
    for row in rows:
        probe = f"{row['bought_with_probe']:7.1%}" if "bought_with_probe" in row else f"{'':7}"
        print(
            f"{row['train']:18,} {row['strategy']:>9} {row['accuracy']:9.1%} {row['tfidf']:7.1%} {probe} "
            f"{row['seconds']:8.1f}   {'meets' if row['meets'] else 'MISSES'} +{row['floor']:.0%}"
        )
    print(json.dumps({"rows": rows, "meets": all(row["meets"] for row in rows)}))


def measured(
    rated: snippets.Snippets, strategy: Strategy, *, train: int, floor: float, threads: int, choices: dict[str, Any]
) -> dict[str, Any]:
    """Runs inspect, train and evaluate as the product does; validation is a seventh of the training items."""
    with tempfile.TemporaryDirectory(prefix="floor-text-") as name:
        folder = Path(name)
        held_out = train // 7
        packs, labels = snippets.packs(folder, rated, train=train - held_out, validation=held_out, test=TEST)
        train_dir, test_dir = folder / "train", folder / "evaluate"
        for run_dir in (train_dir, test_dir):
            (run_dir / "inputs").mkdir(parents=True)
        (train_dir / "inputs/release").symlink_to(snippets.minilm())
        (train_dir / "inputs/train.pack").symlink_to(packs / "train.pack")
        (test_dir / "inputs/base").symlink_to(snippets.minilm())
        (test_dir / "inputs/train").symlink_to(train_dir / "outputs")
        (test_dir / "inputs/test.pack").symlink_to(packs / "test.pack")
        hyper = spec.hyper_from(choices, task=Task.TEXT_CLASSIFICATION, strategy=strategy)
        trained = engine(Verb.TRAIN, _train(train_dir, strategy, labels, hyper, threads))
        evaluated = engine(Verb.EVALUATE, _evaluate(test_dir, strategy, labels, threads))
    evaluation = evaluated.result["evaluation"]
    others = {row["kind"]: row for row in evaluation["other_baselines"]}
    accuracy, counts = evaluation["metrics"]["accuracy"]["value"], others["tfidf"]["accuracy"]["value"]
    row = {
        "train": train,
        "test": evaluation["items"],
        "strategy": strategy.value,
        "accuracy": accuracy,
        "tfidf": counts,
        "difference": others["tfidf"]["comparison"]["difference"],
        "p_value": others["tfidf"]["comparison"]["p_value"],
        "floor": floor,
        "meets": accuracy - counts >= floor,
        "seconds": trained.seconds + evaluated.seconds,
        "train_timing": trained.result["timing"],
        "validation": trained.result["validation"],
        "best": trained.result["best"],
        "peak_mb": max(trained.peak_mb, evaluated.peak_mb),
        "precision": trained.result["precision"],
        "hyper": choices,
    }
    kind = evaluation["baseline"]["kind"]
    return {**row, kind: evaluation["baseline"]["accuracy"]["value"]}


def _weights(directory: str) -> WeightsSpec:
    return WeightsSpec(
        task=Task.TEXT_CLASSIFICATION,
        framework=Framework.TRANSFORMERS,
        architecture="BertModel",
        directory=directory,
    )


def _train(run_dir: Path, strategy: Strategy, labels: list[str], hyper: Hyper, threads: int) -> Path:
    order = spec.TrainSpec(
        weights=_weights("inputs/release"), strategy=strategy, labels=tuple(labels), hyper=hyper, threads=threads
    )
    spec.write(order, run_dir)
    return run_dir


def _evaluate(run_dir: Path, strategy: Strategy, labels: list[str], threads: int) -> Path:
    order = spec.EvaluateSpec(
        strategy=strategy,
        base=_weights("inputs/base"),
        tuned=_weights("inputs/train/release"),
        labels=tuple(labels),
        threads=threads,
    )
    spec.write(order, run_dir)
    return run_dir
