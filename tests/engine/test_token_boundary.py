"""Frozen layers of text encoders are computed once for each text, and what follows goes on from them as from the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from texts_factory import LABELS, csv_of, inspected_texts, lay_out, run_verb, sentences, tiny_encoder, weights_at

from finetuning.engine import features, frameworks, spec, strategies, token_boundary, train
from finetuning.engine.events import EventTail, EventWriter, Kind
from finetuning.engine.frameworks import Loaded, transformers_models
from finetuning.engine.hyper import Hyper, Strategy
from finetuning.engine.tasks import text
from finetuning.engine.tokens import logits_of

CPU = torch.device("cpu")
SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "BertModel": {"model_type": "bert"},
    "DistilBertModel": {"model_type": "distilbert", "dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64},
    "RobertaModel": {"model_type": "roberta"},
    "XLMRobertaModel": {"model_type": "xlm-roberta"},
    "ElectraModel": {"model_type": "electra", "embedding_size": 16},
    "MPNetModel": {"model_type": "mpnet"},
    "BertForSequenceClassification": {"model_type": "bert", "id2label": {"0": "a", "1": "b", "2": "c"}},
    "DebertaV2Model": {"model_type": "deberta-v2", "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
}


def encoder(architecture: str, **changes: Any) -> Loaded:
    torch.manual_seed(0)
    config = {**SIZES, **FAMILIES.get(architecture, {}), "architectures": [architecture], **changes}
    return transformers_models.with_head(transformers_models.build(architecture, config), 3)


def padded() -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers of three texts of unlike lengths, and their mask."""
    lengths = torch.tensor([12, 7, 3])
    mask = (torch.arange(12) < lengths[:, None]).long()
    ids = torch.randint(5, 60, (3, 12), generator=torch.Generator().manual_seed(1))
    return torch.where(mask.bool(), ids, 1), mask


@pytest.mark.parametrize("architecture", FAMILIES)
def test_every_family_s_halves_make_the_whole_and_only_the_second_learns(architecture: str) -> None:
    loaded = encoder(architecture)
    ids, mask = padded()
    stages = frameworks.stages(loaded)
    plan = strategies.plan(loaded.module, stages, Strategy.LAST, Hyper(stages=1), fresh_head=False)

    halves = token_boundary.cut(loaded.module, stages, plan.boundary, ids, mask)

    assert halves is not None
    loaded.module.eval()
    with torch.no_grad():
        states = halves.prefix(input_ids=ids, attention_mask=mask)
        whole = logits_of(loaded.module, ids, mask)
    assert states.shape == (3, 12, 32)
    logits = logits_of(halves.suffix.eval(), states, mask, given=True)
    torch.testing.assert_close(logits, whole, atol=1e-5, rtol=0)
    logits.sum().backward()
    learning = {name for name, parameter in loaded.module.named_parameters() if parameter.grad is not None}
    assert any("layer.2." in name for name in learning)
    assert not any("layer.0." in name or "layer.1." in name or "embeddings" in name for name in learning)


def test_an_encoder_whose_layers_are_one_is_not_cut() -> None:
    loaded = encoder("AlbertModel", model_type="albert", embedding_size=16)
    stages = frameworks.stages(loaded)

    assert token_boundary.cut(loaded.module, stages, len(stages) - 2, *padded()) is None


def test_states_come_back_as_they_were_put_whatever_the_texts_lengths(tmp_path: Path) -> None:
    rows = [[1] * length for length in (3, 1, 5)]
    given = torch.randn(3, 5, 4)
    states = token_boundary.States(tmp_path / "cache", rows, width=4, dtype=torch.float32)
    states.put([2, 0], given[[2, 0]])
    states.put([1], given[[1]])

    back, mask = states.batch([1, 0])

    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert torch.equal(back[0, :1], given[1, :1])
    assert torch.equal(back[1], given[0, :3])
    assert not back[0, 1:].any()
    assert states.bytes == 9 * 4 * 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("averages", [False, True])
def test_a_run_computes_the_frozen_layers_once_and_learns_as_one_that_does_in_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averages: bool
) -> None:
    bought = tiny_encoder(tmp_path / "bought", num_hidden_layers=2)
    result = inspected_texts(tmp_path / "inspect", csv_of(sentences(30)), salt="test")
    assert result["status"] == "valid", result["problems"]

    def trained(name: str) -> tuple[dict[str, Any], list[str]]:
        pack = tmp_path / "inspect/outputs/train.pack"
        run_dir = lay_out(tmp_path / name, release=bought, train_pack=pack)
        order = spec.TrainSpec(
            weights=weights_at("inputs/release"),
            strategy=Strategy.LAST,
            labels=tuple(sorted(LABELS)),
            hyper=Hyper(epochs=3, stages=1, learning_rate=2e-3, average_weights=averages),
            threads=1,
        )
        outcome = run_verb(train, order, run_dir)
        told = EventTail(run_dir / "events.jsonl").read()
        return outcome, [event.payload["name"] for event in told if event.kind is Kind.STAGE]

    cached, stages = trained("cached")
    monkeypatch.setattr(token_boundary, "MAX_CACHE_BYTES", 0)  # as where a disk is too small
    live, uncached = trained("live")

    assert stages.count("hidden_states") == 1
    assert "hidden_states" not in uncached
    tolerance = 1e-4 if features.precision(CPU) is torch.float32 else 0.05
    assert cached["validation"]["loss"] == pytest.approx(live["validation"]["loss"], abs=tolerance)


def test_a_search_computes_the_frozen_layers_once_for_trials_of_one_boundary(tmp_path: Path) -> None:
    bought = tiny_encoder(tmp_path / "bought", num_hidden_layers=2)
    assert inspected_texts(tmp_path / "inspect", csv_of(sentences(20)), salt="test")["status"] == "valid"
    run_dir = lay_out(tmp_path / "run", release=bought, train_pack=tmp_path / "inspect/outputs/train.pack")
    order = spec.TrainSpec(
        weights=weights_at("inputs/release"),
        strategy=Strategy.LAST,
        labels=tuple(sorted(LABELS)),
        hyper=Hyper(epochs=1, stages=1),
        threads=1,
    )
    with EventWriter(run_dir / "events.jsonl") as events:
        prepared = text.prepare(order, run_dir, events, CPU)
        for _ in range(2):
            prepared.begin(order, run_dir, events, is_over=lambda: False)

    told = EventTail(run_dir / "events.jsonl").read()
    assert [event.payload.get("name") for event in told].count("hidden_states") == 1
