"""Bad weights get a code and a reason; good ones are measured."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from finetuning.engine import frameworks, verify, weights
from finetuning.engine.events import EventWriter
from finetuning.engine.frameworks.timm_models import build
from finetuning.engine.spec import Framework, Task, VerifySpec, WeightsSpec

ARCHITECTURE = "test_efficientnet"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    directory = tmp_path / "inputs/release"
    config = {"architecture": ARCHITECTURE, "num_classes": 4, "pretrained_cfg": {"input_size": [3, 64, 64]}}
    frameworks.write_release(directory, build(ARCHITECTURE, config))
    return directory


def verified(release: Path) -> dict[str, Any]:
    run_dir = release.parent.parent
    spec = VerifySpec(
        weights=WeightsSpec(task=Task.IMAGE_CLASSIFICATION, framework=Framework.TIMM, architecture=ARCHITECTURE)
    )
    with EventWriter(run_dir / "events.jsonl") as events:
        return verify.run(spec, run_dir, events)


def code_of(release: Path) -> str:
    result = verified(release)
    assert result["status"] == "rejected"
    return str(result["problems"][0]["code"])


def test_a_good_release_is_accepted_measured_and_gets_a_golden_pair(release: Path) -> None:
    result = verified(release)

    assert result["status"] == "accepted"
    assert result["report"]["parameters"] > 100_000
    assert result["report"]["gflops"] > 0
    golden = release.parent.parent / "outputs/golden.safetensors"
    golden.rename(release / "golden.safetensors")
    again = verified(release)
    assert again["report"]["golden"]["source"] == "vendor"
    assert again["report"]["golden"]["max_abs_difference"] < 1e-4


def change(release: Path, **tensors: torch.Tensor | None) -> None:
    path = release / "model.safetensors"
    found = weights.load_tensors(path)
    for name, tensor in tensors.items():
        key = name.replace("__", ".")
        found.pop(key, None)
        if tensor is not None:
            found[key] = tensor
    weights.save_tensors(path, found)


def test_weights_of_another_shape_or_with_other_names_are_refused(release: Path) -> None:
    change(release, classifier__weight=torch.zeros(3, 3))
    assert code_of(release) == "shape_mismatch"

    change(release, classifier__weight=None)
    assert code_of(release) == "keys_mismatch"


def test_nan_weights_are_refused_by_name(release: Path) -> None:
    change(release, classifier__bias=torch.full((4,), float("nan")))

    assert code_of(release) == "non_finite"


def raw(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\x80\x04\x95pickle....", "not_safetensors"),
        (b"PK\x03\x04 a torch archive", "not_safetensors"),
        (b"x", "not_safetensors"),
        (struct.pack("<Q", 2**40) + b"{}", "bad_header"),
        (raw(b"not json"), "not_safetensors"),
        (raw(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{}}', b"1234"), "duplicate_tensor"),
        (raw(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', b"1234"), "shape"),
        (raw(b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}', b"1234"), "dtype"),
        (raw(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', b"12345678"), "bad_offsets"),
        (raw(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"123456"), "bad_offsets"),
    ],
)
def test_a_file_whose_header_lies_is_refused(release: Path, content: bytes, code: str) -> None:
    (release / "model.safetensors").write_bytes(content)

    assert code_of(release) == code


def test_a_config_that_is_missing_or_names_another_model_is_refused(release: Path) -> None:
    path = release / "config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "architecture": "resnet18"}))
    assert code_of(release) == "config_invalid"

    path.unlink()
    assert code_of(release) == "config_missing"


def test_an_altered_golden_pair_is_noticed(release: Path) -> None:
    verified(release)
    pair = weights.load_tensors(release.parent.parent / "outputs/golden.safetensors")
    weights.save_tensors(release / "golden.safetensors", {**pair, "output": pair["output"] + 1})

    assert code_of(release) == "golden_mismatch"
