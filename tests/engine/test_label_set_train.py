"""Images of any number of labels from training to the answer, the file and the receipt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from label_sets_factory import scene, write_pack
from shapes_factory import ARCHITECTURE, LABELS, weights_at, write_release

from finetuning.engine import evaluate, export, frameworks, runtime, serve, train, verify_receipt
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import UserFault
from finetuning.engine.hyper import Augmentation, Hyper, Loss, Strategy
from finetuning.engine.problems import Rejected
from finetuning.engine.spec import EvaluateSpec, ExportSpec, Split, TrainSpec

QUICK = Hyper(epochs=4, batch_size=16, learning_rate=2e-3, augmentation=Augmentation.NONE)


def run(run_dir: Path, strategy: Strategy, hyper: Hyper = QUICK) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the results of train and evaluate in one directory."""
    runtime.prepare(device="cpu", threads=1)
    write_release(run_dir / "inputs/release")
    write_pack(run_dir / "inputs/train.pack", {Split.TRAIN: 72, Split.VALIDATION: 36})
    write_pack(run_dir / "inputs/test.pack", {Split.TEST: 40})
    order = TrainSpec(weights=weights_at("inputs/release"), strategy=strategy, labels=LABELS, hyper=hyper)
    judged = EvaluateSpec(
        strategy=strategy,
        base=weights_at("inputs/release"),
        tuned=weights_at("outputs/release"),
        labels=LABELS,
        train_outputs="outputs",
    )
    with EventWriter(run_dir / "events.jsonl") as events:
        return train.run(order, run_dir, events), evaluate.run(judged, run_dir, events)


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    run_dir = tmp_path_factory.mktemp("label-sets")
    return run_dir, *run(run_dir, Strategy.FULL)


def test_a_full_run_learns_and_is_compared_with_probe_and_prior(
    tuned: tuple[Path, dict[str, Any], dict[str, Any]],
) -> None:
    run_dir, training, judged = tuned
    evaluation = judged["evaluation"]

    assert training["validation"]["macro_average_precision"] >= training["probe"]["validation_macro_average_precision"]
    assert set(training["thresholds"]) == set(LABELS)
    folds = training["cross_validation"]
    assert (folds["k"], len(folds["macro_average_precision"]), folds["items"]) == (10, 10, 108)
    assert folds["mean"]["low"] < folds["mean"]["value"] == pytest.approx(np.mean(folds["macro_average_precision"]))
    assert not {"pooled", "accuracy"} & set(folds)
    assert "leave_one_out" not in training
    assert training["label_audit"]["items"] == 108
    assert evaluation["calibration"]["temperature"] == training["calibration"]["temperature"]
    assert [row["name"] for row in evaluation["slices"]["listed"]] == list(LABELS)
    assert evaluation["without_leaked"] is None
    assert evaluation["metrics"]["macro_average_precision"]["value"] > 0.7
    assert evaluation["baseline"]["kind"] == "bought_with_probe"
    prior = evaluation["other_baselines"][0]
    assert (prior["kind"], prior["verdict_code"]) == ("prior", "better")
    assert [row["support"] for row in evaluation["per_class"]] == [
        sum(label in scene(20_000 + number)[1] for number in range(40)) for label in LABELS
    ]
    names = {json.loads(line).get("name") for line in (run_dir / "events.jsonl").read_text().splitlines()}
    assert "macro_average_precision" in names
    assert "accuracy" not in names


def test_its_receipt_comes_out_again(tuned: tuple[Path, dict[str, Any], dict[str, Any]]) -> None:
    assert verify_receipt.run(tuned[0])["verdict"] == "equal"


def test_each_label_is_served_with_its_probability_and_threshold(
    tmp_path: Path, tuned: tuple[Path, dict[str, Any], dict[str, Any]]
) -> None:
    release = tmp_path / ("a" * 40)
    release.symlink_to(tuned[0] / "outputs/release")
    document = {"task": "image-classification", "framework": "timm", "architecture": ARCHITECTURE}
    (tuned[0] / "outputs/release/weights.json").write_text(json.dumps(document))

    answer = serve.Models(tmp_path, 1).predict("a" * 40, scene(3)[0], None)["predictions"]

    assert {row["label"]: row["threshold"] for row in answer} == tuned[1]["thresholds"]
    assert all(row["is_found"] is (row["confidence"] >= row["threshold"]) for row in answer)
    config = json.loads((tuned[0] / "outputs/release/config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert dict(zip(LABELS, config["thresholds"], strict=True)) == tuned[1]["thresholds"]


def test_the_onnx_file_makes_the_same_decisions(tuned: tuple[Path, dict[str, Any], dict[str, Any]]) -> None:
    run_dir = tuned[0]
    with EventWriter(run_dir / "events.jsonl") as events:
        result = export.run(ExportSpec(weights=weights_at("outputs/release")), run_dir, events)

    assert result["status"] == "exported"
    assert (result["parity"]["unit"], result["parity"]["compared"]) == ("labels", 40 * len(LABELS))
    session = onnxruntime.InferenceSession(run_dir / "outputs/model.onnx", providers=["CPUExecutionProvider"])
    found, shares = session.run(["found", "probabilities"], {"image": np.asarray(scene(3)[0])})
    assert found.dtype == bool
    assert (found == (shares >= np.array(list(tuned[1]["thresholds"].values()), np.float32))).all()


@pytest.mark.parametrize("strategy", [Strategy.HEAD, Strategy.LAST])
def test_other_strategies_run_on_the_same_loop(tmp_path: Path, strategy: Strategy) -> None:
    hyper = Hyper(
        epochs=2, batch_size=16, learning_rate=1e-3, augmentation=Augmentation.STRONG, loss=Loss.BINARY_WEIGHTED
    )

    training, judged = run(tmp_path, strategy, hyper)

    assert training["best"]["epoch"] <= 2
    assert judged["evaluation"]["baseline"]["kind"] == ("prior" if strategy is Strategy.HEAD else "bought_with_probe")


def test_a_loss_of_single_labels_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UserFault) as refused:
        run(tmp_path, Strategy.FULL, Hyper(loss=Loss.FOCAL))

    assert refused.value.code == "loss_unsupported"
    assert "any number" in str(refused.value)


@pytest.mark.parametrize("thresholds", [[0.5], [0.5, 0.5, 2], [0.5, 0.5, True], "half"])
def test_thresholds_that_make_no_sense_are_refused(
    tmp_path: Path, tuned: tuple[Path, dict[str, Any], dict[str, Any]], thresholds: object
) -> None:
    source = tuned[0] / "outputs/release"
    config = json.loads((source / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "thresholds": thresholds}))
    (tmp_path / "model.safetensors").symlink_to(source / "model.safetensors")

    with pytest.raises(Rejected) as refused:
        frameworks.load(weights_at("."), tmp_path)

    assert refused.value.problems[0].code == "config_invalid"


def test_what_was_bought_for_label_sets_learns_single_classes_again(
    tmp_path: Path, tuned: tuple[Path, dict[str, Any], dict[str, Any]]
) -> None:
    loaded = frameworks.load(weights_at("outputs/release"), tuned[0])
    head = frameworks.head_of(loaded)
    other = frameworks.replace_head(loaded, ("a", "b"), torch.zeros(2, head.in_features), torch.zeros(2))
    other.is_multi_label = False

    frameworks.write_release(tmp_path / "release", other)

    config = json.loads((tmp_path / "release/config.json").read_text())
    assert "thresholds" not in config
    assert "problem_type" not in config
