"""What each task offers, and that nothing is offered which it would refuse."""

from __future__ import annotations

from enum import StrEnum
from typing import get_type_hints

import pytest

from finetuning.engine import spec, titles
from finetuning.engine.presets import BALANCED, BEST, QUICK, WORKED_EXAMPLE
from finetuning.engine.spec import LOSSES, PRESETS, STRATEGIES, Hyper, Loss, Optimizer, SpecError, Strategy, Task


@pytest.mark.parametrize("task", Task)
def test_every_preset_is_a_run_that_the_task_takes(task: Task) -> None:
    for preset in PRESETS[task]:
        read = spec.defaults_for(task, preset.strategy)

        hyper = spec.hyper_from(preset.hyper, task=task, strategy=preset.strategy)

        assert set(preset.hyper) <= set(read), "a preset must not set what its strategy does not read"
        assert {name: getattr(hyper, name) for name in preset.hyper} == preset.hyper
    assert [preset.name for preset in PRESETS[task]][:3] == [QUICK, BALANCED, BEST]


def test_the_worked_example_has_the_numbers_that_it_is_known_by() -> None:
    example = spec.preset_of(Task.IMAGE_CLASSIFICATION, WORKED_EXAMPLE)

    hyper = spec.hyper_from(example.hyper, task=Task.IMAGE_CLASSIFICATION, strategy=example.strategy)

    assert (hyper.optimizer, hyper.learning_rate, hyper.batch_size, hyper.epochs) == (Optimizer.ADAM, 1e-4, 64, 10)
    assert hyper.patience >= hyper.epochs
    with pytest.raises(SpecError) as caught:
        spec.preset_of(Task.TEXT_CLASSIFICATION, WORKED_EXAMPLE)
    assert caught.value.field == "preset"


@pytest.mark.parametrize(
    ("task", "strategy", "values", "field"),
    [
        (Task.OBJECT_DETECTION, Strategy.LORA, {}, "strategy"),
        (Task.SEMANTIC_SEGMENTATION, Strategy.LORA, {}, "strategy"),
        (Task.SEMANTIC_SEGMENTATION, Strategy.FULL, {"loss": Loss.CLASS_BALANCED}, "loss"),
        (Task.IMAGE_CLASSIFICATION, Strategy.FULL, {"loss": Loss.LOVASZ}, "loss"),
        (Task.TEXT_CLASSIFICATION, Strategy.FULL, {"loss": Loss.CROSS_ENTROPY_DICE}, "loss"),
        (Task.OBJECT_DETECTION, Strategy.FULL, {"loss": Loss.FOCAL}, "loss"),
    ],
)
def test_what_a_task_does_not_have_is_refused_with_its_field(
    task: Task, strategy: Strategy, values: dict[str, str], field: str
) -> None:
    with pytest.raises(SpecError) as caught:
        spec.hyper_from(values, task=task, strategy=strategy)

    assert caught.value.field == field
    assert "Choose" in str(caught.value)


def test_settings_that_were_not_chosen_are_those_of_the_task_and_strategy() -> None:
    hyper = spec.hyper_from({"epochs": 7}, task=Task.TEXT_CLASSIFICATION, strategy=Strategy.LORA)

    assert (hyper.epochs, hyper.learning_rate, hyper.schedule) == (7, 3e-4, "linear")


@pytest.mark.parametrize("task", Task)
def test_every_choice_of_a_task_has_a_name_for_people(task: Task) -> None:
    kinds = {kind for kind in get_type_hints(Hyper).values() if isinstance(kind, type) and issubclass(kind, StrEnum)}

    assert all(titles.title_of(member) for kind in kinds for member in kind)
    assert all(titles.STRATEGIES[strategy] and titles.SENTENCES[strategy] for strategy in STRATEGIES[task])
    assert LOSSES[task][0] is Loss.AUTO
