"""Head-only work on texts against Transformers' Trainer: MiniLM frozen, its classifier trained, the same film snippets.

The engine is timed through `train` and `evaluate`; the peer through its epochs, each evaluated on the test snippets.
`reached` says whether the engine is no less accurate than the peer in the end.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import peers, runs, snippets
from benchmarks.processes import peer
from benchmarks.reporting import Row, compare
from finetuning.engine import spec
from finetuning.engine.spec import Strategy, Task


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks trainer", description=__doc__)
    parser.add_argument("--train", type=int, default=2000, help="training snippets, a seventh of them for validation")
    parser.add_argument("--test", type=int, default=2000, help="test snippets")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args(arguments)
    peers.need("accelerate")
    held_out = options.train // 7
    with tempfile.TemporaryDirectory(prefix="trainer-") as name:
        folder = Path(name)
        rated = snippets.film_reviews()
        packs, labels = snippets.packs(
            folder, rated, train=options.train - held_out, validation=held_out, test=options.test
        )
        ours = runs.fine_tune(
            folder,
            release=snippets.minilm(),
            packs=packs,
            labels=labels,
            hyper=spec.hyper_from({}, task=Task.TEXT_CLASSIFICATION, strategy=Strategy.HEAD),
            weights=runs.minilm,
        )
        theirs = peer("benchmarks.trainer_fit", str(snippets.minilm()), str(packs), str(options.epochs))
    compare(
        f"Head-only on {options.train:,} training and {options.test:,} test snippets",
        ours=ours.row(),
        peer=Row(
            f"Trainer {theirs.result['version']}, {options.epochs} epochs",
            theirs.seconds,
            theirs.result["accuracy"],
            theirs.peak_mb,
        ),
        reached=ours.accuracy >= theirs.result["accuracy"],
        epoch_accuracies=theirs.result["accuracies"],
    )
