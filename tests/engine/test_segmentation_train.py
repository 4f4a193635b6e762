"""Segmentation as a program, on a small classifier with random weights and shapes that can be learned."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from archives_factory import encoded, inspected
from PIL import Image
from scenes_factory import ARCHITECTURE, MASKED, SIDE, backbone, mask_upload, masked, weights_at

from finetuning.engine import canvas, evaluate, frameworks, serve, spec, train, verify, verify_receipt, weights
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks import segmenters, torchvision_segmenters
from finetuning.engine.hyper import applicable
from finetuning.engine.packs import PackReader
from finetuning.engine.results import sha256_of
from finetuning.engine.spec import Augmentation, Framework, Hyper, Preprocessing, Strategy, Task, WeightsSpec

LABELS, COUNT = MASKED, 48


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return backbone(tmp_path_factory.mktemp("bought"))


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("inspect")
    assert inspected(run_dir, mask_upload(COUNT), task=Task.SEMANTIC_SEGMENTATION, salt="test")["status"] == "valid"
    return run_dir / "outputs"


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def trained(run_dir: Path, bought: Path, packs: Path, strategy: Strategy, **hyper: Any) -> dict[str, Any]:
    (run_dir / "inputs").mkdir(parents=True)
    (run_dir / "inputs/release").symlink_to(bought)
    (run_dir / "inputs/train.pack").symlink_to(packs / "train.pack")
    order = spec.TrainSpec(
        weights=weights_at("inputs/release", Task.IMAGE_CLASSIFICATION),
        task=Task.SEMANTIC_SEGMENTATION,
        strategy=strategy,
        labels=LABELS,
        hyper=Hyper(**{"batch_size": 8, "learning_rate": 2e-3, **hyper}),
        device="cpu",
    )
    with EventWriter(run_dir / "events.jsonl") as events:
        return train.run(order, run_dir, events)


def evaluated(run_dir: Path, bought: Path, packs: Path, train_dir: Path, strategy: Strategy) -> dict[str, Any]:
    (run_dir / "inputs").mkdir(parents=True)
    (run_dir / "inputs/base").symlink_to(bought)
    (run_dir / "inputs/train").symlink_to(train_dir / "outputs")
    (run_dir / "inputs/test.pack").symlink_to(packs / "test.pack")
    order = spec.EvaluateSpec(
        strategy=strategy,
        base=weights_at("inputs/base", Task.IMAGE_CLASSIFICATION),
        tuned=weights_at("inputs/train/release", Task.SEMANTIC_SEGMENTATION),
        labels=LABELS,
        device="cpu",
    )
    with EventWriter(run_dir / "events.jsonl") as events:
        return evaluate.run(order, run_dir, events)["evaluation"]


@pytest.fixture(scope="module")
def head_run(tmp_path_factory: pytest.TempPathFactory, bought: Path, packs: Path) -> Path:
    run_dir = tmp_path_factory.mktemp("head") / "run"
    torch.set_num_threads(1)
    trained(run_dir, bought, packs, Strategy.HEAD, epochs=12, cached_views=2)
    return run_dir


def logs(run_dir: Path) -> list[str]:
    lines = [json.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]
    return [line["message"] for line in lines if line["kind"] == "log"]


def test_a_head_run_learns_and_leaves_the_backbone_byte_equal(
    tmp_path: Path, bought: Path, packs: Path, head_run: Path
) -> None:
    evaluation = evaluated(tmp_path / "e", bought, packs, head_run, Strategy.HEAD)

    assert evaluation["metrics"]["miou"]["value"] > 0.6
    assert evaluation["baseline"]["kind"] == "majority"
    assert evaluation["verdict_code"] == "better"
    before = weights.load_tensors(bought / "model.safetensors")
    after = weights.load_tensors(head_run / "outputs/release/model.safetensors")
    backbone = [name for name in after if name.startswith("backbone.")]
    assert len(backbone) > 50
    assert all(torch.equal(after[name], before[name.removeprefix("backbone.")]) for name in backbone)
    assert any("Caching 2 views" in line for line in logs(head_run))


def test_the_evaluation_counts_every_pixel_and_draws_the_worst_images(
    tmp_path: Path, bought: Path, packs: Path, head_run: Path
) -> None:
    evaluation = evaluated(tmp_path / "e", bought, packs, head_run, Strategy.HEAD)

    test_items = PackReader(packs / "test.pack").items
    assert evaluation["items"] == len(test_items)
    assert sum(map(sum, evaluation["confusion"])) == sum(item.width * item.height for item in test_items)
    assert [row["label"] for row in evaluation["per_class"]] == list(LABELS)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "e/outputs").rglob("*")}
    assert verify_receipt.run(tmp_path / "e")["verdict"] == "equal"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "e/outputs").rglob("*")} == before
    ious = [entry["iou"] for entry in evaluation["worst"]]
    assert ious == sorted(ious)
    with Image.open(tmp_path / "e/outputs" / evaluation["worst"][0]["file"]) as panel:
        assert panel.height == SIDE
        assert panel.width > 2 * SIDE


def test_a_full_run_is_compared_with_a_decoder_on_the_model_as_bought(
    tmp_path: Path, bought: Path, packs: Path
) -> None:
    result = trained(tmp_path / "t", bought, packs, Strategy.FULL, epochs=4)
    evaluation = evaluated(tmp_path / "e", bought, packs, tmp_path / "t", Strategy.FULL)

    assert evaluation["baseline"]["kind"] == "bought_with_probe"
    assert [row["kind"] for row in evaluation["other_baselines"]] == ["majority"]
    assert result["validation"]["miou"] >= result["probe"]["validation_miou"]
    difference = evaluation["metrics"]["miou"]["value"] - evaluation["baseline"]["miou"]["value"]
    assert evaluation["comparison"]["difference"]["value"] == pytest.approx(difference)
    names = {json.loads(line).get("name") for line in (tmp_path / "t/events.jsonl").read_text().splitlines()}
    assert {"miou", "probe_miou", "loss", "probe_loss", "pixel_accuracy"} <= names


def test_a_torchvision_segmenter_s_head_is_trained_and_compared_with_itself_as_bought(
    tmp_path: Path, packs: Path
) -> None:
    architecture = "lraspp_mobilenet_v3_large"
    config = {
        "num_classes": len(LABELS),
        "label_names": list(LABELS),
        "task": Task.SEMANTIC_SEGMENTATION.value,
        "pretrained_cfg": {"input_size": [3, SIDE, SIDE]},
    }
    torch.manual_seed(0)
    frameworks.write_release(tmp_path / "release", frameworks.build(Framework.TORCHVISION, architecture, config))
    at = WeightsSpec(
        task=Task.SEMANTIC_SEGMENTATION,
        framework=Framework.TORCHVISION,
        architecture=architecture,
        directory="inputs/release",
    )
    train_dir, judged = tmp_path / "train", tmp_path / "evaluate"
    for folder in (train_dir, judged):
        (folder / "inputs").mkdir(parents=True)
        (folder / "inputs/release").symlink_to(tmp_path / "release")
    (train_dir / "inputs/train.pack").symlink_to(packs / "train.pack")
    (judged / "inputs/test.pack").symlink_to(packs / "test.pack")
    (judged / "inputs/train").symlink_to(train_dir / "outputs")
    hyper = Hyper(batch_size=8, learning_rate=2e-3, epochs=6, augmentation=Augmentation.NONE)
    order = spec.TrainSpec(
        weights=at, task=Task.SEMANTIC_SEGMENTATION, strategy=Strategy.HEAD, labels=LABELS, hyper=hyper, device="cpu"
    )
    with EventWriter(train_dir / "events.jsonl") as events:
        train.run(order, train_dir, events)
    tuned = replace(at, directory="inputs/train/release")
    scoring = spec.EvaluateSpec(strategy=Strategy.HEAD, base=at, tuned=tuned, labels=LABELS, device="cpu")
    with EventWriter(judged / "events.jsonl") as events:
        evaluation = evaluate.run(scoring, judged, events)["evaluation"]

    assert evaluation["baseline"]["kind"] == "majority"
    (parent,) = evaluation["other_baselines"]
    assert parent["kind"] == "parent"
    told = [json.loads(line) for line in (train_dir / "events.jsonl").read_text().splitlines()]
    losses = [entry["value"] for entry in told if entry.get("name") == "loss" and entry.get("split") == "train"]
    assert losses[-1] < 0.9 * losses[0]
    before = weights.load_tensors(tmp_path / "release/model.safetensors")
    after = weights.load_tensors(train_dir / "outputs/release/model.safetensors")
    changed = {name.partition(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"classifier"}


def test_tuning_the_last_stages_leaves_the_earlier_ones_byte_equal(tmp_path: Path, bought: Path, packs: Path) -> None:
    trained(tmp_path / "t", bought, packs, Strategy.LAST, epochs=1, stages=1, start_from_probe=False)

    before = weights.load_tensors(bought / "model.safetensors")
    after = weights.load_tensors(tmp_path / "t/outputs/release/model.safetensors")
    changed = {
        name.removeprefix("backbone.").split(".")[1]
        for name in after
        if name.startswith("backbone.") and not torch.equal(after[name], before[name.removeprefix("backbone.")])
    }
    assert changed == {"4"}
    assert any("Caching" in line for line in logs(tmp_path / "t"))


def test_the_same_seed_gives_the_same_weights(tmp_path: Path, bought: Path, packs: Path) -> None:
    digests = set()
    for name in ("a", "b"):
        trained(tmp_path / name, bought, packs, Strategy.SCRATCH, epochs=1, seed=3)
        digests.add(sha256_of(tmp_path / name / "outputs/release/model.safetensors"))

    assert len(digests) == 1


def test_verify_accepts_the_tuned_release_with_a_golden_pair(tmp_path: Path, head_run: Path) -> None:
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs/release").symlink_to(head_run / "outputs/release")
    order = spec.VerifySpec(weights=weights_at("inputs/release", Task.SEMANTIC_SEGMENTATION))

    with EventWriter(tmp_path / "events.jsonl") as events:
        result = verify.run(order, tmp_path, events)

    assert result["problems"] == []
    assert result["report"]["labels"] == list(LABELS)
    golden = weights.load_tensors(tmp_path / "outputs/golden.safetensors")
    assert golden["output"].shape == (1, len(LABELS), SIDE, SIDE)
    config = json.loads((head_run / "outputs/release/config.json").read_text())
    assert config["library"] == "timm"
    assert config["task"] == Task.SEMANTIC_SEGMENTATION
    assert config["decoder"] == {"kind": "pyramid", "width": 96}


@pytest.mark.parametrize(
    "decoder", [None, {}, {"kind": "other", "width": 96}, {"kind": "pyramid", "width": 10**9}, {"kind": "pyramid"}]
)
def test_a_decoder_that_is_not_ours_is_refused(tmp_path: Path, head_run: Path, decoder: Any) -> None:
    release = tmp_path / "inputs/release"
    release.mkdir(parents=True)
    config = json.loads((head_run / "outputs/release/config.json").read_text())
    (release / "config.json").write_text(json.dumps(config | {"decoder": decoder}))
    (release / "model.safetensors").symlink_to(head_run / "outputs/release/model.safetensors")

    with EventWriter(tmp_path / "events.jsonl") as events:
        order = spec.VerifySpec(weights=weights_at("inputs/release", Task.SEMANTIC_SEGMENTATION))
        result = verify.run(order, tmp_path, events)

    assert [problem["code"] for problem in result["problems"]] == ["config_invalid"]


def test_a_prediction_is_a_palette_image_with_shares(tmp_path: Path, head_run: Path) -> None:
    name = "a" * 40
    (tmp_path / name).symlink_to(head_run / "outputs/release")
    document = {"task": "semantic-segmentation", "framework": "timm", "architecture": ARCHITECTURE}
    (head_run / "outputs/release/weights.json").write_text(json.dumps(document))
    image, _ = masked(1)

    answer = serve.Models(tmp_path, 1).predict(name, serve.read_image(encoded(image.resize((90, 60)))), 5)

    with Image.open(io.BytesIO(base64.b64decode(answer["mask"]["png"]))) as mask:
        assert mask.mode == "P"
        assert mask.size == (answer["mask"]["width"], answer["mask"]["height"]) == (90, 60)
        classes = np.asarray(mask)
    assert [entry["label"] for entry in answer["classes"]] == list(LABELS)
    assert answer["classes"][1]["share"] == pytest.approx(np.mean(classes == 1))
    assert sum(entry["share"] for entry in answer["classes"]) == pytest.approx(1)


def test_the_loss_follows_the_rarest_class_and_says_so(head_run: Path) -> None:
    assert any(line.startswith("Loss: cross-entropy, as every class") for line in logs(head_run))


def test_losses_and_strategies_that_do_not_fit_are_refused(tmp_path: Path, bought: Path, packs: Path) -> None:
    with pytest.raises(UserFault, match="class_balanced") as loss:
        trained(tmp_path / "a", bought, packs, Strategy.HEAD, loss=spec.Loss.CLASS_BALANCED)
    with pytest.raises(UserFault, match="lora") as strategy:
        trained(tmp_path / "b", bought, packs, Strategy.LORA)
    assert [caught.value.code for caught in (loss, strategy)] == ["loss_unsupported", "strategy_unsupported"]


def test_a_head_run_of_a_segmentation_reads_epochs_and_no_stages() -> None:
    names = {entry.name for entry in applicable(Strategy.HEAD, Task.SEMANTIC_SEGMENTATION)}

    assert {"epochs", "batch_size", "learning_rate", "augmentation", "cached_views", "loss"} <= names
    assert not names & {"stages", "stage_decay", "lora_rank", "label_smoothing", "start_from_probe"}


@pytest.mark.parametrize("architecture", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_torchvision_segmenters_take_other_classes_and_can_be_cut(tmp_path: Path, architecture: str) -> None:
    config = {"num_classes": 21, "task": "semantic-segmentation", "pretrained_cfg": {"input_size": [3, SIDE, SIDE]}}
    loaded = frameworks.build(Framework.TORCHVISION, architecture, config)
    loaded.module.eval()

    tuned = segmenters.started(loaded, LABELS, seed=0)
    images = torch.randn(2, 3, SIDE, SIDE)
    stages = frameworks.stages(tuned)
    halves = segmenters.cut(tuned, stages, len(stages) - 1, images)
    frameworks.write_release(tmp_path, tuned)

    assert tuned.module(images)["out"].shape == (2, len(LABELS), SIDE, SIDE)
    assert halves is not None
    order = WeightsSpec(
        task=Task.SEMANTIC_SEGMENTATION, framework=Framework.TORCHVISION, architecture=architecture, directory="."
    )
    again = frameworks.load(order, tmp_path)
    assert again.labels == LABELS
    with torch.inference_mode():
        assert torch.equal(again.module(images)["out"], tuned.module(images)["out"])


def test_the_list_of_torchvision_segmenters_is_closed() -> None:
    assert set(torchvision_segmenters.FINAL_LAYERS) == {
        "lraspp_mobilenet_v3_large",
        "deeplabv3_mobilenet_v3_large",
        "deeplabv3_resnet50",
        "deeplabv3_resnet101",
        "fcn_resnet50",
        "fcn_resnet101",
    }


@pytest.mark.parametrize("level", [Augmentation.NONE, Augmentation.LIGHT, Augmentation.STRONG])
@pytest.mark.parametrize("size", [(64, 64), (90, 40), (30, 120)])
def test_image_and_mask_move_together(level: Augmentation, size: tuple[int, int], packs: Path) -> None:
    classes = np.zeros(size[::-1], np.uint8)
    classes[size[1] // 4 : size[1] // 2, size[0] // 4 : size[0] // 2] = 1
    image = Image.fromarray(np.stack([classes * 255] * 3, -1))
    plain = Preprocessing(size=64, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation="nearest")
    view = canvas.training_view(plain, Hyper(augmentation=level, horizontal_flip=True), epoch=1)

    item = PackReader(packs / "train.pack").items[0]
    pixels, mask = view(item, image, Image.fromarray(classes))

    shown = mask != 255
    bright = pixels[0] > (0.35 if level is Augmentation.STRONG else 0.5)
    assert torch.equal(bright[shown], mask[shown] == 1)
    assert not pixels[0][~shown].any()
