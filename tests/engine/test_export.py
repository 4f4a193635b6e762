"""A release as one ONNX file: it answers as the release does, from raw pixels on, or there is no file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import warm_engine
from PIL import Image
from shapes_factory import ARCHITECTURE, LABELS, SIDE, pack_of, scenes, weights_at
from torch import Tensor

from finetuning.engine import export, frameworks, preprocessing, spec, tasks
from finetuning.engine.events import EventWriter
from finetuning.engine.exporting import graphs, parity, pictures
from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks import Loaded
from finetuning.engine.frameworks.stage_head import POOLINGS
from finetuning.engine.frameworks.timm_models import build
from finetuning.engine.hyper import Features
from finetuning.engine.packs import PackReader
from finetuning.engine.spec import ExportSpec, Preprocessing, Verb

ROOT = Path(__file__).resolve().parents[2]
TEMPERATURE = 1.5


def classifier(*, features: Features = Features.LAST, **view: Any) -> Loaded:
    """A calibrated classifier of random weights that sees every class in some of the scenes."""
    torch.manual_seed(0)
    config = {
        "architecture": ARCHITECTURE,
        "num_classes": len(LABELS),
        "label_names": list(LABELS),
        "pretrained_cfg": {"input_size": [3, SIDE, SIDE], "crop_pct": 0.875, **view},
    }
    loaded = build(ARCHITECTURE, config)
    loaded = frameworks.with_stage_head(loaded, POOLINGS[features]) if features in POOLINGS else loaded
    head, to_input = frameworks.head_of(loaded), preprocessing.transform(loaded.preprocessing)
    with torch.no_grad():
        head.bias.zero_()
        logits = loaded.module.eval()(torch.stack([to_input(image) for image in scenes()]))
        spread = logits.std(0)
        head.weight.div_(spread[:, None])
        head.bias.sub_(logits.mean(0) / spread)
    loaded.temperature = TEMPERATURE
    return loaded


def laid_out(run_dir: Path, loaded: Loaded, *, images: list[Image.Image] | None = None) -> ExportSpec:
    """Makes a run directory for the verb."""
    (run_dir / "outputs").mkdir(parents=True)
    (run_dir / "inputs").mkdir()
    frameworks.write_release(run_dir / "inputs/release", loaded)
    pack_of(run_dir / "inputs/test.pack", scenes() if images is None else images)
    order = ExportSpec(
        weights=weights_at("inputs/release"), license_note="Example 1.0, research only", lineage=("acme/parent 2.0",)
    )
    spec.write(order, run_dir)
    return order


def exported(run_dir: Path, order: ExportSpec) -> dict[str, Any]:
    with EventWriter(run_dir / "events.jsonl") as events:
        return export.run(order, run_dir, events)


def session(run_dir: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(run_dir / "outputs/model.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"features": Features.STAGES},
        {"features": Features.GRID},
        {"interpolation": "lanczos"},
        {"crop_pct": 1.0, "mean": [0.5, 0.4, 0.3]},
    ],
)
def test_a_classifier_agrees_with_its_release_on_images_of_any_size(tmp_path: Path, choices: dict[str, Any]) -> None:
    result = exported(tmp_path, laid_out(tmp_path, classifier(**choices)))

    assert result["status"] == "exported"
    assert result["parity"]["agreement"] == 1.0
    assert result["parity"]["items"] == result["parity"]["compared"] == 36
    assert result["parity"]["max_abs_difference"]["logits"] < 1e-3
    content = (tmp_path / "outputs/model.onnx").read_bytes()
    assert result["file"] == {
        "path": "model.onnx",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert result["opset"] == 18


def test_a_plain_session_on_raw_pixels_says_what_serve_says(tmp_path: Path) -> None:
    loaded = classifier(features=Features.STAGES)
    exported(tmp_path, laid_out(tmp_path, loaded))
    answer = tasks.module_of(loaded.task).answering(loaded)
    running = session(tmp_path)
    seen = set()

    for image in scenes():
        with torch.inference_mode():
            best = answer(image, 1)["predictions"][0]
        probabilities, index = running.run(["probabilities", "class_index"], {"image": np.asarray(image)})

        assert index == best["index"]
        assert probabilities[index] == pytest.approx(best["confidence"], abs=1e-4)
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)
        seen.add(int(index))

    assert len(seen) > 1  # else anything would agree


def test_the_file_names_its_labels_license_and_lineage_and_nothing_of_the_machine(tmp_path: Path) -> None:
    exported(tmp_path, laid_out(tmp_path, classifier()))

    notes = session(tmp_path).get_modelmeta().custom_metadata_map
    assert json.loads(notes["labels"]) == list(LABELS)
    assert notes["license"] == "Example 1.0, research only"
    assert json.loads(notes["lineage"]) == ["acme/parent 2.0"]
    assert (notes["task"], notes["architecture"]) == ("image-classification", ARCHITECTURE)
    assert float(notes["temperature"]) == TEMPERATURE
    weights = (tmp_path / "inputs/release/model.safetensors").read_bytes()
    assert notes["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    content = (tmp_path / "outputs/model.onnx").read_bytes()
    assert b"site-packages" not in content
    assert str(ROOT).encode() not in content


def test_weights_changed_after_the_export_are_rejected_and_leave_no_file(tmp_path: Path) -> None:
    loaded = classifier()
    exported(tmp_path, laid_out(tmp_path, loaded))
    with torch.no_grad():
        frameworks.head_of(loaded).weight.mul_(-1)

    path = tmp_path / "outputs/model.onnx"
    with EventWriter(tmp_path / "events.jsonl") as events:
        pack = PackReader(tmp_path / "inputs/test.pack")
        result = export.gated(path.read_bytes(), path, loaded, pack, events, max_items=20, seed=1)

    assert result["status"] == "rejected"
    assert result["file"] is None
    assert not path.exists()
    assert result["parity"]["agreement"] < 0.9
    assert result["parity"]["items"] == 20
    assert result["parity"]["max_abs_difference"]["logits"] > 1


def test_the_verb_is_a_program_whose_outputs_are_the_file_alone(tmp_path: Path) -> None:
    laid_out(tmp_path, classifier())

    result = warm_engine.succeeded(warm_engine.run(Verb.EXPORT, tmp_path), tmp_path)

    assert result["status"] == "exported"
    assert list(result["outputs"]) == ["model.onnx"]
    assert result["outputs"]["model.onnx"]["sha256"] == result["file"]["sha256"]


def view_of(interpolation: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the levels (3, 224, 224) of noise of (height, width), as the file and as PIL makes them."""
    view = Preprocessing(size=224, interpolation=interpolation, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    running = parity.session_of(pictures.cropped(view).SerializeToString())
    (pixels,) = running.run(None, {"image": noise})
    return 255 * pixels[0], 255 * preprocessing.transform(view)(Image.fromarray(noise)).numpy()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(1023, 767), (500, 333), (300, 451), (300, 2000), (64, 64), (48, 37), (256, 256)])
def test_pixels_are_pils_to_the_bit(interpolation: str, size: tuple[int, int]) -> None:
    found, wanted = view_of(interpolation, size)

    np.testing.assert_array_equal(found, wanted)


def test_tall_reduced_images_differ_by_a_level_where_pil_takes_the_height_first() -> None:
    found, wanted = view_of("bilinear", (1300, 400))

    assert np.abs(np.rint(found - wanted)).max() <= 1


def test_nearest_takes_pils_pixel() -> None:
    found, wanted = view_of("nearest", (500, 333))

    np.testing.assert_array_equal(found, wanted)


class _Determinant(torch.nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return torch.linalg.eigvals(pixels[:, 0]).real[:, :3]


def test_a_network_of_unknown_operations_is_refused() -> None:
    loaded = classifier()

    with pytest.raises(UserFault, match=ARCHITECTURE) as refused:
        graphs.network(loaded, _Determinant(), {"pixels": torch.randn(1, 3, 8, 8)}, ["scores"])

    assert refused.value.code == "export_unsupported"
    assert refused.value.items


def test_nothing_compared_is_nothing_proven(tmp_path: Path) -> None:
    order = laid_out(tmp_path, classifier(), images=[])

    with pytest.raises(UserFault) as refused:
        exported(tmp_path, order)

    assert refused.value.code == "no_test_items"
    assert not parity.Parity("boxes", items=3).is_enough


def test_every_graph_is_of_the_opset_that_is_reported(tmp_path: Path) -> None:
    result = exported(tmp_path, laid_out(tmp_path, classifier()))

    model = onnx.load(tmp_path / "outputs/model.onnx")
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == result["opset"]
