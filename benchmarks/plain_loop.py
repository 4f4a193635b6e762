"""The loop that a tutorial writes: default layout, float32, a frozen backbone with its batch norm in eval
mode, Adam on the head, the whole network forward for every image of every epoch, an evaluation after each.

`python -m benchmarks.plain_loop RELEASE_DIR PACKS_DIR EPOCHS` prints its accuracies as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

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

    def __len__(self) -> int:
        return len(self._pack.items)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        item = self._pack.items[position]
        return self._transform(self._pack.image(item)), item.label


def main(release: Path, packs: Path, epochs: int) -> None:
    torch.manual_seed(0)
    config = json.loads((release / "config.json").read_text())
    model = timm.create_model(config["architecture"], pretrained=False, num_classes=config["num_classes"])
    model.load_state_dict(load_file(release / "model.safetensors"))
    transform = timm.data.create_transform(**_settings(config["pretrained_cfg"]))
    train, test = Pack(packs / "train.pack", transform), Pack(packs / "test.pack", transform)
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=False)
    model.reset_classifier(1 + max(label for _, label in _labels(train)))
    optimizer = torch.optim.Adam(model.get_classifier().parameters(), lr=LEARNING_RATE)
    loader = DataLoader(train, BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    tests = DataLoader(test, BATCH, num_workers=2, persistent_workers=True)
    accuracies = []
    for _ in range(epochs):
        model.eval()
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            right = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in tests)
        accuracies.append(right / len(test))
        print(f"accuracy {accuracies[-1]:.1%}", file=sys.stderr, flush=True)
    print(json.dumps({"accuracy": accuracies[-1], "accuracies": accuracies}))


def _settings(config: dict[str, object]) -> dict[str, object]:
    names = ("input_size", "mean", "std", "interpolation", "crop_pct")
    return {**{name: config[name] for name in names}, "is_training": False}


def _labels(data: Pack) -> list[tuple[int, int]]:
    return [(item.index, item.label) for item in data._pack.items]  # noqa: SLF001 - our own class


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
