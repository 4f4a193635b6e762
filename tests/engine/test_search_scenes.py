"""The search for detectors and segmenters: trials are chosen by mAP and mIoU on validation, and share their probe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from archives_factory import inspected
from scenes_factory import BOXED, MASKED, backbone, mask_upload, weights_at, yolo_upload
from texts_factory import run_verb

from finetuning.engine import search, spec, train
from finetuning.engine.events import EventWriter
from finetuning.engine.headlines import CHOSEN_BY_HEADLINE, HEADLINES
from finetuning.engine.hyper import Hyper, of_the_probe
from finetuning.engine.packs import PackReader, training_items
from finetuning.engine.spec import Optimizer, SearchSpec, Strategy, Task

LABELS = {Task.OBJECT_DETECTION: BOXED, Task.SEMANTIC_SEGMENTATION: MASKED}
UPLOADS = {Task.OBJECT_DETECTION: yolo_upload, Task.SEMANTIC_SEGMENTATION: mask_upload}
COUNT = 24
QUICK = {"epochs": 2, "batch_size": 8, "patience": 9, "augmentation": "none"}
TASKS = pytest.mark.parametrize("task", CHOSEN_BY_HEADLINE)


class KilledError(Exception):
    pass


class _Fragile(EventWriter):
    """Dies as it is about to tell of the named curve's epoch: what is on disk is what a kill would leave."""

    def __init__(self, path: Path, *, name: str, epoch: int) -> None:
        super().__init__(path)
        self._dies_at = (name, epoch)

    def metric(self, name: str, split: str, step: float, value: float) -> None:
        if (self._part + name, step) == self._dies_at:
            raise KilledError
        super().metric(name, split, step, value)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[Task, Path]:
    root, found = tmp_path_factory.mktemp("scenes"), {}
    backbone(root / "release")
    for task, upload in UPLOADS.items():
        inspection, found[task] = root / f"{task}-inspect", root / task
        inspection.mkdir()
        assert inspected(inspection, upload(COUNT), task=task, salt="x")["status"] == "valid"
        found[task].mkdir()
        (found[task] / "release").symlink_to(root / "release")
        (found[task] / "train.pack").symlink_to(inspection / "outputs/train.pack")
    return found


def wished(task: Task, *strategies: Strategy, fixed: dict[str, Any] | None = None, **choices: Any) -> SearchSpec:
    return SearchSpec(
        weights=weights_at("inputs/release"),
        task=task,
        strategies=strategies,
        labels=LABELS[task],
        fixed={**QUICK, **(fixed or {})},
        device="cpu",
        threads=1,
        **choices,
    )


def laid_out(run_dir: Path, inputs: Path) -> Path:
    (run_dir / "outputs").mkdir(parents=True)
    (run_dir / "inputs").symlink_to(inputs)
    return run_dir


def without_seconds(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [{**row, "seconds": 0} for row in result["trials"]]


def lines(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]


def epochs_told(run_dir: Path, suffix: str) -> list[tuple[str, int]]:
    """Returns (curve, epoch) of every validation that was told, of the curves that end so."""
    told = [row for row in lines(run_dir) if row["kind"] == "metric" and row["split"] == "validation"]
    return [(row["name"], row["step"]) for row in told if row["name"].endswith(suffix)]


@TASKS
def test_a_search_chooses_by_the_task_s_own_score_and_its_winner_trains_to_the_same(
    tmp_path: Path, inputs: dict[Task, Path], task: Task
) -> None:
    run_dir = laid_out(tmp_path / "a", inputs[task])
    key = HEADLINES[task][0]

    result = run_verb(search, wished(task, Strategy.LAST, trials=3), run_dir)

    rows, winner = result["trials"], result["winner"]
    assert all(row["objective"] == -row["validation"][key] for row in rows)
    assert winner["validation"][key] == max(row["validation"][key] for row in rows)
    assert len({row["values"]["learning_rate"] for row in rows}) == 3
    assert result["validation_items"] == len(training_items(PackReader(inputs[task] / "train.pack").items)[1])
    document = json.loads((run_dir / "outputs/spec.json").read_text())
    again = run_verb(train, spec.from_json(document), laid_out(tmp_path / "b", inputs[task]))
    assert again["validation"] == pytest.approx(winner["validation"])
    assert again["best"]["epoch"] == winner["best_epoch"]
    # Trials that differ in their rates share one probe, and the frozen stages before the head and the last stages.
    assert {name for name, _ in epochs_told(run_dir, "probe_loss")} == {"trial_1_probe_loss"}
    logs = [row["message"] for row in lines(run_dir) if row["kind"] == "log"]
    assert sum("Caching" in message for message in logs) == 2


@TASKS
def test_a_race_lets_heads_compete_at_every_rung(tmp_path: Path, inputs: dict[Task, Path], task: Task) -> None:
    racers = (Strategy.HEAD, Strategy.LAST, Strategy.SCRATCH)
    wish = wished(task, *racers, trials=3, space=(), fixed={"epochs": 3, "start_from_probe": False})
    run_dir = laid_out(tmp_path / "a", inputs[task])

    result = run_verb(search, wish, run_dir)

    assert sorted(row["epochs"] for row in result["trials"]) == [1, 1, 3]
    assert sorted(row["ended"] for row in result["trials"]) == ["finished", "pruned", "pruned"]
    assert result["winner"]["epochs"] == 3
    assert epochs_told(run_dir, "probe_loss") == []  # nobody begins with one


@TASKS
@pytest.mark.parametrize(
    ("curve", "epoch"), [("trial_1_probe_loss", 2), ("trial_2_loss", 2)], ids=["in the probe", "in a trial"]
)
def test_a_search_that_died_goes_on_within_the_probe_and_the_trial(
    tmp_path: Path, inputs: dict[Task, Path], task: Task, curve: str, epoch: int
) -> None:
    wish = wished(task, Strategy.FULL, trials=2)
    whole = run_verb(search, wish, laid_out(tmp_path / "whole", inputs[task]))
    run_dir = laid_out(tmp_path / "cut", inputs[task])
    with _Fragile(run_dir / "events.jsonl", name=curve, epoch=epoch) as events, pytest.raises(KilledError):
        search.run(wish, run_dir, events)

    resumed = run_verb(search, wish, run_dir)

    assert without_seconds(resumed) == without_seconds(whole)
    assert epochs_told(run_dir, "loss") == epochs_told(tmp_path / "whole", "loss")  # each once, in order


@TASKS
def test_a_budget_that_ends_in_the_probe_still_gives_an_answer(
    tmp_path: Path, inputs: dict[Task, Path], task: Task
) -> None:
    wish = wished(task, Strategy.FULL, trials=9, budget_seconds=1e-6, fixed={"epochs": 50})
    run_dir = laid_out(tmp_path / "a", inputs[task])

    result = run_verb(search, wish, run_dir)

    assert [(row["epochs"], row["ended"]) for row in result["trials"]] == [(1, "budget")]
    assert epochs_told(run_dir, "probe_loss") == [("trial_1_probe_loss", 1)]


@TASKS
def test_the_baseline_is_fitted_at_rates_of_its_own(task: Task) -> None:
    run = Hyper(batch_size=4, epochs=7, learning_rate=1e-6, optimizer=Optimizer.SGD, seed=3)

    probe = of_the_probe(task, run)

    defaults = spec.defaults_for(task, Strategy.HEAD)
    assert (probe.learning_rate, probe.optimizer) == (defaults["learning_rate"], Optimizer.ADAMW)
    assert (probe.batch_size, probe.epochs, probe.seed) == (4, 7, 3)
