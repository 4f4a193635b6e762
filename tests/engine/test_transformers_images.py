"""Transformers' image classifiers: their own files in, their own files out, every family of the allow-list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from shapes_factory import LABELS, SIDE, shape, write_pack

from finetuning.engine import evaluate, frameworks, preprocessing, train, verify, weights
from finetuning.engine.events import EventWriter
from finetuning.engine.frameworks.transformers_images import ARCHITECTURES
from finetuning.engine.hyper import Augmentation, Hyper, Strategy
from finetuning.engine.packs import PackReader
from finetuning.engine.problems import Rejected
from finetuning.engine.spec import EvaluateSpec, Framework, Split, Task, TrainSpec, VerifySpec, WeightsSpec
from finetuning.engine.tasks import classification

PLAIN = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "patch_size": 8}
SIZES: dict[str, dict[str, Any]] = {
    "vit": PLAIN,
    "deit": PLAIN,
    "swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "patch_size": 4},
    "convnext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "convnextv2": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "dinov2": PLAIN,
}
PREPROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": SIDE, "width": SIDE},
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
    "resample": 2,
}


def write_release(directory: Path, kind: str = "vit") -> Path:
    """Saves a tiny model with random weights as the library itself does."""
    torch.manual_seed(0)
    names = dict(enumerate("abcd"))
    settings = transformers.AutoConfig.for_model(kind, image_size=SIDE, id2label=names, **SIZES[kind])
    getattr(transformers, ARCHITECTURES[kind])(settings).save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return directory


def weights_at(directory: str, kind: str = "vit", task: Task = Task.IMAGE_CLASSIFICATION) -> WeightsSpec:
    return WeightsSpec(
        task=task, framework=Framework.TRANSFORMERS, architecture=ARCHITECTURES[kind], directory=directory
    )


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("vit") / "inputs"
    directory.mkdir()
    write_release(directory / "release")
    write_pack(directory / "train.pack", {Split.TRAIN: 24, Split.VALIDATION: 4})
    write_pack(directory / "test.pack", {Split.TEST: 5})
    return directory


def trained(run_dir: Path, inputs: Path, strategy: Strategy, **hyper: Any) -> dict[str, Any]:
    run_dir.mkdir()
    (run_dir / "inputs").symlink_to(inputs)
    chosen = {"epochs": 1, "batch_size": 16, "augmentation": Augmentation.NONE, "learning_rate": 1e-3, **hyper}
    order = TrainSpec(
        weights=weights_at("inputs/release"), strategy=strategy, labels=LABELS, hyper=Hyper(**chosen), threads=1
    )
    with EventWriter(run_dir / "events.jsonl") as events:
        return train.run(order, run_dir, events)


@pytest.mark.parametrize("kind", sorted(ARCHITECTURES))
def test_each_family_is_verified_and_written_as_the_library_writes_it(tmp_path: Path, kind: str) -> None:
    write_release(tmp_path / "inputs/release", kind)
    with EventWriter(tmp_path / "events.jsonl") as events:
        result = verify.run(VerifySpec(weights=weights_at("inputs/release", kind)), tmp_path, events)
    loaded = frameworks.load(weights_at("inputs/release", kind), tmp_path)
    frameworks.write_release(tmp_path / "again", loaded)

    assert result["problems"] == []
    assert result["report"]["labels"] == list("abcd")
    assert result["report"]["gflops"] > 0
    before = weights.load_tensors(tmp_path / "inputs/release/model.safetensors")
    after = weights.load_tensors(tmp_path / "again/model.safetensors")
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("strategy", [Strategy.HEAD, Strategy.LAST, Strategy.FULL, Strategy.LORA])
def test_plain_transformers_predicts_what_a_tuned_release_predicts(
    tmp_path: Path, inputs: Path, strategy: Strategy
) -> None:
    result = trained(tmp_path / "run", inputs, strategy)

    release = tmp_path / "run/outputs/release"
    plain = transformers.AutoModelForImageClassification.from_pretrained(release).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(release, backend="pil")
    ours = frameworks.load(weights_at("outputs/release"), tmp_path / "run")
    wide = Image.fromarray(np.asarray(shape("disc", 3).resize((2 * SIDE, SIDE))))
    with torch.inference_mode():
        wanted = plain(**processor(wide, return_tensors="pt")).logits
        got = ours.module(preprocessing.transform(ours.preprocessing)(wide)[None])
    assert torch.allclose(got, wanted, atol=1e-4)
    assert plain.config.id2label == dict(enumerate(LABELS))
    assert result["validation"]["accuracy"] > 1 / len(LABELS)


def test_frozen_layers_stay_byte_equal_and_the_last_one_learns(tmp_path: Path, inputs: Path) -> None:
    trained(tmp_path / "run", inputs, Strategy.LAST, start_from_probe=False)

    before = weights.load_tensors(inputs / "release/model.safetensors")
    after = weights.load_tensors(tmp_path / "run/outputs/release/model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    outside = {name for name in moved if not name.startswith(("vit.encoder.layer.2.", "vit.layernorm", "classifier"))}
    assert not outside
    assert any(name.startswith("vit.encoder.layer.2.") for name in moved)


def test_a_tuned_release_is_evaluated_against_the_probe_and_answers(tmp_path: Path, inputs: Path) -> None:
    trained(tmp_path / "run", inputs, Strategy.FULL)
    order = EvaluateSpec(
        strategy=Strategy.FULL,
        base=weights_at("inputs/release"),
        tuned=weights_at("outputs/release"),
        labels=LABELS,
        train_outputs="outputs",
    )
    with EventWriter(tmp_path / "events.jsonl") as events:
        evaluation = evaluate.run(order, tmp_path / "run", events)["evaluation"]
    ours = frameworks.load(weights_at("outputs/release"), tmp_path / "run")
    item = PackReader(inputs / "test.pack").items[0]

    with torch.inference_mode():
        answer = classification.answering(ours)(PackReader(inputs / "test.pack").image(item), 3)

    assert evaluation["baseline"]["kind"] == "bought_with_probe"
    assert sum(map(sum, evaluation["confusion"])) == 15
    assert {row["label"] for row in answer["predictions"]} == set(LABELS)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"size": 64, "do_center_crop": True, "crop_size": 48}, (48, 0.75, 0.5, 0.2)),
        ({"size": {"shortest_edge": 64}, "crop_pct": 0.875}, (64, 0.875, 0.5, 0.2)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 1.0, 0.5, 0.2)),
        ({"do_normalize": False}, (64, 1.0, 0.0, 1.0)),
        ({"rescale_factor": 1 / 127.5}, (64, 1.0, 0.25, 0.1)),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3}, (64, 1.0, 0.5, 0.2)),
    ],
)
def test_the_librarys_preprocessing_is_read_as_it_computes(
    tmp_path: Path, document: dict[str, Any], expected: tuple[float, ...]
) -> None:
    write_release(tmp_path, "convnext")
    changed(tmp_path / "preprocessor_config.json", **document)

    prep = frameworks.load(weights_at(".", "convnext"), tmp_path).preprocessing

    assert prep is not None
    assert (prep.size, prep.crop_fraction, prep.mean[0], prep.std[0]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("file", "values", "code"),
    [
        ("config.json", {"model_type": "beit"}, "architecture_unknown"),
        ("config.json", {"model_type": "swin"}, "architecture_unknown"),
        ("config.json", {"auto_map": {"AutoModel": "code.Net"}}, "config_invalid"),
        ("config.json", {"hidden_size": 10**9}, "config_invalid"),
        ("config.json", {"hidden_size": 8192, "intermediate_size": 32768, "num_hidden_layers": 96}, "config_invalid"),
        ("config.json", {"hidden_act": "no_such_function"}, "config_invalid"),
        ("config.json", {"layer_norm_eps": "small"}, "config_invalid"),
        ("config.json", {"num_attention_heads": 7}, "shape_mismatch"),
        ("config.json", {"num_channels": 4}, "config_invalid"),
        ("config.json", {"image_size": 32}, "config_invalid"),
        ("config.json", {"num_hidden_layers": 2}, "keys_mismatch"),
        ("config.json", {"intermediate_size": 32}, "shape_mismatch"),
        ("config.json", {"id2label": {"0": "a", "2": "b"}}, "config_invalid"),
        ("preprocessor_config.json", {"size": {"height": 64, "width": 32}}, "config_invalid"),
        ("preprocessor_config.json", {"size": {}}, "config_invalid"),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "config_invalid"),
        ("preprocessor_config.json", {"rescale_factor": 0}, "config_invalid"),
        ("preprocessor_config.json", {"resample": 5}, "config_invalid"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_code(
    tmp_path: Path, file: str, values: dict[str, Any], code: str
) -> None:
    write_release(tmp_path)
    changed(tmp_path / file, **values)

    with pytest.raises(Rejected) as refused:
        frameworks.load(weights_at("."), tmp_path)

    assert {problem.code for problem in refused.value.problems} == {code}


def test_a_release_without_its_preprocessing_says_what_to_upload(tmp_path: Path) -> None:
    (write_release(tmp_path) / "preprocessor_config.json").unlink()

    with pytest.raises(Rejected, match="config_missing") as refused:
        frameworks.load(weights_at("."), tmp_path)

    assert "preprocessor_config.json" in refused.value.problems[0].message


def test_an_image_model_listed_for_texts_is_refused(tmp_path: Path) -> None:
    write_release(tmp_path)

    with pytest.raises(Rejected, match="config_invalid"):
        frameworks.load(weights_at(".", task=Task.TEXT_CLASSIFICATION), tmp_path)


def test_settings_that_would_fetch_kernels_never_reach_the_library(tmp_path: Path) -> None:
    write_release(tmp_path)
    changed(tmp_path / "config.json", attn_implementation="someone/kernels", _attn_implementation="someone/kernels")

    loaded = frameworks.load(weights_at("."), tmp_path)

    assert "someone" not in str(loaded.module.config)
