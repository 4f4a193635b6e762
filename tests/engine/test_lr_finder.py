"""The learning-rate range test: its curve, its suggestion, and that it leaves no trace in what is trained."""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from shapes_factory import LABELS, weights_at, write_pack, write_release
from tiny_trainee import CPU, TinyTrainee, fitted

from finetuning.engine import loop, lr_finder, train
from finetuning.engine.checkpoints import Checkpoints
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import UserFault
from finetuning.engine.hyper import Hyper, Optimizer, Precision, Strategy, Task, applicable
from finetuning.engine.spec import Split, TrainSpec
from finetuning.engine.stepping import training_precision


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def found(trainee: TinyTrainee, run_dir: Path) -> lr_finder.RateTest:
    with EventWriter(run_dir / "events.jsonl") as events:
        return lr_finder.find(trainee, trainee.plan, trainee.hyper, device=CPU, events=events)


def curve(run_dir: Path) -> list[tuple[float, float]]:
    events = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    return [(event["step"], event["value"]) for event in events if event.get("name") == lr_finder.METRIC]


def test_the_valley_is_the_middle_of_the_longest_fall() -> None:
    rates = [10.0**power for power in range(-7, 2)]

    assert lr_finder.valley(rates, [2, 2, 2, 1.9, 1.5, 1.0, 0.8, 3, 9]) == rates[4]
    # A spike inside the fall does not cut it in two.
    assert lr_finder.valley(rates, [2, 1.9, 1.8, 2.5, 1.4, 1.2, 1.1, 3, 9]) == rates[3]


@pytest.mark.parametrize("losses", [[], [1.0], [2.0, 1.99, 1.98, 1.97], [1.0, 2.0, 3.0, 4.0]])
def test_without_a_clear_fall_nothing_is_suggested(losses: list[float]) -> None:
    assert lr_finder.valley([1e-3, 1e-2, 1e-1, 1.0][: len(losses)], losses) is None


def test_a_sweep_leaves_the_module_and_the_plan_bit_equal(tmp_path: Path) -> None:
    trainee = TinyTrainee(Hyper(batch_size=16))
    plan = trainee.plan
    before, groups = copy.deepcopy(trainee.module.state_dict()), [dict(group) for group in plan.groups]

    with EventWriter(tmp_path / "events.jsonl") as events:
        lr_finder.find(trainee, plan, trainee.hyper, device=CPU, events=events)

    after = trainee.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert plan.groups == groups
    assert all(parameter.grad is None for parameter in trainee.module.parameters())


def test_the_curve_is_told_as_it_is_swept_and_stops_where_it_diverges(tmp_path: Path) -> None:
    class Steep(TinyTrainee):
        def loss(self, batch: Any) -> torch.Tensor:
            return 30 * super().loss(batch)

    test = found(Steep(Hyper(batch_size=16, optimizer=Optimizer.SGD, clip_norm=0.0)), tmp_path)

    assert curve(tmp_path) == list(zip(test.rates, test.losses, strict=True))
    assert test.has_diverged
    assert test.rates[0] == lr_finder.LOWEST
    assert test.rates[-1] < lr_finder.HIGHEST
    ratios = [later / earlier for earlier, later in itertools.pairwise(test.rates)]
    assert ratios == pytest.approx([10 ** (7 / 99)] * len(ratios))
    assert test.suggested is not None
    lowest = test.rates[test.losses.index(min(test.losses))]
    assert 1e-5 < test.suggested < lowest


def test_a_loss_that_is_no_number_ends_the_sweep_with_what_there_was(tmp_path: Path) -> None:
    class Breaking(TinyTrainee):
        def loss(self, batch: Any) -> torch.Tensor:
            loss = super().loss(batch)
            return loss if float(self.module[2].weight.detach().abs().max()) < 1 else loss * math.nan

    test = found(Breaking(Hyper(batch_size=16)), tmp_path)

    assert test.has_diverged
    assert 10 < len(test.rates) < lr_finder.STEPS
    assert all(map(math.isfinite, test.losses))


def test_the_same_seed_sweeps_the_same_curve(tmp_path: Path) -> None:
    hyper = Hyper(batch_size=16, accumulation=2)

    assert found(TinyTrainee(hyper), tmp_path) == found(TinyTrainee(hyper), tmp_path)


def test_a_found_rate_rescues_a_run_whose_rate_is_too_low(tmp_path: Path) -> None:
    hyper = {"batch_size": 16, "epochs": 2, "learning_rate": 1e-6}

    asked = fitted(TinyTrainee(Hyper(**hyper)), tmp_path / "asked")
    tested = fitted(TinyTrainee(Hyper(**hyper, find_learning_rate=True)), tmp_path / "tested")

    assert asked.learning_rate == 1e-6
    assert "learning_rate_test" not in asked.best
    assert tested.best["learning_rate_test"]["is_used"]
    assert tested.learning_rate == tested.best["learning_rate_test"]["suggested"] > 1e-4
    assert tested.validation.loss < 0.9 * asked.validation.loss
    assert tested.validation.metrics["accuracy"] > asked.validation.metrics["accuracy"] + 0.15
    assert "as the test suggests" in (tmp_path / "tested/events.jsonl").read_text()


def test_with_few_steps_an_epoch_the_suggestion_is_a_hint(tmp_path: Path) -> None:
    hyper = Hyper(batch_size=32, epochs=1, learning_rate=1e-6, find_learning_rate=True)

    fit = fitted(TinyTrainee(hyper), tmp_path)

    assert fit.rate_test is not None
    assert fit.rate_test["suggested"] is not None
    assert not fit.rate_test["is_used"]
    assert fit.learning_rate == 1e-6
    assert "too short to trust it" in (tmp_path / "events.jsonl").read_text()


def test_a_resumed_run_keeps_the_rate_that_was_found(tmp_path: Path) -> None:
    hyper = Hyper(batch_size=16, epochs=3, learning_rate=1e-6, find_learning_rate=True)
    whole, cut = TinyTrainee(hyper), TinyTrainee(hyper)
    expected = fitted(whole, tmp_path / "whole")
    (tmp_path / "cut").mkdir()

    with EventWriter(tmp_path / "cut/events.jsonl") as events:
        checkpoints = Checkpoints(tmp_path / "cut/checkpoints", identity="tiny")
        run = loop.Run(cut, cut.plan, hyper, device=CPU, events=events, checkpoints=checkpoints, keep_initial=False)
        first = next(run.epochs())  # and then nothing: as a killed process leaves it
    again = TinyTrainee(hyper)
    resumed = fitted(again, tmp_path / "cut")

    assert resumed == expected
    assert first.loss > expected.validation.loss
    assert all(
        torch.equal(one, other)
        for one, other in zip(whole.module.state_dict().values(), again.module.state_dict().values(), strict=True)
    )
    assert (tmp_path / "cut/events.jsonl").read_text().count("Testing learning rates") == 1


def test_a_training_reports_the_rate_it_found(tmp_path: Path) -> None:
    write_release(tmp_path / "inputs/release")
    write_pack(tmp_path / "inputs/train.pack", {Split.TRAIN: 14, Split.VALIDATION: 4})
    hyper = Hyper(epochs=1, batch_size=2, learning_rate=1e-7, find_learning_rate=True, cached_views=1)
    spec = TrainSpec(weights=weights_at("inputs/release"), strategy=Strategy.LAST, labels=LABELS, hyper=hyper)

    with EventWriter(tmp_path / "events.jsonl") as events:
        best = train.run(spec, tmp_path, events)["best"]

    assert best["learning_rate_test"]["rule"] == "valley"
    assert len(curve(tmp_path)) == best["learning_rate_test"]["steps"]
    assert best["learning_rate"] in {1e-7, best["learning_rate_test"]["suggested"]}


def test_the_choice_is_offered_where_something_is_tuned() -> None:
    def offers(strategy: Strategy, task: Task) -> bool:
        return "find_learning_rate" in {entry.name for entry in applicable(strategy, task)}

    assert offers(Strategy.FULL, Task.TEXT_CLASSIFICATION)
    assert offers(Strategy.HEAD, Task.OBJECT_DETECTION)  # a head without a closed form
    assert not offers(Strategy.HEAD, Task.IMAGE_CLASSIFICATION)


def test_float16_without_a_cuda_device_is_refused_with_advice() -> None:
    with pytest.raises(UserFault, match="Choose auto") as caught:
        training_precision(CPU, Precision.FLOAT16)

    assert caught.value.code == "precision_unsupported"
    assert training_precision(CPU, Precision.AUTO) is torch.float32


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [Precision.FLOAT16, Precision.BFLOAT16, Precision.AUTO])
def test_reduced_precision_learns_on_a_gpu_as_float32_does(tmp_path: Path, precision: Precision) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    hyper = {"batch_size": 16, "epochs": 3, "learning_rate": 1e-3}

    full, reduced = (
        fitted(TinyTrainee(Hyper(**hyper, precision=wish), device=torch.device("cuda")), tmp_path / wish)
        for wish in (Precision.FLOAT32, precision)
    )

    assert reduced.validation.metrics["accuracy"] == pytest.approx(full.validation.metrics["accuracy"], abs=0.05)
