"""Two ways to the features of a pack's images: the engine's, and the one that a tutorial writes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.plain_loop import BATCH, Pack, released
from benchmarks.runs import efficientnet
from finetuning.engine import features, frameworks, preprocessing, runtime
from finetuning.engine.events import EventWriter
from finetuning.engine.packs import PackReader


def engine(release: Path, pack: Path, *, reads: str, at_once: int) -> Tensor:
    machine = runtime.prepare()
    features.AT_ONCE = at_once or features.AT_ONCE
    loaded = frameworks.load(efficientnet(release.name), release.parent)
    if reads == "stages":
        loaded = frameworks.with_stage_head(loaded)
    reader, to_input = PackReader(pack), preprocessing.transform(loaded.preprocessing)
    with tempfile.TemporaryDirectory() as folder, EventWriter(Path(folder) / "events.jsonl") as events:
        return features.extract(
            frameworks.headless(loaded),
            reader,
            reader.items,
            lambda _item, image: to_input(image),
            device=machine.device,
            events=events,
        )[0]


@torch.no_grad()
def eager(release: Path, pack: Path) -> Tensor:
    model, transform = released(release)
    model.reset_classifier(0)
    model.eval()
    loader = DataLoader(Pack(pack, transform), BATCH, num_workers=2)
    return torch.cat([model(images) for images, _ in loader])


def precision() -> str:
    return str(features.precision(runtime.choose_device())).removeprefix("torch.")
