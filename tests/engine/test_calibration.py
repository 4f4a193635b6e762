"""The temperature: found, stored with the release, applied by everyone who answers with confidences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes_factory import LABELS, shape, weights_at, write_pack, write_release

from finetuning.engine import evaluate, frameworks, runtime, train
from finetuning.engine.evaluation import calibration, reliability
from finetuning.engine.evaluation.metrics import Predictions
from finetuning.engine.events import EventWriter
from finetuning.engine.hyper import Strategy
from finetuning.engine.problems import Rejected
from finetuning.engine.serve import Models
from finetuning.engine.spec import EvaluateSpec, Split, TrainSpec


def overconfident(items: int, *, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax at `temperature` is the true distribution of the labels."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(items, 4)) * 1.5
    shares = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    truth = (shares.cumsum(axis=1) < rng.random((items, 1))).sum(axis=1)
    return honest * temperature, truth


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_logits_is_found(temperature: float) -> None:
    logits, truth = overconfident(6000, temperature=temperature)

    found = calibration.temperature(torch.tensor(logits), torch.tensor(truth))

    assert found == pytest.approx(temperature, rel=0.06)


def test_it_is_where_the_loss_is_lowest() -> None:
    logits, truth = (torch.tensor(part) for part in overconfident(500, temperature=2.5))

    found = calibration.temperature(logits, truth)

    at = [calibration.summary(logits, truth, found * factor)["loss_after"] for factor in (0.99, 1.0, 1.01)]
    assert at[1] == min(at)


def test_perfect_answers_do_not_make_it_endless() -> None:
    truth = torch.arange(12) % 3

    found = calibration.temperature(5.0 * torch.nn.functional.one_hot(truth, 3).double(), truth)

    assert calibration.TEMPERATURES[0] <= found <= 1.0


def test_calibration_lowers_every_error_of_confidence_on_other_items() -> None:
    found = calibration.temperature(*(torch.tensor(part) for part in overconfident(2000, temperature=3.0)))
    logits, truth = overconfident(2000, temperature=3.0, seed=1)

    report = reliability.report(
        Predictions(truth=truth, logits=logits, indices=np.arange(2000)), temperature=found, seed=0
    )

    for name, before in report["before"].items():
        assert report["after"][name]["high"] < before["low"], name
    assert sum(row["items"] for row in report["reliability"]["after"]) == 2000
    assert all(row["low"] <= row["confidence"] <= row["high"] + 1e-9 for row in report["reliability"]["before"])


@pytest.mark.parametrize("entry", [{"temperature": 0}, {"temperature": "1"}, {"temperature": True}, [1]])
def test_a_temperature_that_is_none_is_refused(tmp_path: Path, entry: object) -> None:
    path = write_release(tmp_path / "release") / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "calibration": entry}))

    with pytest.raises(Rejected):
        frameworks.load(weights_at("release"), tmp_path)


def test_train_stores_it_evaluate_and_serve_apply_it(tmp_path: Path) -> None:
    runtime.prepare(device="cpu", threads=1)
    inputs = tmp_path / "inputs"
    write_release(inputs / "release")
    write_pack(inputs / "train.pack", {Split.TRAIN: 20, Split.VALIDATION: 15})
    write_pack(inputs / "test.pack", {Split.TEST: 12})
    with EventWriter(tmp_path / "events.jsonl") as events:
        spec = TrainSpec(weights=weights_at("inputs/release"), strategy=Strategy.HEAD, labels=LABELS)
        result = train.run(spec, tmp_path, events)
        order = EvaluateSpec(
            strategy=Strategy.HEAD,
            base=weights_at("inputs/release"),
            tuned=weights_at("outputs/release"),
            labels=LABELS,
            train_outputs="outputs",
        )
        evaluation = evaluate.run(order, tmp_path, events)["evaluation"]

    found = result["calibration"]["temperature"]
    assert result["calibration"]["loss_after"] <= result["calibration"]["loss_before"] + 1e-9
    loaded = frameworks.load(weights_at("outputs/release"), tmp_path)
    assert loaded.temperature == evaluation["calibration"]["temperature"] == pytest.approx(found)
    after = evaluation["calibration"]["after"]
    assert evaluation["metrics"]["negative_log_likelihood"]["value"] == pytest.approx(
        after["negative_log_likelihood"]["value"]
    )
    name = "0" * 40
    (tmp_path / name).symlink_to(tmp_path / "outputs/release")
    document = {"task": "image-classification", "framework": "timm", "architecture": "test_efficientnet"}
    (tmp_path / "outputs/release/weights.json").write_text(json.dumps(document))
    served = {}
    for temperature in (1.0, 2.0):
        path = tmp_path / "outputs/release/config.json"
        config = {**json.loads(path.read_text()), "calibration": {"temperature": temperature}}
        path.write_text(json.dumps(config))
        answer = Models(tmp_path, 1).predict(name, shape("disc", 1), 3)
        served[temperature] = {row["label"]: row["confidence"] for row in answer["predictions"]}
    odds = {at: np.log(shares["disc"] / shares["square"]) for at, shares in served.items()}
    assert odds[1.0] == pytest.approx(2 * odds[2.0], rel=1e-4)


def test_items_without_a_mistake_leave_the_confidences_as_they_are() -> None:
    labels = torch.arange(40) % 4
    logits = 2.0 * torch.nn.functional.one_hot(labels, 4).double()

    assert calibration.temperature(logits, labels) == 1.0
