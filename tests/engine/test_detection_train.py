"""Detection as a program: a tiny backbone with random weights, and colored shapes that can be learned."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import warm_engine
from archives_factory import inspected
from scenes_factory import ARCHITECTURE, BOXED, CONFIG, SIDE, backbone, boxed, weights_at, yolo_upload
from warm_engine import Ended

from finetuning.engine import frameworks, serve, spec, taps, verify_receipt, weights
from finetuning.engine.frameworks import detectors, torchvision_detectors
from finetuning.engine.hyper import Augmentation
from finetuning.engine.problems import Rejected
from finetuning.engine.spec import Framework, Hyper, Strategy, Task, Verb

LABELS, COUNT = BOXED, 64
QUICK = Hyper(batch_size=8, epochs=1, learning_rate=2e-3, augmentation=Augmentation.NONE)


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return backbone(tmp_path_factory.mktemp("bought"))


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("inspect")
    assert inspected(run_dir, yolo_upload(COUNT), task=Task.OBJECT_DETECTION, salt="x")["status"] == "valid"
    return run_dir / "outputs"


def engine(verb: Verb, run_dir: Path, *, run: Callable[..., Ended] = warm_engine.run) -> dict[str, Any]:
    return warm_engine.succeeded(run(verb, run_dir), run_dir)


def ordered(run_dir: Path, bought: Path, packs: Path, strategy: Strategy, hyper: Hyper) -> Path:
    (run_dir / "inputs").mkdir(parents=True)
    (run_dir / "inputs/release").symlink_to(bought)
    (run_dir / "inputs/train.pack").symlink_to(packs / "train.pack")
    order = spec.TrainSpec(
        weights=weights_at("inputs/release"),
        task=Task.OBJECT_DETECTION,
        strategy=strategy,
        labels=LABELS,
        hyper=hyper,
        threads=1,
    )
    spec.write(order, run_dir)
    return run_dir


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, bought: Path, packs: Path) -> tuple[Path, dict[str, Any]]:
    """One run that learns: the probe first, then everything."""
    hyper = replace(QUICK, epochs=20, patience=20)
    run_dir = ordered(tmp_path_factory.mktemp("train") / "run", bought, packs, Strategy.FULL, hyper)
    return run_dir, engine(Verb.TRAIN, run_dir)


def test_a_full_run_learns_and_is_compared_with_the_probe(
    tmp_path: Path, tuned: tuple[Path, dict[str, Any]], bought: Path, packs: Path
) -> None:
    train_dir, result = tuned
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs/base").symlink_to(bought)
    (tmp_path / "inputs/train").symlink_to(train_dir / "outputs")
    (tmp_path / "inputs/test.pack").symlink_to(packs / "test.pack")
    order = spec.EvaluateSpec(
        strategy=Strategy.FULL,
        base=weights_at("inputs/base"),
        tuned=weights_at("inputs/train/release", Task.OBJECT_DETECTION),
        labels=LABELS,
        threads=1,
    )
    spec.write(order, tmp_path)

    evaluation = engine(Verb.EVALUATE, tmp_path)["evaluation"]

    assert evaluation["metrics"]["map50"]["value"] > 0.5
    assert result["validation"]["map"] >= result["probe"]["validation_map"]
    assert evaluation["baseline"]["kind"] == "bought_with_probe"
    assert [row["kind"] for row in evaluation["other_baselines"]] == ["nothing"]
    assert evaluation["other_baselines"][0]["verdict_code"] == "better"
    assert evaluation["comparison"]["difference"]["value"] == pytest.approx(
        evaluation["metrics"]["map"]["value"] - evaluation["baseline"]["map"]["value"]
    )
    assert sum(row["boxes"] for row in evaluation["per_class"]) == evaluation["boxes"]
    assert all((tmp_path / "outputs" / row["file"]).is_file() for row in evaluation["worst"])
    assert verify_receipt.run(tmp_path)["verdict"] == "equal"
    receipt = json.loads((tmp_path / "outputs/receipt.json").read_text())
    receipt["receipt"]["predictions_sha256"] = "0" * 64
    (tmp_path / "outputs/receipt.json").write_text(json.dumps(receipt))
    assert verify_receipt.run(tmp_path)["verdict"] == "different"


def test_a_detector_that_knew_these_classes_is_compared_with_itself_as_bought(
    tmp_path: Path, tuned: tuple[Path, dict[str, Any]], packs: Path
) -> None:
    train_dir, _ = tuned
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs/train").symlink_to(train_dir / "outputs")
    (tmp_path / "inputs/test.pack").symlink_to(packs / "test.pack")
    release = weights_at("inputs/train/release", Task.OBJECT_DETECTION)
    spec.write(
        spec.EvaluateSpec(strategy=Strategy.HEAD, base=release, tuned=release, labels=LABELS, threads=1), tmp_path
    )

    evaluation = engine(Verb.EVALUATE, tmp_path)["evaluation"]

    assert evaluation["baseline"]["kind"] == "nothing"
    (parent,) = evaluation["other_baselines"]
    assert (parent["kind"], parent["map"]) == ("parent", evaluation["metrics"]["map"])
    assert parent["verdict_code"] == "no_measurable_gain"


@pytest.mark.parametrize("architecture", ["ssdlite320_mobilenet_v3_large"])
def test_a_torchvision_detector_s_head_is_trained_and_scored(tmp_path: Path, packs: Path, architecture: str) -> None:
    config = {
        "task": Task.OBJECT_DETECTION.value,
        "num_classes": 2,
        "label_names": ["cat", "dog"],
        "pretrained_cfg": {"input_size": [3, SIDE, SIDE]},
    }
    torch.manual_seed(0)
    frameworks.write_release(tmp_path / "release", frameworks.build(Framework.TORCHVISION, architecture, config))
    at = spec.WeightsSpec(
        task=Task.OBJECT_DETECTION,
        framework=Framework.TORCHVISION,
        architecture=architecture,
        directory="inputs/release",
    )
    train_dir = ordered(tmp_path / "train", tmp_path / "release", packs, Strategy.HEAD, QUICK)
    spec.write(replace(spec.read(train_dir), weights=at), train_dir)
    trained = engine(Verb.TRAIN, train_dir)
    judged = tmp_path / "evaluate"
    (judged / "inputs").mkdir(parents=True)
    (judged / "inputs/release").symlink_to(tmp_path / "release")
    (judged / "inputs/train").symlink_to(train_dir / "outputs")
    (judged / "inputs/test.pack").symlink_to(packs / "test.pack")
    order = spec.EvaluateSpec(
        strategy=Strategy.HEAD,
        base=at,
        tuned=replace(at, directory="inputs/train/release"),
        labels=LABELS,
        threads=1,
    )
    spec.write(order, judged)

    evaluation = engine(Verb.EVALUATE, judged)["evaluation"]

    assert trained["best"]["epochs"] == 1
    assert evaluation["labels"] == list(LABELS)
    assert 0 <= evaluation["metrics"]["map"]["value"] <= 1
    before = weights.load_tensors(tmp_path / "release/model.safetensors")
    after = weights.load_tensors(train_dir / "outputs/release/model.safetensors")
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items() if name.startswith("backbone."))
    assert any(
        not torch.equal(before[name], tensor)
        for name, tensor in after.items()
        if name in before and before[name].shape == tensor.shape and not name.startswith("backbone.")
    )


def test_a_tuned_release_is_accepted_by_verify(tmp_path: Path, tuned: tuple[Path, dict[str, Any]]) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs/release").symlink_to(tuned[0] / "outputs/release")
    spec.write(spec.VerifySpec(weights=weights_at("inputs/release", Task.OBJECT_DETECTION)), tmp_path)

    result = engine(Verb.VERIFY, tmp_path)

    assert (result["status"], result["problems"]) == ("accepted", [])
    assert result["report"]["labels"] == list(LABELS)
    assert result["report"]["gflops"] > 0


def test_served_boxes_are_in_pixels_of_the_picture(tmp_path: Path, tuned: tuple[Path, dict[str, Any]]) -> None:
    release = tmp_path / ("a" * 40)
    release.symlink_to(tuned[0] / "outputs/release")
    document = {"task": "object-detection", "framework": "timm", "architecture": ARCHITECTURE}
    (tuned[0] / "outputs/release/weights.json").write_text(json.dumps(document))
    image, boxes = boxed(0)
    file = io.BytesIO()
    image.resize((3 * SIDE, 3 * SIDE)).save(file, "PNG")

    answer = serve.Models(tmp_path, 1).predict("a" * 40, serve.read_image(file.getvalue()), None)

    assert (answer["width"], answer["height"]) == (3 * SIDE, 3 * SIDE)
    assert 0 <= answer["threshold"] <= 1
    first = answer["predictions"][0]
    assert set(first) == {"label", "index", "confidence", "box"}
    overlap = max(
        _iou([first["box"][edge] for edge in ("left", "top", "right", "bottom")], [3 * edge for edge in box])
        for _, box in boxes
    )
    assert overlap > 0.5


def _iou(one: list[float], other: list[float]) -> float:
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return width * height / (areas - width * height)


def test_a_head_run_leaves_the_backbone_byte_equal_and_the_same_seed_gives_the_same_weights(
    tmp_path: Path, bought: Path, packs: Path
) -> None:
    one, other = (ordered(tmp_path / name, bought, packs, Strategy.HEAD, QUICK) for name in ("a", "b"))

    runs = [engine(Verb.TRAIN, one), engine(Verb.TRAIN, other, run=warm_engine.cold)]

    before = weights.load_tensors(bought / "model.safetensors")
    after = weights.load_tensors(tmp_path / "a/outputs/release/model.safetensors")
    trunk = {name.removeprefix("backbone.body.net."): tensor for name, tensor in after.items() if ".body." in name}
    assert trunk
    assert all(torch.equal(before[name], tensor) for name, tensor in trunk.items())
    assert len({run["outputs"]["release/model.safetensors"]["sha256"] for run in runs}) == 1
    assert set(runs[0]["outputs"]) == {"release/config.json", "release/model.safetensors"}


def test_lora_is_refused_in_words(tmp_path: Path, bought: Path, packs: Path) -> None:
    run_dir = ordered(tmp_path / "a", bought, packs, Strategy.LORA, QUICK)

    ended = warm_engine.run(Verb.TRAIN, run_dir)

    assert ended.code == 65
    assert "user:strategy_unsupported" in (run_dir / "events.jsonl").read_text()


@pytest.mark.parametrize("architecture", torchvision_detectors.ARCHITECTURES)
def test_each_torchvision_detector_trains_answers_and_is_cut_exactly(architecture: str) -> None:
    config = {
        "task": Task.OBJECT_DETECTION.value,
        "num_classes": 4,
        "label_names": list("abcd"),
        "pretrained_cfg": {"input_size": [3, SIDE, SIDE]},
    }
    torch.manual_seed(0)
    vendor = frameworks.build(Framework.TORCHVISION, architecture, config)
    loaded = frameworks.detector(vendor, LABELS, size=SIDE)
    images = torch.rand(2, 3, SIDE, SIDE)
    stages = frameworks.stages(loaded)
    first = detectors.background(loaded.module)
    targets = [{"boxes": torch.tensor([[4.0, 4.0, 40.0, 40.0]]), "labels": torch.tensor([1 + first])}] * 2

    with torch.no_grad(), detectors.answering(loaded.module, losses=True):
        losses = loaded.module(images, targets)
    with torch.no_grad():
        answers = loaded.module(images)

    assert all(torch.isfinite(value) for value in losses.values())
    assert len(answers) == 2
    assert taps.cut(loaded.module, frameworks.trunk(loaded), stages, len(stages) - 1, images) is not None
    own = detectors.class_layers(loaded.module)
    before, after = vendor.module.state_dict(), loaded.module.state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items() if not name.startswith(own))


@pytest.mark.parametrize("boundary", [1, 3, 6])
def test_a_cut_timm_trunk_gives_what_the_whole_gives(boundary: int) -> None:
    torch.manual_seed(0)
    base = frameworks.build(Framework.TIMM, ARCHITECTURE, CONFIG)
    loaded = frameworks.detector(base, LABELS, size=SIDE)
    images = torch.rand(2, 3, SIDE, SIDE)

    halves = taps.cut(loaded.module, frameworks.trunk(loaded), frameworks.stages(loaded), boundary, images)

    assert halves is not None
    with torch.no_grad():
        halves.learning.given = halves.prefix(images)
        cut, whole = detectors.raw_outputs(halves.suffix, images), detectors.raw_outputs(loaded.module, images)
    assert torch.allclose(cut, whole, atol=1e-4)


@pytest.mark.parametrize(
    ("framework", "architecture", "config", "code"),
    [
        (Framework.TORCHVISION, "maskrcnn_resnet50_fpn", {}, "architecture_unknown"),
        (Framework.TIMM, "no_such_model", {}, "architecture_unknown"),
        (Framework.TIMM, ARCHITECTURE, {}, "config_invalid"),
        (Framework.TIMM, ARCHITECTURE, {"detector": {"kind": "fcos", "channels": 10**9}}, "config_invalid"),
    ],
)
def test_other_names_and_heads_are_refused(
    framework: Framework, architecture: str, config: dict[str, Any], code: str
) -> None:
    document = {**config, "task": Task.OBJECT_DETECTION.value, "num_classes": 2, "label_names": list(LABELS)}

    with pytest.raises(Rejected) as refused:
        frameworks.build(framework, architecture, document)

    assert refused.value.problems[0].code == code


def test_a_head_of_a_detector_is_trained_so_its_choices_apply() -> None:
    names = {entry.name for entry in spec.applicable(Strategy.HEAD, Task.OBJECT_DETECTION)}

    assert {"epochs", "batch_size", "learning_rate", "image_size", "augmentation", "cached_views"} <= names
    assert not {"stages", "stage_decay", "start_from_probe", "lora_rank", "loss"} & names
    assert "image_size" not in {entry.name for entry in spec.applicable(Strategy.FULL, Task.IMAGE_CLASSIFICATION)}
