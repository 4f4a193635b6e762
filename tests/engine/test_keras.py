"""Keras' image classifiers: a `.keras` file is checked before Keras sees it, tuned as a module of torch, and written
so that plain Keras reads it."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

if importlib.util.find_spec("keras") is None:
    pytest.skip("the extra `keras` is not installed", allow_module_level=True)

import h5py
from shapes_factory import LABELS, SIDE, write_pack

from finetuning.engine import evaluate, export, frameworks, golden, preprocessing, strategies, train, verify
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks import Loaded
from finetuning.engine.frameworks.keras_library import keras
from finetuning.engine.hyper import Augmentation, Hyper, Strategy
from finetuning.engine.packs import PackReader
from finetuning.engine.problems import Rejected
from finetuning.engine.spec import EvaluateSpec, ExportSpec, Framework, Split, Task, TrainSpec, VerifySpec, WeightsSpec
from finetuning.engine.tasks import classification

layers = keras.layers
CONFIG = {"library": "keras", "num_classes": 4, "label_names": list("abcd")}


def network(*, scales: bool = True, softmax: str = "inside", size: int = SIDE) -> Any:
    """A small residual network: two strides of 2, batch norms, an augmentation, a nested model as its middle."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 3))
    value = layers.RandomFlip()(inputs)
    value = layers.Rescaling(1 / 127.5, offset=-1)(value) if scales else value
    value = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(value)
    value = layers.ReLU(6.0)(layers.BatchNormalization(name="stem_norm")(value))
    middle_in = keras.Input(value.shape[1:])
    residual = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(middle_in)
    residual = layers.Activation("swish")(layers.BatchNormalization(name="middle_norm")(residual))
    middle = keras.Model(middle_in, layers.Add()([middle_in, residual]), name="middle")
    value = middle(value, training=False)
    value = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="last")(value)
    value = layers.BatchNormalization(name="last_norm")(value)
    value = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(value))
    answer = layers.Dense(4, activation="softmax" if softmax == "inside" else None, name="scores")(value)
    return keras.Model(inputs, layers.Softmax()(answer) if softmax == "apart" else answer)


def moved_statistics(model: Any) -> Any:
    """Gives the batch norms statistics that are not the ones they start with."""
    generator = torch.Generator().manual_seed(1)
    for weight in model.weights:
        if "moving" in weight.path:
            weight.assign(torch.rand(tuple(weight.shape), generator=generator) + 0.5)
    return model


def write_release(directory: Path, model: Any | None = None, **config: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (moved_statistics(network()) if model is None else model).save(directory / "model.keras")
    (directory / "config.json").write_text(json.dumps({**CONFIG, **config}))
    return directory


def weights_at(directory: str) -> WeightsSpec:
    return WeightsSpec(
        task=Task.IMAGE_CLASSIFICATION, framework=Framework.KERAS, architecture="SmallNet", directory=directory
    )


def load(directory: Path) -> Loaded:
    return frameworks.load(weights_at("."), directory)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keras") / "inputs"
    write_release(directory / "release")
    write_pack(directory / "train.pack", {Split.TRAIN: 24, Split.VALIDATION: 4})
    write_pack(directory / "test.pack", {Split.TEST: 5})
    return directory


@pytest.fixture(scope="module")
def many_images(tmp_path_factory: pytest.TempPathFactory, inputs: Path) -> Path:
    """The same model with so many items that norms learn, and their statistics move, wherever they are not frozen."""
    directory = tmp_path_factory.mktemp("many") / "inputs"
    directory.mkdir()
    (directory / "release").symlink_to(inputs / "release")
    write_pack(directory / "train.pack", {Split.TRAIN: 67, Split.VALIDATION: 4})
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


def difference(ours: Loaded, plain: Any) -> float:
    """Returns the largest difference between the probabilities of the module and of plain Keras, of random pixels."""
    images = 255 * torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        got = ours.module(images).softmax(1)
        return float((got - plain(images.permute(0, 2, 3, 1), training=False)).abs().max())


@pytest.mark.parametrize("softmax", ["inside", "apart"])
def test_the_module_predicts_what_plain_keras_predicts(tmp_path: Path, softmax: str) -> None:
    model = moved_statistics(network(softmax=softmax))

    assert difference(load(write_release(tmp_path, model)), model) < 1e-6


def test_a_sequential_model_around_a_whole_classifier_is_read_and_written(tmp_path: Path) -> None:
    inner = moved_statistics(network(scales=False))
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), layers.Rescaling(1 / 255), inner])

    loaded = load(write_release(tmp_path / "a", model))
    other = frameworks.replace_head(loaded, LABELS, torch.randn(3, 16), torch.zeros(3))
    frameworks.write_release(tmp_path / "b", other)

    assert difference(loaded, model) < 1e-6
    assert difference(other, keras.saving.load_model(tmp_path / "b/model.keras")) < 1e-6


def test_a_release_is_verified_and_measured(tmp_path: Path, inputs: Path) -> None:
    (tmp_path / "inputs").symlink_to(inputs)
    with EventWriter(tmp_path / "events.jsonl") as events:
        result = verify.run(VerifySpec(weights=weights_at("inputs/release")), tmp_path, events)

    assert result["problems"] == []
    report = result["report"]
    assert report["labels"] == list("abcd")
    assert report["parameters"] == 3 * 3 * 3 * 8 + 3 * 3 * 8 + 8 + 3 * 3 * 8 * 16 + 16 + 2 * (8 + 8 + 16) + 16 * 4 + 4
    assert report["gflops"] > 0
    assert report["input"]["mean"] == (0.0, 0.0, 0.0)
    assert report["input"]["std"] == pytest.approx((1 / 255,) * 3)
    pair = golden.compute(load(inputs / "release"))
    assert pair["output"].shape == (1, 4)


@pytest.mark.parametrize("strategy", [Strategy.HEAD, Strategy.LAST, Strategy.SCRATCH])
def test_plain_keras_predicts_what_a_tuned_release_predicts(tmp_path: Path, inputs: Path, strategy: Strategy) -> None:
    result = trained(tmp_path / "run", inputs, strategy)

    ours = frameworks.load(weights_at("outputs/release"), tmp_path / "run")
    plain = keras.models.load_model(tmp_path / "run/outputs/release/model.keras", safe_mode=True)
    assert difference(ours, plain) < 1e-4
    assert ours.labels == LABELS
    assert result["validation"]["accuracy"] > 1 / len(LABELS)


def test_a_process_that_knows_keras_alone_predicts_what_a_tuned_release_predicts(tmp_path: Path, inputs: Path) -> None:
    trained(tmp_path / "run", inputs, Strategy.FULL)

    ours = frameworks.load(weights_at("outputs/release"), tmp_path / "run")
    images = 255 * torch.rand(5, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    torch.save(images.permute(0, 2, 3, 1), tmp_path / "images.pt")
    code = (
        "import keras, torch, sys; model = keras.models.load_model(sys.argv[1], safe_mode=True); "
        "torch.save(torch.tensor(model.predict(torch.load(sys.argv[2]), verbose=0)), sys.argv[3])"
    )
    arguments = [tmp_path / "run/outputs/release/model.keras", tmp_path / "images.pt", tmp_path / "answers.pt"]
    subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    with torch.inference_mode():
        got = ours.module(images).softmax(1)
    assert torch.allclose(got, torch.load(tmp_path / "answers.pt"), atol=1e-4)


def names_of(module: torch.nn.Module, *layers_: str) -> set[str]:
    return {name for name in module.state_dict() if name.split(".")[-2].partition("_")[2] in layers_}


def test_frozen_stages_and_their_statistics_stay_byte_equal(tmp_path: Path, inputs: Path, many_images: Path) -> None:
    trained(tmp_path / "run", many_images, Strategy.LAST, start_from_probe=False)

    before = load(inputs / "release").module.state_dict()
    after = frameworks.load(weights_at("outputs/release"), tmp_path / "run").module.state_dict()
    assert "Caching 1 view of each image" in (tmp_path / "run/events.jsonl").read_text()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    module = load(inputs / "release").module
    assert not moved & names_of(module, "stem", "stem_norm", "depthwise", "middle_norm")
    assert moved >= names_of(module, "last", "last_norm")


def test_training_without_a_cache_moves_no_frozen_statistic(inputs: Path) -> None:
    loaded = load(inputs / "release")
    stages = frameworks.stages(loaded)
    plan = strategies.plan(loaded.module, stages, Strategy.LAST, Hyper(stages=1), fresh_head=False)
    before = {name: value.clone() for name, value in loaded.module.state_dict().items()}

    strategies.train_mode(loaded.module, plan.frozen, frozen_norms=False)
    loaded.module(255 * torch.rand(8, 3, SIDE, SIDE)).sum().backward()

    moved = {name for name, value in loaded.module.state_dict().items() if not torch.equal(before[name], value)}
    assert {name.rpartition(".")[2] for name in moved} == {"moving_mean", "moving_variance"}
    assert moved <= names_of(loaded.module, "last_norm")
    assert [title for title, _ in stages] == ["stage 0", "stage 1", "head"]


def test_frozen_norms_keep_their_statistics_everywhere(inputs: Path) -> None:
    loaded = load(inputs / "release")
    before = {name: value.clone() for name, value in loaded.module.state_dict().items()}

    strategies.train_mode(loaded.module, [], frozen_norms=True)
    loaded.module(255 * torch.rand(8, 3, SIDE, SIDE)).sum().backward()

    assert all(torch.equal(before[name], value) for name, value in loaded.module.state_dict().items())
    assert all(parameter.grad is not None for parameter in loaded.module.parameters())


def test_the_same_seed_gives_the_same_file(tmp_path: Path, inputs: Path) -> None:
    for name in ("a", "b"):
        trained(tmp_path / name, inputs, Strategy.FULL)

    first, second = ((tmp_path / name / "outputs/release/model.keras").read_bytes() for name in ("a", "b"))
    assert first == second


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
    pack = PackReader(inputs / "test.pack")

    with torch.inference_mode():
        answer = classification.answering(ours)(pack.image(pack.items[0]), 3)

    assert evaluation["baseline"]["kind"] == "bought_with_probe"
    assert sum(map(sum, evaluation["confusion"])) == 15
    assert {row["label"] for row in answer["predictions"]} == set(LABELS)


def test_the_onnx_file_agrees_with_the_release(tmp_path: Path, inputs: Path) -> None:
    (tmp_path / "inputs").symlink_to(inputs)
    (tmp_path / "outputs").mkdir()
    order = ExportSpec(weights=weights_at("inputs/release"), pack="inputs/test.pack")

    with EventWriter(tmp_path / "events.jsonl") as events:
        result = export.run(order, tmp_path, events)

    assert result["status"] == "exported"
    assert result["parity"]["agreement"] == 1


def test_low_rank_updates_are_refused_before_training(tmp_path: Path, inputs: Path) -> None:
    with pytest.raises(UserFault) as refused:
        trained(tmp_path / "run", inputs, Strategy.LORA)

    assert refused.value.code == "strategy_unsupported"


def test_a_model_that_scales_its_pixels_gets_them_as_stored(inputs: Path) -> None:
    prep = load(inputs / "release").preprocessing
    pack = PackReader(inputs / "train.pack")
    image = pack.image(pack.items[0])

    given = preprocessing.transform(prep)(image)

    assert given.max() > 100
    assert torch.allclose(given, given.round(), atol=1e-3)


def test_a_model_that_does_not_scale_needs_its_preprocessing_said(tmp_path: Path) -> None:
    write_release(tmp_path / "a", network(scales=False))
    said = write_release(tmp_path / "b", network(scales=False), pretrained_cfg={"mean": [0.5] * 3, "std": [0.5] * 3})

    with pytest.raises(Rejected, match="config_invalid") as refused:
        load(tmp_path / "a")

    assert "mean" in refused.value.problems[0].message
    assert load(said).preprocessing.mean == (0.5, 0.5, 0.5)


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Changes the parts of a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def in_config(text: str, other: str) -> Callable[[dict[str, bytes]], None]:
    def change(parts: dict[str, bytes]) -> None:
        assert text in parts["config.json"].decode()
        parts["config.json"] = parts["config.json"].decode().replace(text, other).encode()

    return change


def in_arrays(edit: Callable[[h5py.File], None]) -> Callable[[dict[str, bytes]], None]:
    def change(parts: dict[str, bytes]) -> None:
        content = io.BytesIO(parts["model.weights.h5"])
        with h5py.File(content, "r+") as file:
            edit(file)
        parts["model.weights.h5"] = content.getvalue()

    return change


def _replace(file: h5py.File, make: Callable[[h5py.Group], None]) -> None:
    group = file["layers/dense/vars"]
    del group["1"]
    make(group)


def _external(group: h5py.Group) -> None:
    group.create_dataset("1", (4,), "f4", external=[("/etc/hostname", 0, 16)])


def _virtual(group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4,))
    group.create_virtual_dataset("1", layout)


HOSTILE: list[tuple[Callable[[dict[str, bytes]], Any], str]] = [
    (in_config('"class_name": "ReLU"', '"class_name": "Lambda"'), "keras_lambda"),
    (in_config('"class_name": "Zeros"', '"class_name": "__lambda__"'), "keras_lambda"),
    (
        in_config('"module": "keras.layers", "class_name": "ReLU"', '"module": "os", "class_name": "ReLU"'),
        "keras_custom_object",
    ),
    (in_config('"class_name": "ReLU"', '"class_name": "TorchModuleWrapper"'), "keras_layer_unsupported"),
    (in_config('"class_name": "Functional"', '"class_name": "Net"'), "keras_custom_object"),
    (in_config('"registered_name": null', '"registered_name": "mine>Thing"'), "keras_custom_object"),
    (in_config('"module": "keras.initializers"', '"module": "subprocess"'), "keras_custom_object"),
    (in_config('"name": "float32"', '"name": "mixed_float16"'), "keras_custom_object"),
    (in_config('"activation": "silu"', '"activation": "os.system"'), "keras_invalid"),
    (in_config('"activation": "softmax"', '"activation": "sigmoid"'), "keras_head"),
    (in_config('"filters": 8', '"filters": 2000000000'), "keras_invalid"),
    (in_config('"filters": 16', '"filters": 17'), "keras_invalid"),
    (in_config('{"module"', '{"module": 1, "module"'), "keras_invalid"),
    (lambda parts: parts.update({"config.json": b"[" * 100_000}), "keras_invalid"),
    (
        lambda parts: parts.update(
            {"config.json": b'{"class_name": "Functional", "config": ' + b"[" * 200 + b"]" * 200 + b"}"}
        ),
        "keras_invalid",
    ),
    (lambda parts: parts.update({"run.py": b"print()"}), "keras_invalid"),
    (lambda parts: parts.pop("metadata.json"), "keras_invalid"),
    (lambda parts: parts.update({"model.weights.h5": b"no HDF5"}), "keras_invalid"),
    (in_arrays(lambda file: file.__delitem__("layers/dense")), "keys_mismatch"),
    (in_arrays(lambda file: file.create_dataset("layers/states", (2**20,), "i4", compression="gzip")), "keras_invalid"),
    (in_arrays(lambda file: file.create_dataset("layers/more", data=[1.0, 2.0], dtype="f4")), "keys_mismatch"),
    (
        in_arrays(lambda file: _replace(file, lambda group: group.create_dataset("1", data=[1.0] * 5, dtype="f4"))),
        "shape_mismatch",
    ),
    (
        in_arrays(lambda file: _replace(file, lambda group: group.create_dataset("1", data=[1.0] * 4, dtype="f8"))),
        "keras_invalid",
    ),
    (
        in_arrays(
            lambda file: _replace(file, lambda group: group.create_dataset("1", data=[float("nan")] * 4, dtype="f4"))
        ),
        "non_finite",
    ),
    (
        in_arrays(
            lambda file: _replace(
                file, lambda group: group.create_dataset("1", (4,), "f4", chunks=(4,), compression="lzf")
            )
        ),
        "keras_invalid",
    ),
    (
        in_arrays(
            lambda file: _replace(file, lambda group: group.__setitem__("1", h5py.ExternalLink("/etc/hostname", "/x")))
        ),
        "keras_invalid",
    ),
    (
        in_arrays(
            lambda file: _replace(file, lambda group: group.__setitem__("1", h5py.SoftLink("/layers/dense/vars/0")))
        ),
        "keras_invalid",
    ),
    (in_arrays(lambda file: _replace(file, _external)), "keras_invalid"),
    (in_arrays(lambda file: _replace(file, _virtual)), "keras_invalid"),
    (
        in_arrays(lambda file: _replace(file, lambda group: group.create_dataset("1", data=["text"] * 4))),
        "keras_invalid",
    ),
]


@pytest.mark.parametrize(
    ("change", "code"), HOSTILE, ids=[f"{number}-{code}" for number, (_, code) in enumerate(HOSTILE)]
)
def test_what_is_hostile_or_broken_is_refused_with_its_code(
    tmp_path: Path, inputs: Path, change: Callable[[dict[str, bytes]], Any], code: str
) -> None:
    for name in ("model.keras", "config.json"):
        (tmp_path / name).write_bytes((inputs / "release" / name).read_bytes())
    rewritten(tmp_path / "model.keras", change)

    with pytest.raises(Rejected) as refused:
        load(tmp_path)

    assert {problem.code for problem in refused.value.problems} == {code}
    assert all(problem.message for problem in refused.value.problems)


def test_a_file_that_is_no_zip_says_what_to_do(tmp_path: Path) -> None:
    write_release(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))

    with pytest.raises(Rejected, match="keras_invalid") as refused:
        load(tmp_path)

    assert "model.save" in refused.value.problems[0].message


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"num_classes": 5, "label_names": list("abcde")}, "config_invalid"),
        ({"library": "timm"}, "config_invalid"),
        ({"architecture": "OtherNet"}, "config_invalid"),
        ({"pretrained_cfg": {"input_size": [3, 32, 32]}}, "config_invalid"),
    ],
)
def test_a_config_that_contradicts_the_model_is_refused(tmp_path: Path, config: dict[str, Any], code: str) -> None:
    with pytest.raises(Rejected, match=code):
        load(write_release(tmp_path, **config))


def test_a_lambda_never_runs(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.Lambda(lambda value, path=str(witness): (open(path, "w").close(), value)[1]),
            layers.Flatten(),
            layers.Dense(4, activation="softmax"),
        ]
    )
    write_release(tmp_path, model)
    witness.unlink()

    with pytest.raises(Rejected, match="keras_lambda"):
        load(tmp_path)

    assert not witness.exists()


def test_a_model_saved_after_training_with_an_optimizer_is_read(tmp_path: Path) -> None:
    model = network()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(255 * torch.rand(8, SIDE, SIDE, 3), torch.arange(8) % 4, verbose=0)

    assert difference(load(write_release(tmp_path, model)), model) < 1e-6


def test_a_model_frozen_by_its_vendor_is_tuned_in_full(tmp_path: Path, inputs: Path) -> None:
    model = moved_statistics(network())
    for layer in model.layers[:-1]:
        layer.trainable = False

    loaded = load(write_release(tmp_path, model))

    assert difference(loaded, model) < 1e-6
    wanted = {name for name, _ in load(inputs / "release").module.named_parameters()}
    assert {name for name, _ in loaded.module.named_parameters()} == wanted
