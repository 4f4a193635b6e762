"""What of an image a classifier sees: with its edges, or without them as the model's own preprocessing has it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import warm_engine
from PIL import Image, ImageDraw
from shapes_factory import ARCHITECTURE, LABELS, SIDE, weights_at, write_pack, write_release
from test_transformers_images import weights_at as vit_at
from test_transformers_images import write_release as write_vit

from finetuning.engine import frameworks, spec
from finetuning.engine.spec import Crop, Framework, Hyper, Split, Strategy, Task, Verb, WeightsSpec

EACH = {Split.TRAIN: 12, Split.VALIDATION: 4}
CROP = 0.6  # of the model: a fifth of the side is cut off at each edge
SHADES = {"disc": (220, 40, 40), "square": (40, 220, 40), "stripe": (40, 40, 220)}


def framed(label: str, seed: int) -> Image.Image:
    """The class is told by the frame; what lies within is of another class as often as of its own."""
    image = Image.new("RGB", (SIDE, SIDE), SHADES[label])
    inner = SHADES[LABELS[(seed // len(LABELS)) % len(LABELS)]]
    ImageDraw.Draw(image).rectangle((8, 8, SIDE - 9, SIDE - 9), fill=tuple(shade - seed % 30 for shade in inner))
    return image


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("crop") / "inputs"
    write_release(directory / "release", crop=CROP)
    write_pack(directory / "train.pack", EACH, draw=framed)
    write_pack(directory / "test.pack", {Split.TEST: 8}, draw=framed)
    return directory


def engine(verb: Verb, run_dir: Path, order: Any, **inputs: Path) -> dict[str, Any]:
    (run_dir / "inputs").mkdir(parents=True)
    for name, target in inputs.items():
        (run_dir / "inputs" / name.replace("_", ".")).symlink_to(target)
    spec.write(order, run_dir)
    return warm_engine.succeeded(warm_engine.run(verb, run_dir), run_dir)


def test_an_order_of_before_there_was_a_choice_is_the_same_order() -> None:
    """What goes by its digest, as checkpoints do, stays its own."""
    order = spec.TrainSpec(weights=weights_at("release"), strategy=Strategy.HEAD, labels=LABELS, hyper=Hyper())
    kept = spec.TrainSpec(
        weights=weights_at("release"), strategy=Strategy.HEAD, labels=LABELS, hyper=Hyper(crop=Crop.NONE)
    )

    assert "crop" not in spec.to_json(order)["hyper"]
    assert spec.to_json(order)["hyper"]["features"] == "stages"
    assert spec.to_json(kept)["hyper"]["crop"] == "none"
    for each in (order, kept):
        assert spec.from_json(json.loads(json.dumps(spec.to_json(each)))) == each


@pytest.mark.parametrize("strategy", [Strategy.HEAD, Strategy.LAST])
def test_edges_that_are_kept_are_seen_in_training_evaluation_and_by_who_uses_the_result(
    tmp_path: Path, inputs: Path, strategy: Strategy
) -> None:
    found = {}
    for crop in Crop:
        folder = tmp_path / crop
        order = spec.TrainSpec(
            weights=weights_at("inputs/release"),
            strategy=strategy,
            labels=LABELS,
            hyper=Hyper(crop=crop, epochs=1, stages=1),
        )
        engine(Verb.TRAIN, folder / "train", order, release=inputs / "release", train_pack=inputs / "train.pack")
        outputs = folder / "train" / "outputs"
        judged = spec.EvaluateSpec(
            strategy=strategy,
            base=weights_at("inputs/base"),
            tuned=weights_at("inputs/train/release"),
            labels=LABELS,
        )
        evaluation = engine(
            Verb.EVALUATE,
            folder / "evaluate",
            judged,
            base=inputs / "release",
            train=outputs,
            test_pack=inputs / "test.pack",
        )["evaluation"]
        config = json.loads((outputs / "release/config.json").read_text())
        assert config["pretrained_cfg"]["crop_pct"] == (1.0 if crop is Crop.NONE else CROP)
        accuracy = {"tuned": evaluation["metrics"]["accuracy"]["value"]}
        if strategy is Strategy.LAST:  # of a head alone the baseline is the majority
            accuracy["bought"] = evaluation["baseline"]["accuracy"]["value"]
        found[crop] = accuracy.values()

    assert set(found[Crop.NONE]) == {1.0}
    assert max(found[Crop.RELEASE]) < 0.7


def bought(directory: Path, framework: Framework) -> WeightsSpec:
    if framework is Framework.TRANSFORMERS:
        write_vit(directory)
        return vit_at(directory.name)
    if framework is Framework.KERAS:
        keras = pytest.importorskip("test_keras")
        keras.write_release(directory)
        order: WeightsSpec = keras.weights_at(directory.name)
        return order
    architecture = {Framework.TIMM: ARCHITECTURE, Framework.TORCHVISION: "mobilenet_v3_small"}[framework]
    config = {"num_classes": len(LABELS), "label_names": list(LABELS)}
    loaded = frameworks.build(framework, architecture, config)
    frameworks.write_release(directory, dataclasses.replace(loaded, preprocessing=spec.Preprocessing(size=SIDE)))
    return WeightsSpec(
        task=Task.IMAGE_CLASSIFICATION, framework=framework, architecture=architecture, directory=directory.name
    )


@pytest.mark.parametrize("framework", Framework)
def test_kept_edges_are_written_as_each_library_reads_them(tmp_path: Path, framework: Framework) -> None:
    order = bought(tmp_path / "release", framework)
    for crop in (SIDE / 80, 1.0):  # transformers knows whole pixels alone
        loaded = frameworks.load(order, tmp_path)
        assert loaded.preprocessing is not None
        wanted = dataclasses.replace(loaded.preprocessing, crop_fraction=crop)

        order = dataclasses.replace(order, directory=f"written-{crop}")
        frameworks.write_release(tmp_path / order.directory, dataclasses.replace(loaded, preprocessing=wanted))

        assert frameworks.load(order, tmp_path).preprocessing == wanted
