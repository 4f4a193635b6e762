"""Fine-tunes of image classifiers as the product does them: the verbs `train` and `evaluate`, a directory each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import Taken, worker
from benchmarks.reporting import Row
from finetuning.engine import spec
from finetuning.engine.spec import Framework, Hyper, Strategy, Task, Verb, WeightsSpec


@dataclass(frozen=True, slots=True)
class FineTune:
    """One fine-tune by a fresh worker."""

    took: Taken
    trained: dict[str, Any]
    evaluated: dict[str, Any]

    @property
    def evaluation(self) -> dict[str, Any]:
        found: dict[str, Any] = self.evaluated["evaluation"]
        return found

    @property
    def accuracy(self) -> float:
        return float(self.evaluation["metrics"]["accuracy"]["value"])

    def row(self) -> Row:
        return Row("engine: train + evaluate", self.took.seconds, self.accuracy, self.took.peak_mb)


def weights_of(directory: str, *, task: Task, framework: Framework, architecture: str) -> WeightsSpec:
    return WeightsSpec(task=task, framework=framework, architecture=architecture, directory=directory)


def efficientnet(directory: str) -> WeightsSpec:
    return weights_of(
        directory, task=Task.IMAGE_CLASSIFICATION, framework=Framework.TIMM, architecture="tf_efficientnet_lite0"
    )


def minilm(directory: str) -> WeightsSpec:
    return weights_of(
        directory, task=Task.TEXT_CLASSIFICATION, framework=Framework.TRANSFORMERS, architecture="BertModel"
    )


def fine_tune(  # one fine-tune has so many inputs
    folder: Path,
    *,
    release: Path,
    packs: Path,
    labels: list[str],
    strategy: Strategy = Strategy.HEAD,
    hyper: Hyper | None = None,
    threads: int = 0,
    weights: Any = efficientnet,
) -> FineTune:
    """Runs both verbs; `weights` makes the spec of the weights in a directory. `folder` holds no run yet."""
    train_dir, test_dir = folder / "train", folder / "evaluate"
    for run_dir in (train_dir, test_dir):
        (run_dir / "inputs").mkdir(parents=True)
    (train_dir / "inputs/release").symlink_to(release)
    (train_dir / "inputs/train.pack").symlink_to(packs / "train.pack")
    order = spec.TrainSpec(
        weights=weights("inputs/release"),
        strategy=strategy,
        labels=tuple(labels),
        hyper=hyper or Hyper(),
        threads=threads,
    )
    spec.write(order, train_dir)
    (test_dir / "inputs/base").symlink_to(release)
    (test_dir / "inputs/train").symlink_to(train_dir / "outputs")  # which will be there
    (test_dir / "inputs/test.pack").symlink_to(packs / "test.pack")
    judge = spec.EvaluateSpec(
        strategy=strategy,
        base=weights("inputs/base"),
        tuned=weights("inputs/train/release"),
        labels=tuple(labels),
        threads=threads,
    )
    spec.write(judge, test_dir)
    took = worker({Verb.TRAIN: train_dir, Verb.EVALUATE: test_dir})
    return FineTune(took, took.results[Verb.TRAIN], took.results[Verb.EVALUATE])
