"""The engine as a program, on a small architecture with random weights and images that can be learned."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import warm_engine
from archives_factory import encoded, zip_of
from PIL import Image, ImageDraw
from warm_engine import Ended

from finetuning.engine import frameworks, spec, weights
from finetuning.engine.frameworks.timm_models import build
from finetuning.engine.problems import Rejected
from finetuning.engine.spec import Features, Framework, Hyper, Strategy, Task, Verb, WeightsSpec

ARCHITECTURE = "test_efficientnet"
LABELS = ("disc", "square", "stripe")
SIDE, EACH = 64, 40


def shape(label: str, seed: int) -> Image.Image:
    """A shape of random place, size and shade on a dark ground."""
    draw_from = random.Random(seed)
    image = Image.new("RGB", (SIDE, SIDE), tuple(draw_from.randrange(60) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    size = draw_from.randrange(18, 34)
    # Each shape has its colour: features of random weights see colours, hardly outlines.
    shade = tuple(draw_from.randrange(150, 256) if name == label else 30 for name in LABELS)
    x, y = draw_from.randrange(SIDE - size), draw_from.randrange(SIDE - size)
    if label == "disc":
        pen.ellipse((x, y, x + size, y + size), fill=shade)
    elif label == "square":
        pen.rectangle((x, y, x + size, y + size), fill=shade)
    else:
        pen.rectangle((0, y, SIDE, y + 6), fill=shade)
    return image


def engine(verb: Verb, run_dir: Path, *, run: Callable[..., Ended] = warm_engine.run) -> dict[str, Any]:
    return warm_engine.succeeded(run(verb, run_dir), run_dir)


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with random weights: what it knows comes from the fine-tune alone."""
    torch.manual_seed(0)
    config = {
        "architecture": ARCHITECTURE,
        "num_classes": 5,
        "label_names": list("abcde"),
        "pretrained_cfg": {"input_size": [3, SIDE, SIDE], "crop_pct": 1.0},
    }
    directory = tmp_path_factory.mktemp("bought")
    frameworks.write_release(directory, build(ARCHITECTURE, config))
    return directory


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("inspect")
    (run_dir / "inputs").mkdir()
    files = {
        f"{label}/{number}.png": encoded(shape(label, 1000 * position + number))
        for position, label in enumerate(LABELS)
        for number in range(EACH)
    }
    (run_dir / "inputs/upload").write_bytes(zip_of(files))
    spec.write(spec.InspectSpec(salt="test"), run_dir)
    assert engine(Verb.INSPECT, run_dir)["status"] == "valid"
    return run_dir / "outputs"


def weights_at(directory: str) -> WeightsSpec:
    return WeightsSpec(
        task=Task.IMAGE_CLASSIFICATION, framework=Framework.TIMM, architecture=ARCHITECTURE, directory=directory
    )


def ordered(run_dir: Path, bought: Path, packs: Path, strategy: Strategy, **hyper: Any) -> Path:
    (run_dir / "inputs").mkdir(parents=True)
    (run_dir / "inputs/release").symlink_to(bought)
    (run_dir / "inputs/train.pack").symlink_to(packs / "train.pack")
    order = spec.TrainSpec(
        weights=weights_at("inputs/release"), strategy=strategy, labels=LABELS, hyper=Hyper(**hyper), threads=1
    )
    spec.write(order, run_dir)
    return run_dir


def trained(run_dir: Path, bought: Path, packs: Path, strategy: Strategy, **hyper: Any) -> dict[str, Any]:
    return engine(Verb.TRAIN, ordered(run_dir, bought, packs, strategy, **hyper))


def evaluated(run_dir: Path, bought: Path, packs: Path, train_dir: Path, strategy: Strategy) -> dict[str, Any]:
    (run_dir / "inputs").mkdir(parents=True)
    (run_dir / "inputs/base").symlink_to(bought)
    (run_dir / "inputs/train").symlink_to(train_dir / "outputs")
    (run_dir / "inputs/test.pack").symlink_to(packs / "test.pack")
    order = spec.EvaluateSpec(
        strategy=strategy, base=weights_at("inputs/base"), tuned=weights_at("inputs/train/release"), labels=LABELS
    )
    spec.write(order, run_dir)
    return engine(Verb.EVALUATE, run_dir)["evaluation"]


def test_a_head_run_leaves_the_frozen_weights_byte_equal(tmp_path: Path, bought: Path, packs: Path) -> None:
    result = trained(tmp_path / "a", bought, packs, Strategy.HEAD)
    evaluation = evaluated(tmp_path / "b", bought, packs, tmp_path / "a", Strategy.HEAD)

    assert evaluation["baseline"]["kind"] == "majority"
    assert evaluation["items"] == sum(map(sum, evaluation["confusion"]))
    before = {
        f"backbone.{name}": tensor
        for name, tensor in weights.load_tensors(bought / "model.safetensors").items()
        if not name.startswith("classifier")
    }
    after = weights.load_tensors(tmp_path / "a/outputs/release/model.safetensors")
    assert set(after) == {*before, "classifier.weight", "classifier.bias"}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert set(result["outputs"]) == {"probe.safetensors", "release/config.json", "release/model.safetensors"}


def test_a_head_on_the_last_layer_alone_stays_a_model_of_its_library(tmp_path: Path, bought: Path, packs: Path) -> None:
    trained(tmp_path / "a", bought, packs, Strategy.HEAD, features=Features.LAST)

    release = tmp_path / "a/outputs/release"
    plain = timm.create_model(ARCHITECTURE, num_classes=len(LABELS))
    plain.load_state_dict(weights.load_tensors(release / "model.safetensors"))
    assert "head" not in json.loads((release / "config.json").read_text())


def test_a_head_over_stages_is_verified_loaded_and_tuned_further(tmp_path: Path, bought: Path, packs: Path) -> None:
    trained(tmp_path / "a", bought, packs, Strategy.HEAD)
    child = tmp_path / "a/outputs/release"

    run_dir = tmp_path / "verify"
    (run_dir / "inputs").mkdir(parents=True)
    (run_dir / "inputs/release").symlink_to(child)
    spec.write(spec.VerifySpec(weights=weights_at("inputs/release")), run_dir)
    assert engine(Verb.VERIFY, run_dir)["status"] == "accepted"
    trained(tmp_path / "b", child, packs, Strategy.FULL, epochs=1)
    evaluation = evaluated(tmp_path / "c", child, packs, tmp_path / "b", Strategy.FULL)
    assert evaluation["baseline"]["kind"] == "bought_with_probe"
    others = {row["kind"]: row for row in evaluation["other_baselines"]}
    own = evaluated(tmp_path / "d", bought, packs, tmp_path / "a", Strategy.HEAD)["metrics"]["accuracy"]["value"]
    assert others["parent"]["accuracy"]["value"] == own  # the parent knows these classes: it is measured as it is
    assert set(others) == {"parent", "majority"}


@pytest.mark.parametrize("stages", [None, [], ["nonesuch"], "blocks.1", [1], ["blocks.1", "blocks.1"]])
def test_a_config_that_names_no_stages_is_rejected(stages: Any) -> None:
    config = {"architecture": ARCHITECTURE, "num_classes": 2, "head": {"kind": "stages", "stages": stages}}

    with pytest.raises(Rejected) as caught:
        frameworks.build(Framework.TIMM, ARCHITECTURE, config)

    assert caught.value.problems[0].code == "config_invalid"


def test_the_same_seed_gives_the_same_weights(tmp_path: Path, bought: Path, packs: Path) -> None:
    one, other = (ordered(tmp_path / name, bought, packs, Strategy.FULL, epochs=1, seed=3) for name in ("a", "b"))

    results = [engine(Verb.TRAIN, one), engine(Verb.TRAIN, other, run=warm_engine.cold)]

    assert len({result["outputs"]["release/model.safetensors"]["sha256"] for result in results}) == 1


def test_a_full_run_is_compared_with_the_probe_of_the_model_as_bought(
    tmp_path: Path, bought: Path, packs: Path
) -> None:
    trained(tmp_path / "a", bought, packs, Strategy.FULL, epochs=3, learning_rate=1e-3)
    evaluation = evaluated(tmp_path / "b", bought, packs, tmp_path / "a", Strategy.FULL)

    assert evaluation["baseline"]["kind"] == "bought_with_probe"
    assert evaluation["items"] == sum(row["support"] for row in evaluation["per_class"])
    accuracy = evaluation["metrics"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert evaluation["comparison"]["difference"]["value"] == pytest.approx(
        accuracy["value"] - evaluation["baseline"]["accuracy"]["value"]
    )


def test_a_finished_run_directory_is_not_worked_on_twice(tmp_path: Path, bought: Path, packs: Path) -> None:
    trained(tmp_path / "a", bought, packs, Strategy.HEAD)
    written = (tmp_path / "a/result.json").stat().st_mtime_ns

    engine(Verb.TRAIN, tmp_path / "a")

    assert (tmp_path / "a/result.json").stat().st_mtime_ns == written


def test_epochs_are_judged_from_a_head_that_has_not_seen_the_validation_items(
    tmp_path: Path, bought: Path, packs: Path
) -> None:
    result = trained(tmp_path / "a", bought, packs, Strategy.FULL, epochs=1, learning_rate=1e-7)

    # So small a rate changes nothing: what is kept is epoch 0 or 1, and both score as the probe did.
    assert result["validation"]["accuracy"] == pytest.approx(result["probe"]["validation_accuracy"])


def test_an_architecture_whose_head_is_no_linear_layer_is_refused_by_name(tmp_path: Path, packs: Path) -> None:
    config = {
        "architecture": "squeezenet1_0",
        "num_classes": 3,
        "label_names": list(LABELS),
        "pretrained_cfg": {"input_size": [3, SIDE, SIDE]},
    }
    loaded = frameworks.build(Framework.TORCHVISION, "squeezenet1_0", config)
    frameworks.write_release(tmp_path / "release", loaded)
    run_dir = tmp_path / "run"
    (run_dir / "inputs").mkdir(parents=True)
    (run_dir / "inputs/release").symlink_to(tmp_path / "release")
    (run_dir / "inputs/train.pack").symlink_to(packs / "train.pack")
    order = spec.TrainSpec(
        weights=WeightsSpec(
            task=Task.IMAGE_CLASSIFICATION, framework=Framework.TORCHVISION, architecture="squeezenet1_0"
        ),
        strategy=Strategy.HEAD,
        labels=LABELS,
    )
    spec.write(order, run_dir)

    ended = warm_engine.run(Verb.TRAIN, run_dir)

    assert ended.code == 65
    assert "user:head_unsupported" in (run_dir / "events.jsonl").read_text()
