"""ONNX files of text classifiers, segmenters and detectors: the same answers as their releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from shapes_factory import pack_of, scenes
from texts_factory import LABELS, loaded_from, run_verb, sentence, tiny_encoder
from texts_factory import weights_at as text_weights_at

from finetuning.engine import canvas, export, frameworks, tasks
from finetuning.engine.events import EventWriter
from finetuning.engine.exporting import detection, parity
from finetuning.engine.failures import UserFault
from finetuning.engine.frameworks import Loaded, segmenters
from finetuning.engine.frameworks.transformers_models import with_head
from finetuning.engine.packs import Item, PackReader, PackWriter
from finetuning.engine.spec import ExportSpec, Framework, Preprocessing, Split, Task, WeightsSpec

ARCHITECTURE, SIDE = "test_efficientnet", 64


def session(run_dir: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(run_dir / "outputs/model.onnx", providers=["CPUExecutionProvider"])


def text_classifier(directory: Path, pooling: str) -> Loaded:
    base = with_head(loaded_from(tiny_encoder(directory, pooling=pooling)), len(LABELS))
    torch.manual_seed(0)
    head = torch.randn(len(LABELS), 32)
    return frameworks.replace_head(base, LABELS, head - head.mean(0), torch.zeros(len(LABELS)))


def text_pack(path: Path, texts: list[str]) -> None:
    items = [
        Item(
            index=index,
            file="",
            name=str(index),
            label=0,
            split=Split.TEST,
            width=0,
            height=0,
            sha256="",
            pixel_sha256="",
            phash="",
            text=text,
        )
        for index, text in enumerate(texts, 1)
    ]
    with PackWriter(path, items):
        pass


@pytest.mark.parametrize("pooling", ["mean", "pooler"])
def test_a_text_classifier_agrees_whatever_the_number_and_length_of_texts(tmp_path: Path, pooling: str) -> None:
    loaded = text_classifier(tmp_path / "bought", pooling)
    loaded.temperature = 0.7
    frameworks.write_release(tmp_path / "run/inputs/release", loaded)
    texts = ["salt", *(sentence(label, number) for number in range(20) for label in LABELS)]
    text_pack(tmp_path / "run/inputs/test.pack", texts)

    result = run_verb(export, ExportSpec(weights=text_weights_at("inputs/release")), tmp_path / "run")

    assert result["status"] == "exported"
    assert result["parity"]["items"] == 61
    assert result["parity"]["max_abs_difference"]["logits"] < 1e-4
    running = session(tmp_path / "run")
    notes = running.get_modelmeta().custom_metadata_map
    assert (notes["max_tokens"], notes["padding"]) == ("62", "0")
    answer = tasks.module_of(loaded.task).answering(loaded)
    tokenizer = tasks.module_of(loaded.task).TextReader(loaded)
    for text in texts[:4]:
        (row,) = tokenizer.rows([text])
        given = {"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), np.int64)}
        probabilities, index = running.run(["probabilities", "class_index"], given)
        with torch.inference_mode():
            best = answer(text, 1)["predictions"][0]
        assert int(index[0]) == best["index"]
        assert probabilities[0, index[0]] == pytest.approx(best["confidence"], abs=1e-4)


def test_an_encoder_without_classes_is_not_exported(tmp_path: Path) -> None:
    tiny_encoder(tmp_path / "inputs/release")
    text_pack(tmp_path / "inputs/test.pack", ["salt"])

    with pytest.raises(UserFault) as refused:
        run_verb(export, ExportSpec(weights=text_weights_at("inputs/release")), tmp_path)

    assert refused.value.code == "no_classes"


def classifier() -> Loaded:
    torch.manual_seed(0)
    config = {
        "architecture": ARCHITECTURE,
        "num_classes": 5,
        "label_names": list("abcde"),
        "pretrained_cfg": {"input_size": [3, SIDE, SIDE], "crop_pct": 1.0},
    }
    return frameworks.build(Framework.TIMM, ARCHITECTURE, config)


def exported(run_dir: Path, loaded: Loaded, architecture: str = ARCHITECTURE) -> dict[str, Any]:
    frameworks.write_release(run_dir / "inputs/release", loaded)
    pack_of(run_dir / "inputs/test.pack", scenes())
    weights = WeightsSpec(
        task=loaded.task, framework=loaded.framework, architecture=architecture, directory="inputs/release"
    )
    return run_verb(export, ExportSpec(weights=weights), run_dir)


def segmenter() -> Loaded:
    loaded = segmenters.started(classifier(), ("ground", "red", "blue"), seed=0)
    final: Any = loaded.module.get_submodule("decoder.classifier")
    with torch.no_grad():
        final.weight.normal_()
    return loaded


def test_a_segmenter_gives_the_class_of_each_of_the_images_own_pixels(tmp_path: Path) -> None:
    loaded = segmenter()

    result = exported(tmp_path, loaded)

    assert result["status"] == "exported"
    assert result["parity"]["unit"] == "pixels"
    assert result["parity"]["compared"] == sum(image.width * image.height for image in scenes())
    image = scenes()[1]
    (found,) = session(tmp_path).run(["class_map"], {"image": np.asarray(image)})
    pixels, _ = canvas.evaluation_view(image, None, loaded.preprocessing or Preprocessing())
    with torch.inference_mode():
        wanted = canvas.classes_on(loaded.module.eval()(pixels[None])["out"][0], image.size)
    assert found.dtype == np.uint8
    assert found.shape == (image.height, image.width)
    assert (found == wanted).mean() > 0.999
    assert len(np.unique(wanted)) > 1  # else anything would agree


def test_a_segmenter_of_other_weights_is_rejected(tmp_path: Path) -> None:
    loaded = segmenter()
    exported(tmp_path, loaded)
    with torch.no_grad():
        loaded.module.get_submodule("decoder.classifier").weight.mul_(-1)

    with EventWriter(tmp_path / "events.jsonl") as events:
        pack = PackReader(tmp_path / "inputs/test.pack")
        path = tmp_path / "outputs/model.onnx"
        result = export.gated(path.read_bytes(), path, loaded, pack, events, max_items=5, seed=0)

    assert result["status"] == "rejected"
    assert not (tmp_path / "outputs/model.onnx").exists()


def detector() -> Loaded:
    """Sure of boxes at random places: its class scores are spread out, its boxes as wide as their cells."""
    loaded = frameworks.detector(classifier(), ("disc", "square"), size=SIDE)
    with torch.no_grad():
        loaded.module.head.classification_head.cls_logits.weight.mul_(60)
        loaded.module.head.regression_head.bbox_reg.bias.fill_(1.0)
    loaded.config["detector"] = {**loaded.config["detector"], "confidence": 0.3}
    return loaded


def test_a_detector_finds_the_same_boxes_in_the_images_own_pixels(tmp_path: Path) -> None:
    loaded = detector()

    result = exported(tmp_path, loaded)

    assert result["status"] == "exported"
    assert result["parity"]["unit"] == "boxes"
    assert result["parity"]["compared"] > 500
    assert result["parity"]["max_abs_difference"]["scores"] < 0.01
    image = scenes()[1]
    running = session(tmp_path)
    boxes, scores, classes = running.run(["boxes", "scores", "class_index"], {"image": np.asarray(image)})
    with torch.inference_mode():
        wanted = tasks.module_of(Task.OBJECT_DETECTION).answering(loaded)(image, None)["predictions"]
    assert len(boxes) == len(wanted)
    assert classes.tolist() == [entry["index"] for entry in wanted]
    np.testing.assert_allclose(scores, [entry["confidence"] for entry in wanted], atol=0.01)
    corners = [[entry["box"][side] for side in ("left", "top", "right", "bottom")] for entry in wanted]
    np.testing.assert_allclose(boxes, corners, atol=0.1)
    assert float(running.get_modelmeta().custom_metadata_map["confidence"]) == 0.3


def test_a_detector_that_finds_nothing_proves_nothing(tmp_path: Path) -> None:
    loaded = detector()
    with torch.no_grad():
        loaded.module.head.classification_head.cls_logits.bias.fill_(-50)

    result = exported(tmp_path, loaded)

    assert result["status"] == "rejected"
    assert result["parity"]["compared"] == 0
    assert result["file"] is None


def test_boxes_agree_only_with_the_same_box_of_the_same_class() -> None:
    found = parity.Parity("boxes", parity.MIN_BOX_AGREEMENT)
    square = np.array([[10.0, 10, 30, 30], [50, 50, 50, 60]])
    one = detection.Found(square, np.array([0, 1]), np.array([0.9, 0.8]))
    moved = detection.Found(square + np.array([[0.4], [0.2]]), np.array([0, 0]), np.array([0.85, 0.8]))

    detection._tally(found, one, moved, 0.5)

    assert (found.agreed, found.compared) == (2, 4)
    assert found.max_abs_difference == {"scores": pytest.approx(0.05), "pixels": pytest.approx(0.4)}


def test_other_detectors_are_refused_by_name(tmp_path: Path) -> None:
    config = {
        "library": "torchvision",
        "task": "object-detection",
        "architecture": "ssdlite320_mobilenet_v3_large",
        "detector": {"kind": "torchvision", "frozen_norms": False},
        "num_classes": 2,
        "label_names": ["a", "b"],
        "pretrained_cfg": {"input_size": [3, 320, 320]},
    }
    loaded = frameworks.build(Framework.TORCHVISION, config["architecture"], config)

    with pytest.raises(UserFault, match="only FCOS") as refused:
        exported(tmp_path, loaded, config["architecture"])

    assert refused.value.code == "export_unsupported"
