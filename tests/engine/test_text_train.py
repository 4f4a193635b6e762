"""Text classification as a program, on a tiny encoder with random weights and sentences that can be learned."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from texts_factory import (
    LABELS,
    csv_of,
    inspected_texts,
    lay_out,
    loaded_from,
    run_verb,
    sentences,
    tiny_encoder,
    weights_at,
)
from transformers import AutoModel, AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification

from finetuning.engine import evaluate, features, frameworks, lora, results, spec, tokens, train, verify, weights
from finetuning.engine.failures import AppFault
from finetuning.engine.frameworks.transformers_models import with_head
from finetuning.engine.hyper import Hyper, Schedule, Strategy, Task, defaults_for
from finetuning.engine.packs import PackReader
from finetuning.engine.tasks import text

NAMES = tuple(sorted(LABELS))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def bought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("bought") / "release")


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("inspect")
    result = inspected_texts(run_dir, csv_of(sentences(60)), salt="test")
    assert result["status"] == "valid", result["problems"]
    return run_dir / "outputs"


def trained(run_dir: Path, bought: Path, packs: Path, strategy: Strategy, **hyper: Any) -> dict[str, Any]:
    lay_out(run_dir, release=bought, train_pack=packs / "train.pack")
    order = spec.TrainSpec(
        weights=weights_at("inputs/release"), strategy=strategy, labels=NAMES, hyper=Hyper(**hyper), threads=1
    )
    return run_verb(train, order, run_dir)


def evaluated(run_dir: Path, bought: Path, packs: Path, trained_in: Path, strategy: Strategy) -> dict[str, Any]:
    lay_out(run_dir, base=bought, train=trained_in / "outputs", test_pack=packs / "test.pack")
    order = spec.EvaluateSpec(
        strategy=strategy, base=weights_at("inputs/base"), tuned=weights_at("inputs/train/release"), labels=NAMES
    )
    return run_verb(evaluate, order, run_dir)["evaluation"]


def test_a_head_run_learns_and_leaves_the_frozen_weights_byte_equal(tmp_path: Path, bought: Path, packs: Path) -> None:
    result = trained(tmp_path / "a", bought, packs, Strategy.HEAD)
    evaluation = evaluated(tmp_path / "b", bought, packs, tmp_path / "a", Strategy.HEAD)

    assert result["validation"]["accuracy"] > 0.6
    assert evaluation["metrics"]["accuracy"]["value"] > 0.6
    assert evaluation["baseline"]["kind"] == "majority"
    assert [row["kind"] for row in evaluation["other_baselines"]] == ["tfidf"]
    before = weights.load_tensors(bought / "model.safetensors")
    after = weights.load_tensors(tmp_path / "a/outputs/release/model.safetensors")
    assert set(after) == {f"bert.{name}" for name in before} | {"classifier.weight", "classifier.bias"}
    assert all(torch.equal(tensor, after[f"bert.{name}"]) for name, tensor in before.items())


def test_a_full_run_learns_and_is_compared_with_every_baseline(tmp_path: Path, bought: Path, packs: Path) -> None:
    trained(tmp_path / "a", bought, packs, Strategy.FULL, epochs=6, learning_rate=2e-3, batch_size=16)
    evaluation = evaluated(tmp_path / "b", bought, packs, tmp_path / "a", Strategy.FULL)

    assert evaluation["metrics"]["accuracy"]["value"] > 0.85
    assert evaluation["metrics"]["matthews_correlation"]["value"] > 0.75
    assert evaluation["baseline"]["kind"] == "bought_with_probe"
    assert "test texts" in evaluation["verdict"]
    rows = {row["kind"]: row for row in evaluation["other_baselines"]}
    assert set(rows) == {"tfidf", "majority"}
    assert rows["tfidf"]["accuracy"]["value"] > 0.8
    assert rows["majority"]["verdict_code"] == "better"
    assert set(rows["tfidf"]) == {"kind", "title", "accuracy", "comparison", "verdict", "verdict_code"}


def test_worst_mistakes_carry_their_text(tmp_path: Path, bought: Path, packs: Path) -> None:
    trained(tmp_path / "a", bought, packs, Strategy.SCRATCH, epochs=1, learning_rate=1e-6)

    evaluation = evaluated(tmp_path / "b", bought, packs, tmp_path / "a", Strategy.SCRATCH)

    texts = {item.index: item.text for item in PackReader(packs / "test.pack").items}
    assert evaluation["worst"]
    assert all(mistake["text"] == texts[mistake["index"]][:300] for mistake in evaluation["worst"])


def test_the_same_seed_gives_the_same_weights(tmp_path: Path, bought: Path, packs: Path) -> None:
    digests = []
    for name in ("a", "b"):
        trained(tmp_path / name, bought, packs, Strategy.FULL, epochs=1, seed=3)
        digests.append(results.sha256_of(tmp_path / name / "outputs/release/model.safetensors"))

    assert digests[0] == digests[1]


def test_tuning_the_last_layer_leaves_the_others_byte_equal(tmp_path: Path, bought: Path, packs: Path) -> None:
    trained(tmp_path / "a", bought, packs, Strategy.LAST, epochs=1, stages=1, start_from_probe=False)

    before = weights.load_tensors(bought / "model.safetensors")
    after = weights.load_tensors(tmp_path / "a/outputs/release/model.safetensors")
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[f"bert.{name}"])}
    assert changed
    assert all(name.startswith("encoder.layer.1.") for name in changed)


def test_lora_changes_queries_and_values_alone(tmp_path: Path, bought: Path, packs: Path) -> None:
    trained(tmp_path / "a", bought, packs, Strategy.LORA, epochs=1, start_from_probe=False, lora_rank=2)

    before = weights.load_tensors(bought / "model.safetensors")
    after = weights.load_tensors(tmp_path / "a/outputs/release/model.safetensors")
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[f"bert.{name}"])}
    assert changed == {
        f"encoder.layer.{layer}.attention.self.{name}.weight" for layer in (0, 1) for name in ("query", "value")
    }


def test_merged_lora_equals_unmerged(bought: Path) -> None:
    loaded = with_head(loaded_from(bought), 3)
    module = loaded.module.eval()
    updates = lora.attach(module, rank=2, skip=frameworks.stages(loaded)[-1][1], only=text.LORA_NAMES)
    for update in updates:
        torch.nn.init.normal_(update.up, std=0.1)
    ids, mask = torch.randint(5, 30, (4, 12)), torch.ones(4, 12, dtype=torch.int64)
    with torch.no_grad():
        unmerged = module(ids, mask)
        lora.merge(module)
        merged = module(ids, mask)

    assert len(updates) == 4
    torch.testing.assert_close(merged, unmerged, atol=1e-5, rtol=1e-5)


def test_an_update_that_a_layer_would_not_answer_alike_with_is_not_merged(bought: Path) -> None:
    loaded = with_head(loaded_from(bought), 3)
    update = lora.attach(loaded.module, rank=2, skip=[], only=("query",))[0]
    torch.nn.init.normal_(update.up)
    with torch.no_grad():
        update.frozen.weight[0, 0] = float("nan")

    with pytest.raises(AppFault) as fault:
        lora.merge(loaded.module)

    assert fault.value.code == "merge_differs"


def test_cached_features_equal_live_ones_whatever_they_are_padded_to(bought: Path) -> None:
    loaded = with_head(loaded_from(bought), 3)
    reader = tokens.TextReader(loaded, 20)
    rows = reader.rows([sentence for sentence, _ in sentences(40)] + ["salt"])
    headless = frameworks.headless(loaded)

    cached = tokens.outputs(headless, reader, rows, device=torch.device("cpu"), dtype=torch.float32)
    with torch.no_grad():
        live = torch.cat([headless(*reader.batch([row])) for row in rows])

    torch.testing.assert_close(cached, live, atol=1e-5, rtol=0)


def test_verify_accepts_the_tuned_release_and_its_golden_pair(tmp_path: Path, bought: Path, packs: Path) -> None:
    trained(tmp_path / "a", bought, packs, Strategy.HEAD)
    run_dir = lay_out(tmp_path / "b", release=tmp_path / "a/outputs/release")
    order = spec.VerifySpec(weights=weights_at("inputs/release"))

    first = run_verb(verify, order, run_dir)
    (tmp_path / "a/outputs/release/golden.safetensors").write_bytes(
        (run_dir / "outputs/golden.safetensors").read_bytes()
    )
    again = run_verb(verify, order, run_dir)

    assert first["status"] == again["status"] == "accepted"
    assert first["report"]["labels"] == list(NAMES)
    assert again["report"]["golden"] == {"source": "vendor", "max_abs_difference": 0.0}
    assert (tmp_path / "a/outputs/release/vocab.txt").is_file()


def test_plain_transformers_reads_the_encoder_of_a_tuned_release(tmp_path: Path, bought: Path, packs: Path) -> None:
    trained(tmp_path / "a", bought, packs, Strategy.HEAD)
    release = tmp_path / "a/outputs/release"

    encoder = AutoModel.from_pretrained(release)

    ours = weights.load_tensors(release / "model.safetensors")
    assert torch.equal(
        encoder.state_dict()["encoder.layer.1.output.dense.weight"], ours["bert.encoder.layer.1.output.dense.weight"]
    )


def test_plain_transformers_classifies_alike_where_the_pooler_pools(tmp_path: Path, packs: Path) -> None:
    release = tiny_encoder(tmp_path / "release", pooling="pooler")
    trained(tmp_path / "a", release, packs, Strategy.HEAD)
    tuned = tmp_path / "a/outputs/release"
    loaded = loaded_from(tuned)
    ids, mask = torch.randint(5, 30, (4, 12)), torch.ones(4, 12, dtype=torch.int64)

    theirs = AutoModelForSequenceClassification.from_pretrained(tuned).eval()

    with torch.no_grad():
        torch.testing.assert_close(theirs(ids, attention_mask=mask).logits, loaded.module(ids, mask))
    assert theirs.config.id2label == dict(enumerate(NAMES))


def test_a_classifier_of_the_library_s_own_gets_a_new_head(tmp_path: Path, packs: Path) -> None:
    release = tiny_encoder(tmp_path / "release", id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1})
    config = BertConfig.from_pretrained(release)
    weights.save_tensors(release / "model.safetensors", dict(BertForSequenceClassification(config).state_dict()))
    run_dir = lay_out(tmp_path / "a", release=release, train_pack=packs / "train.pack")
    order = spec.TrainSpec(
        weights=weights_at("inputs/release", "BertForSequenceClassification"), strategy=Strategy.HEAD, labels=NAMES
    )

    run_verb(train, order, run_dir)

    theirs = AutoModelForSequenceClassification.from_pretrained(run_dir / "outputs/release")
    assert theirs.config.id2label == dict(enumerate(NAMES))
    assert loaded_from(run_dir / "outputs/release", "BertForSequenceClassification").labels == NAMES


def test_stages_run_from_the_embeddings_to_the_head(bought: Path) -> None:
    stages = frameworks.stages(with_head(loaded_from(bought), 3))

    assert [name for name, _ in stages] == ["embeddings", "layer 0", "layer 1", "head"]


def test_pooling_comes_from_the_config_or_from_sentence_transformers(bought: Path) -> None:
    loaded = loaded_from(bought)
    beside = copy.copy(loaded)
    beside.files = {**loaded.files, "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}'}
    named = replace(loaded, config={**loaded.config, "pooling": "pooler"})

    assert [with_head(one, 3).module.pooling for one in (loaded, beside, named)] == ["mean", "cls", "pooler"]


def test_a_tokenizer_with_more_tokens_than_the_model_is_rejected(tmp_path: Path) -> None:
    release = tiny_encoder(tmp_path / "inputs/release")
    (release / "vocab.txt").write_text("\n".join(f"word{number}" for number in range(500)), encoding="utf-8")

    result = run_verb(verify, spec.VerifySpec(weights=weights_at("inputs/release")), tmp_path)

    assert result["problems"][0]["code"] == "tokenizer_invalid"


@pytest.mark.parametrize("changes", [{"vocab_size": 10**9}, {"hidden_size": "many"}, {"num_hidden_layers": -1}])
def test_a_config_of_impossible_sizes_is_rejected(tmp_path: Path, changes: dict[str, Any]) -> None:
    tiny_encoder(tmp_path / "inputs/release", **changes)

    result = run_verb(verify, spec.VerifySpec(weights=weights_at("inputs/release")), tmp_path)

    assert result["problems"][0]["code"] == "config_invalid"


def test_the_defaults_of_a_task_are_in_range_and_its_own() -> None:
    defaults = defaults_for(Task.TEXT_CLASSIFICATION, Strategy.FULL)

    assert Hyper(**defaults).learning_rate == 2e-5
    assert defaults["schedule"] is Schedule.LINEAR
    assert "augmentation" not in defaults
    assert defaults_for(Task.IMAGE_CLASSIFICATION, Strategy.FULL)["learning_rate"] == Hyper().learning_rate


def test_training_batches_are_a_function_of_seed_and_epoch(bought: Path) -> None:
    reader = tokens.TextReader(loaded_from(bought))
    rows = reader.rows([sentence for sentence, _ in sentences(50)])

    def order(seed: int) -> list[list[int]]:
        return list(tokens.shuffled(rows, 16, torch.Generator().manual_seed(seed)))

    assert order(1) == order(1) != order(2)
    assert sorted(at for batch in order(1) for at in batch) == list(range(len(rows)))


def test_lengths_follow_the_training_texts(bought: Path) -> None:
    loaded = loaded_from(bought)

    assert tokens.fitted_length(loaded, ["salt and soup"] * 99 + ["salt " * 90]) == 5


def test_the_config_of_the_tuned_release_says_how_to_use_it(tmp_path: Path, bought: Path, packs: Path) -> None:
    result = trained(tmp_path / "a", bought, packs, Strategy.HEAD)

    config = json.loads((tmp_path / "a/outputs/release/config.json").read_text())
    assert config["pooling"] == "mean"
    assert config["max_tokens"] == result["max_tokens"] <= 20
    assert config["label2id"] == {name: at for at, name in enumerate(NAMES)}
    assert features.precision(torch.device("cpu")) is not None
