"""Texts of any number of labels from training to the answer and the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from texts_factory import (
    LABELS,
    inspected_texts,
    lay_out,
    loaded_from,
    run_verb,
    tagged,
    tagged_csv,
    tiny_encoder,
    weights_at,
)
from transformers import AutoModelForSequenceClassification

from finetuning.engine import evaluate, export, serve, spec, tokens, train, verify
from finetuning.engine.failures import UserFault
from finetuning.engine.hyper import Hyper, Loss, Strategy
from finetuning.engine.packs import PackReader

NAMES = tuple(sorted(LABELS))
Made = tuple[Path, dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("bought") / "release", pooling="pooler", spread=0.1)


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("inspect")
    result = inspected_texts(run_dir, tagged_csv(260), salt="test")
    assert result["status"] == "valid", result["problems"]
    return run_dir / "outputs"


def made(run_dir: Path, bought: Path, packs: Path, strategy: Strategy, **hyper: Any) -> Made:
    """Returns the run directory and the results of train and evaluate in it."""
    lay_out(run_dir, release=bought, train_pack=packs / "train.pack", test_pack=packs / "test.pack")
    order = spec.TrainSpec(
        weights=weights_at("inputs/release"), strategy=strategy, labels=NAMES, hyper=Hyper(**hyper), threads=1
    )
    judged = spec.EvaluateSpec(
        strategy=strategy,
        base=weights_at("inputs/release"),
        tuned=weights_at("outputs/release"),
        labels=NAMES,
        train_outputs="outputs",
    )
    return run_dir, run_verb(train, order, run_dir), run_verb(evaluate, judged, run_dir)["evaluation"]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, bought: Path, packs: Path) -> Made:
    run_dir = tmp_path_factory.mktemp("tuned") / "run"
    return made(run_dir, bought, packs, Strategy.FULL, epochs=6, learning_rate=3e-3, batch_size=16)


def test_a_full_run_is_judged_as_images_are_and_by_word_counts_too(tuned: Made, packs: Path) -> None:
    _, training, evaluation = tuned

    assert evaluation["multi_label"] is True
    assert evaluation["metrics"]["macro_average_precision"]["value"] > 0.8
    assert evaluation["baseline"]["kind"] == "bought_with_probe"
    rows = {row["kind"]: row for row in evaluation["other_baselines"]}
    assert set(rows) == {"prior", "tfidf"}
    assert rows["prior"]["verdict_code"] == "better"
    assert rows["tfidf"]["macro_average_precision"]["value"] > 0.8
    assert evaluation["comparison"]["test"] == "paired bootstrap of texts"
    assert "test texts" in evaluation["verdict"]
    assert {row["label"]: row["threshold"] for row in evaluation["per_class"]} == training["thresholds"]
    texts = {item.index: item.text for item in PackReader(packs / "test.pack").items}
    assert all(mistake["text"] == texts[mistake["index"]] for mistake in evaluation["worst"])
    assert training["cross_validation"]["k"] == 10
    assert "leave_one_out" not in training
    assert training["label_audit"]["items"] == training["cross_validation"]["items"]


@pytest.mark.parametrize("strategy", [Strategy.HEAD, Strategy.LORA])
def test_other_strategies_run_with_binary_cross_entropy(
    tmp_path: Path, tuned: Made, bought: Path, packs: Path, strategy: Strategy
) -> None:
    is_head = strategy is Strategy.HEAD
    release = tuned[0] / "outputs/release" if is_head else bought  # which knows these labels
    _, training, evaluation = made(tmp_path / "run", release, packs, strategy, epochs=1, loss=Loss.BINARY_WEIGHTED)

    assert training["validation"]["macro_average_precision"] > 0.5
    assert evaluation["baseline"]["kind"] == ("prior" if is_head else "bought_with_probe")
    others = [row["kind"] for row in evaluation["other_baselines"]]
    assert others == (["tfidf", "parent"] if is_head else ["prior", "tfidf"])


def test_a_loss_of_single_labels_is_refused_before_any_work(tmp_path: Path, bought: Path, packs: Path) -> None:
    with pytest.raises(UserFault) as refused:
        made(tmp_path / "run", bought, packs, Strategy.FULL, loss=Loss.FOCAL)

    assert refused.value.code == "loss_unsupported"


def test_the_release_answers_alike_here_and_in_plain_transformers(tmp_path: Path, tuned: Made) -> None:
    release = tmp_path / ("a" * 40)
    release.symlink_to(tuned[0] / "outputs/release")
    document = {"task": "text-classification", "framework": "transformers", "architecture": "BertModel"}
    (release / "weights.json").write_text(json.dumps(document))

    answer = serve.Models(tmp_path, 1).predict("a" * 40, "the old rook with salt", None)["predictions"]
    theirs = AutoModelForSequenceClassification.from_pretrained(release).eval()

    assert theirs.config.problem_type == "multi_label_classification"
    assert {row["label"]: row["threshold"] for row in answer} == tuned[1]["thresholds"]
    loaded = loaded_from(release)
    ids, mask = (reader := tokens.TextReader(loaded)).batch(reader.rows(["the old rook with salt"]))
    with torch.no_grad():
        shares = loaded.probabilities(theirs(ids, attention_mask=mask).logits[0]).tolist()
    assert [row["confidence"] for row in answer] == pytest.approx([shares[row["index"]] for row in answer], abs=1e-5)
    assert all(row["is_found"] is (row["confidence"] >= row["threshold"]) for row in answer)
    again = lay_out(tmp_path / "verify", release=release)
    assert run_verb(verify, spec.VerifySpec(weights=weights_at("inputs/release")), again)["status"] == "accepted"


def test_the_onnx_file_makes_the_same_decisions(tuned: Made) -> None:
    run_dir = tuned[0]

    result = run_verb(export, spec.ExportSpec(weights=weights_at("outputs/release")), run_dir)

    assert result["status"] == "exported", result
    assert (result["parity"]["unit"], result["parity"]["agreement"]) == ("labels", 1)
    session = onnxruntime.InferenceSession(run_dir / "outputs/model.onnx", providers=["CPUExecutionProvider"])
    reader = tokens.TextReader(loaded_from(run_dir / "outputs/release"))
    ids, mask = (part.numpy() for part in reader.batch(reader.rows([tagged(seed)[0] for seed in (1, 2)])))
    found, shares = session.run(["found", "probabilities"], {"input_ids": ids, "attention_mask": mask})
    limits = np.array([tuned[1]["thresholds"][name] for name in NAMES], np.float32)
    assert found.shape == (2, 3)
    assert (found == (shares >= limits)).all()
    assert "thresholds" in session.get_modelmeta().custom_metadata_map
