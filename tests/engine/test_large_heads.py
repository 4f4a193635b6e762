"""Heads on tables that are too large to copy are the heads on copies."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from shapes_factory import LABELS, weights_at, write_pack, write_release

from finetuning.engine import features, frameworks, heads, preprocessing
from finetuning.engine.events import EventWriter
from finetuning.engine.packs import PackReader
from finetuning.engine.spec import Split


def samples(rows: int = 240, width: int = 30) -> heads.Samples:
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, 3, (rows,), generator=generator)
    features = torch.randn(rows, width, generator=generator) * 2 + 4
    features[torch.arange(rows), labels] += 2
    return heads.Samples(features, labels)


@pytest.fixture
def never_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_COPIED_UP_TO", 0)


def test_a_head_fitted_without_a_copy_is_the_head_fitted_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    own = samples()
    copied = heads.fit(own, 3, 0.1, dtype=torch.float64)
    monkeypatch.setattr(heads, "_COPIED_UP_TO", 0)

    direct = heads.fit(own, 3, 0.1, dtype=torch.float64)

    assert torch.allclose(direct.weight, copied.weight, atol=1e-4)
    assert torch.allclose(direct.bias, copied.bias, atol=1e-3)


@pytest.mark.usefixtures("never_copied")
def test_a_head_on_some_rows_is_the_head_on_these_rows_alone() -> None:
    own = samples()
    used = torch.arange(len(own.labels)) % 5 != 0
    alone = heads.fit(heads.Samples(own.features[used], own.labels[used]), 3, 0.1, dtype=torch.float64)

    among = heads.fit(heads.Samples(own.features, own.labels, used=used), 3, 0.1, dtype=torch.float64)

    assert torch.allclose(among.weight, alone.weight, atol=1e-4)
    assert torch.allclose(among.bias, alone.bias, atol=1e-3)


def test_the_path_is_the_same_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    train, validation = samples(), samples(60)
    copied = [point.validation_loss for point in heads.regularization_path(train, validation, 3)]
    monkeypatch.setattr(heads, "_COPIED_UP_TO", 0)

    direct = [point.validation_loss for point in heads.regularization_path(train, validation, 3)]

    assert direct == pytest.approx(copied, abs=1e-3)


@pytest.mark.usefixtures("never_copied")
def test_a_head_is_fitted_to_the_very_table_that_was_extracted(tmp_path: Path) -> None:
    write_release(tmp_path / "release")
    write_pack(tmp_path / "train.pack", {Split.TRAIN: 6})
    loaded = frameworks.load(weights_at("release"), tmp_path)
    pack, to_input = PackReader(tmp_path / "train.pack"), preprocessing.transform(loaded.preprocessing)

    with EventWriter(tmp_path / "events.jsonl") as events:
        table, _ = features.extract(
            frameworks.headless(loaded),
            pack,
            pack.items,
            lambda _item, image: to_input(image),
            device=torch.device("cpu"),
            events=events,
        )
    head = heads.fit(heads.Samples(table, torch.tensor([item.label for item in pack.items])), len(LABELS), 1.0)

    assert head.weight.shape == (len(LABELS), table.shape[1])
