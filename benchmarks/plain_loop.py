"""The loop that a tutorial writes: default layout, float32, frozen layers with their batch norm in eval mode, Adam
on the rest, the whole network forward for every image of every epoch, an evaluation after each.

`python -m benchmarks.plain_loop RELEASE_DIR PACKS_DIR EPOCHS [--tune head|last|full] [--rate R]` prints its accuracies
as JSON. `last` is the last stage with what follows it: what the engine's strategy `last` with one stage tunes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from finetuning.engine.packs import PackReader

BATCH = 32
LEARNING_RATE = 1e-3  # Adam's default


class Pack(Dataset[tuple[Tensor, int]]):
    def __init__(self, path: Path, transform: nn.Module) -> None:
        self._pack, self._transform = PackReader(path), transform
        self.items = self._pack.items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        item = self.items[position]
        return self._transform(self._pack.image(item)), item.label


def main(release: Path, packs: Path, *, epochs: int, tune: str, rate: float) -> None:
    torch.manual_seed(0)
    model, transform = released(release)
    train, test = Pack(packs / "train.pack", transform), Pack(packs / "test.pack", transform)
    model.reset_classifier(1 + max(item.label for item in train.items))
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=False)
    learning = _learning(model, tune)
    for module in learning:
        module.requires_grad_()
    optimizer = torch.optim.Adam([part for part in model.parameters() if part.requires_grad], lr=rate)
    loader = DataLoader(train, BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    tests = DataLoader(test, BATCH, num_workers=2, persistent_workers=True)
    accuracies = []
    for _ in range(epochs):
        model.eval()  # for the frozen norms and, with a head alone, for all
        for module in learning:
            module.train()
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in tests)
        accuracies.append(right / len(test))
        print(f"accuracy {accuracies[-1]:.1%}", file=sys.stderr, flush=True)
    print(json.dumps({"accuracy": accuracies[-1], "accuracies": accuracies}))


def released(release: Path) -> tuple[Any, Any]:
    """Returns the network with its weights, and timm's own transform for it."""
    config = json.loads((release / "config.json").read_text())
    model = timm.create_model(config["architecture"], pretrained=False, num_classes=config["num_classes"])
    model.load_state_dict(load_file(release / "model.safetensors"))
    return model, timm.data.create_transform(**_settings(config["pretrained_cfg"]))


def _learning(model: Any, tune: str) -> list[nn.Module]:
    """Returns the parts that learn; the names are EfficientNet's in timm."""
    if tune == "full":
        return [model]
    head: nn.Module = model.get_classifier()
    return [head] if tune == "head" else [model.blocks[-1], model.conv_head, model.bn2, head]


def _settings(config: dict[str, object]) -> dict[str, object]:
    names = ("input_size", "mean", "std", "interpolation", "crop_pct")
    return {**{name: config[name] for name in names}, "is_training": False}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.plain_loop")
    parser.add_argument("release", type=Path)
    parser.add_argument("packs", type=Path)
    parser.add_argument("epochs", type=int)
    parser.add_argument("--tune", choices=("head", "last", "full"), default="head")
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    given = parser.parse_args()
    main(given.release, given.packs, epochs=given.epochs, tune=given.tune, rate=given.rate)
