"""The verb `estimate`: a rehearsal by the code that trains, for every task and strategy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import engine_runs
import pytest
from texts_factory import run_verb

from finetuning.engine import estimate, spec
from finetuning.engine.failures import UserFault
from finetuning.engine.hyper import Strategy, Task
from finetuning.engine.spec import EstimateSpec, TrainSpec


def order_of(made: engine_runs.EngineRun, strategy: Strategy, **hyper: object) -> TrainSpec:
    chosen = {"epochs": 4, "batch_size": 8, **hyper}
    return TrainSpec(
        weights=engine_runs.weights_of(made.task, "inputs/release"),
        task=made.task,
        strategy=strategy,
        labels=tuple(made.inspection["report"]["labels"]),
        hyper=spec.hyper_from(chosen, task=made.task, strategy=strategy),
        threads=1,
    )


def estimated(made: engine_runs.EngineRun, run_dir: Path, order: TrainSpec, **given: int) -> dict[str, object]:
    run_dir.mkdir()
    (run_dir / "inputs").symlink_to(made.directory / "train/inputs")
    result: dict[str, object] = run_verb(estimate, EstimateSpec(order=order, **given), run_dir)
    return result


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("strategy", [Strategy.HEAD, Strategy.LAST, Strategy.FULL])
def test_every_task_and_strategy_is_rehearsed_by_its_own_code(
    made: dict[Task, engine_runs.EngineRun], tmp_path: Path, task: Task, strategy: Strategy
) -> None:
    result = estimated(made[task], tmp_path / "run", order_of(made[task], strategy), test_items=50)

    found = result["estimate"]
    assert isinstance(found, dict)
    assert 0 < found["shortest_seconds"] <= found["seconds"] == pytest.approx(sum(found["parts"].values()), abs=0.01)
    assert result["peak_memory_bytes"]
    trains_in_steps = strategy is not Strategy.HEAD or task in (Task.OBJECT_DETECTION, Task.SEMANTIC_SEGMENTATION)
    assert bool(found["step_seconds"]) is trains_in_steps
    assert {"load", "evaluate", "save"} <= set(found["parts"])
    assert not (tmp_path / "run" / estimate.FOLDER).exists()
    assert list((tmp_path / "run/outputs").iterdir()) == []


def test_a_rehearsal_keeps_to_a_few_items_of_every_class(
    made: dict[Task, engine_runs.EngineRun], tmp_path: Path
) -> None:
    one = made[Task.TEXT_CLASSIFICATION]

    found = estimated(one, tmp_path / "run", order_of(one, Strategy.FULL), steps=4)["estimate"]

    assert isinstance(found, dict)
    assert found["rehearsed"]["train"] == 16 < found["whole"]["train"]
    assert found["steps_measured"] == 4
    told = [json.loads(line)["kind"] for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    assert "stage" in told
    assert "metric" not in told


def test_what_the_training_refuses_is_refused_here(made: dict[Task, engine_runs.EngineRun], tmp_path: Path) -> None:
    one = made[Task.OBJECT_DETECTION]
    order = replace(order_of(one, Strategy.FULL), strategy=Strategy.LORA)

    with pytest.raises(UserFault, match="strategy"):
        estimated(one, tmp_path / "run", order)
