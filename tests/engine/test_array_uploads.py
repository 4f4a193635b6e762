"""CIFAR and MNIST as downloaded: read, split as their authors did, trained on; hostile files refused in words."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from archives_factory import class_folders, inspected, inspected_bytes, items_of
from arrays_factory import CLASSES, batch, cifar10, idx, meta, mnist, pixels, tar_gz
from shapes_factory import weights_at, write_release
from texts_factory import lay_out, run_verb

from finetuning.engine import frameworks, presets, train, weights
from finetuning.engine.packs import PackReader
from finetuning.engine.spec import Framework, Hyper, Split, Strategy, Task, TrainSpec, hyper_from

Result = dict[str, Any]


def codes(result: Result) -> list[str]:
    return [problem["code"] for problem in result["problems"]]


def test_cifar_is_read_to_the_pixel_with_its_classes_and_splits(tmp_path: Path) -> None:
    result = inspected_bytes(tmp_path, tar_gz(cifar10()))

    assert result["problems"] == []
    report = result["report"]
    assert report["labels"] == sorted(CLASSES)
    assert report["counts"] == {"given": 60, "used": 60, "left_out": 0}
    assert (report["splits"]["test"], report["split_source"]) == (12, "uploaded")
    assert report["splits"]["validation"] > 0
    first = next(item for item in items_of(tmp_path) if item.name == "test_batch/000001.png")
    image = PackReader(tmp_path / "outputs/test.pack").image(first)
    assert np.array_equal(np.asarray(image), pixels(12, 3)[0].transpose(1, 2, 0))
    assert report["labels"][first.label] == CLASSES[0]


def test_a_model_trains_on_a_cifar_file(tmp_path: Path) -> None:
    inspected_bytes(tmp_path / "inspect", tar_gz(cifar10()))
    release = write_release(tmp_path / "release")
    run_dir = lay_out(tmp_path / "train", release=release, train_pack=tmp_path / "inspect/outputs/train.pack")
    order = TrainSpec(
        weights=weights_at("inputs/release"), strategy=Strategy.HEAD, labels=tuple(sorted(CLASSES)), hyper=Hyper()
    )

    result = run_verb(train, order, run_dir)

    assert result["validation"]["accuracy"] > 0.5  # a third by chance: the class is the brightest channel
    assert (run_dir / "outputs/release/model.safetensors").is_file()


def test_the_worked_example_tunes_every_layer_of_resnet_50_on_a_cifar_file(tmp_path: Path) -> None:
    inspected_bytes(tmp_path / "inspect", tar_gz(cifar10()))
    torch.manual_seed(0)
    bought = tmp_path / "release"
    config = {
        "architecture": "resnet50",
        "num_classes": 2,
        "label_names": ["no", "yes"],
        "pretrained_cfg": {"input_size": [3, 64, 64]},
    }
    frameworks.write_release(bought, frameworks.build(Framework.TORCHVISION, "resnet50", config))
    preset = presets.preset_of(Task.IMAGE_CLASSIFICATION, presets.WORKED_EXAMPLE)
    run_dir = lay_out(tmp_path / "train", release=bought, train_pack=tmp_path / "inspect/outputs/train.pack")
    order = TrainSpec(
        weights=replace(weights_at("inputs/release"), framework=Framework.TORCHVISION, architecture="resnet50"),
        strategy=preset.strategy,
        labels=tuple(sorted(CLASSES)),
        hyper=hyper_from(
            {**preset.hyper, "epochs": 1, "start_from_probe": False},
            task=Task.IMAGE_CLASSIFICATION,
            strategy=preset.strategy,
        ),
    )

    result = run_verb(train, order, run_dir)

    before, after = (weights.load_tensors(path / "model.safetensors") for path in (bought, run_dir / "outputs/release"))
    assert result["best"]["epochs"] == 1
    assert after["fc.weight"].shape == (3, 2048)
    assert not torch.equal(before["conv1.weight"], after["conv1.weight"])  # every layer has learned


def test_cifar_100_takes_the_fine_labels(tmp_path: Path) -> None:
    names = pickle.dumps({b"fine_label_names": [b"apple", b"bear", b"cup"], b"coarse_label_names": [b"x"]}, protocol=2)
    changes = {"coarse_labels": [0] * 24, "fine_labels": [at % 3 for at in range(24)]}
    files = {"cifar-100-python/meta": names, "cifar-100-python/train": batch(24, 1, **changes)}
    files["cifar-100-python/test"] = batch(24, 2, **changes)

    result = inspected_bytes(tmp_path, tar_gz(files))

    assert result["report"]["labels"] == ["apple", "bear", "cup"]


def test_the_binary_version_gives_the_same_images(tmp_path: Path) -> None:
    def records(count: int, seed: int) -> bytes:
        rows = pixels(count, seed).reshape(count, -1)
        return np.concatenate([(np.arange(count, dtype=np.uint8) % 3)[:, None], rows], 1).tobytes()

    files = {"data_batch_1.bin": records(24, 1), "data_batch_2.bin": records(24, 2), "test_batch.bin": records(12, 3)}
    files["batches.meta.txt"] = "\n".join(CLASSES).encode()

    binary = inspected_bytes(tmp_path / "binary", tar_gz(files))["report"]
    pickled = inspected_bytes(tmp_path / "pickled", tar_gz(cifar10()))["report"]

    assert binary["digest"] == pickled["digest"]


@pytest.mark.parametrize("zipped", [True, False])
def test_mnist_is_read_from_a_zip_of_its_files(tmp_path: Path, zipped: bool) -> None:
    result = inspected(tmp_path, {**mnist(zipped=zipped), "classes.txt": b"shirt\nbag\nboot\n", "README.md": b"x"})

    assert result["problems"] == []
    report = result["report"]
    assert report["labels"] == ["bag", "boot", "shirt"]
    assert (report["counts"]["used"], report["splits"]["test"]) == (60, 12)
    assert {item.split for item in items_of(tmp_path) if item.name.startswith("t10k")} == {Split.TEST}


EVIDENCE = Path("what-a-pickle-ran").resolve()


class _Evil:
    def __reduce__(self) -> Any:
        return os.system, (f"touch {EVIDENCE}",)


def _evil_array() -> bytes:
    return pickle.dumps({b"labels": [0], b"data": np.array([_Evil()], dtype=object)}, protocol=2)


def _member(kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    member.type, member.linkname = kind, target
    return member


BAD_CIFAR: dict[str, tuple[bytes, str, str]] = {
    "a pickle that runs a command": (
        tar_gz(cifar10(data_batch_1=pickle.dumps(_Evil(), protocol=2))),
        "bad_array",
        "data_batch_1: it asks for posix.system",
    ),
    "an array of objects": (tar_gz(cifar10(data_batch_1=_evil_array())), "bad_array", "posix.system"),
    "a global by another spelling": (
        tar_gz(cifar10(data_batch_1=b"cbuiltins\neval\n(V1\ntR.")),
        "bad_array",
        "builtins.eval",
    ),
    "memo of two thousand million": (
        tar_gz(cifar10(data_batch_1=b"\x80\x02Nr\xff\xff\xff\x7f.")),
        "bad_array",
        "data_",
    ),
    "a bytearray of a terabyte": (
        tar_gz(cifar10(data_batch_1=b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little"))),
        "bad_array",
        "data_batch_1: it is damaged",
    ),
    "no pickle": (tar_gz(cifar10(data_batch_1=b"hello")), "bad_array", "data_batch_1: it is damaged"),
    "floats": (
        tar_gz(cifar10(data_batch_1=batch(2, 1, data=np.zeros((2, 3072))))),
        "bad_array",
        "data_batch_1: its array does not hold bytes",
    ),
    "another size": (
        tar_gz(cifar10(data_batch_1=batch(2, 1, data=np.zeros((2, 3000), np.uint8)))),
        "bad_array",
        "data_batch_1: its array is 2 x 3000",
    ),
    "labels that are words": (
        tar_gz(cifar10(data_batch_1=batch(2, 1, labels=["a", "b"]))),
        "bad_array",
        "data_batch_1",
    ),
    "too few labels": (
        tar_gz(cifar10(data_batch_1=batch(4, 1, labels=[0]))),
        "count_mismatch",
        "data_batch_1: 4 images, 1 labels",
    ),
    "a label that no class has": (
        tar_gz(cifar10(data_batch_2=batch(3, 1, labels=[0, 1, 9]))),
        "bad_class",
        "data_batch_2: image 3 has the label 9 of 3 classes",
    ),
    "a class name twice": (
        tar_gz(cifar10(**{"batches.meta": meta(("a", "a", "b"))})),
        "bad_classes",
        "data_batch_1: a",
    ),
    "a symbolic link": (
        tar_gz({**cifar10(), "x": _member(tarfile.SYMTYPE, "/etc/passwd")}),
        "links_not_allowed",
        "data_batch_1",
    ),
    "a device": (tar_gz({**cifar10(), "x": _member(tarfile.CHRTYPE)}), "links_not_allowed", "data_batch_1"),
    "a path outside": (tar_gz({**cifar10(), "../../etc/data_batch_3": batch(3, 1)}), "unsafe_path", "../../etc"),
    "a file twice": (tar_gz({**cifar10(), "b/data_batch_1": batch(3, 1)}), "duplicate_name", "data_batch_1"),
    "another tar": (tar_gz({"cats/1.png": b"x"}), "file_type", ""),
    "no tar": (gzip.compress(b"hello " * 2000), "file_type", ""),
    "cut off": (tar_gz(cifar10())[:-2000], "zip_truncated", ""),
    "damaged": (b"\x1f\x8b\x08\x00" + b"\xff" * 200, "corrupt_member", ""),
    "half a record": (tar_gz({"data_batch_1.bin": b"x" * 4000}), "bad_array", "data_batch_1.bin"),
}


@pytest.mark.parametrize("case", BAD_CIFAR)
def test_a_bad_cifar_file_is_refused_and_nothing_in_it_runs(tmp_path: Path, case: str) -> None:
    content, code, place = BAD_CIFAR[case]

    result = inspected_bytes(tmp_path, content)

    found = {problem["code"]: problem for problem in result["problems"]}
    assert code in found, result["problems"]
    assert place in " ".join(found[code]["items"])
    assert found[code]["message"].count(".") >= 2
    assert not EVIDENCE.exists()


def test_a_gzip_bomb_is_stopped_while_it_unpacks(tmp_path: Path) -> None:
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as bomb:
        for _ in range(600):
            bomb.write(bytes(1 << 20))

    result = inspected_bytes(tmp_path, file.getvalue())

    assert codes(result) == ["zip_bomb"]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 10 << 20


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
BAD_MNIST: dict[str, tuple[dict[str, bytes], str, str]] = {
    "no labels": (mnist(**{LABELS: None}), "missing_file", f"{IMAGES} has no file of labels"),
    "more than it holds": (
        mnist(**{IMAGES: idx(np.zeros((4, 8, 8), np.uint8), shape=(4_000_000_000, 28, 28))}),
        "bad_array",
        f"{IMAGES}: says 4,000,000,000 x 28 x 28 but holds 256 bytes",
    ),
    "floats": (mnist(**{IMAGES: idx(np.zeros((4, 8, 8), np.uint8), kind=13)}), "bad_array", IMAGES),
    "labels for images": (mnist(**{IMAGES: idx(np.zeros(4, np.uint8))}), "bad_array", IMAGES),
    "another number": (
        mnist(**{LABELS: idx(np.zeros(4, np.uint8))}),
        "count_mismatch",
        f"{IMAGES}: 48 images, 4 labels",
    ),
    "cut off": (mnist(**{IMAGES: mnist()[IMAGES][:-30]}), "bad_array", f"{IMAGES}: the gzip file ends too early"),
    "damaged": (mnist(**{IMAGES: b"\x1f\x8b\x08\x00" + b"\xff" * 90}), "bad_array", f"{IMAGES}: the gzip file is"),
    "an unnamed class": ({**mnist(), "classes.txt": b"a\nb\n"}, "bad_class", "label 2 of 2 classes"),
    "images beside": ({**mnist(), **class_folders(("cats",), 2)}, "mixed_formats", "cats/000.png"),
    "the same part twice": ({**mnist(), **mnist(zipped=False)}, "duplicate_name", "train-images"),
}


@pytest.mark.parametrize("case", BAD_MNIST)
def test_a_bad_mnist_zip_is_refused(tmp_path: Path, case: str) -> None:
    files, code, place = BAD_MNIST[case]

    result = inspected(tmp_path, files)

    found = {problem["code"]: problem for problem in result["problems"]}
    assert code in found, result["problems"]
    assert place in " ".join(found[code]["items"])
    assert found[code]["message"].count(".") >= 2


def test_one_idx_file_alone_is_told_what_it_lacks(tmp_path: Path) -> None:
    for number, content in enumerate((mnist(zipped=False)["train-images-idx3-ubyte"], mnist()[IMAGES])):
        result = inspected_bytes(tmp_path / str(number), content)

        assert codes(result) == ["file_type"]
        assert "zip" in result["problems"][0]["message"]


def test_arrays_are_of_classification_alone(tmp_path: Path) -> None:
    result = inspected_bytes(tmp_path, tar_gz(cifar10()), task=Task.OBJECT_DETECTION)

    assert result["status"] == "invalid"
