"""Texts that can be learned, and a tiny encoder with a vocabulary of its own."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel

from finetuning.engine import frameworks, inspect, spec, weights
from finetuning.engine.events import EventWriter
from finetuning.engine.frameworks import Loaded
from finetuning.engine.spec import Framework, InspectSpec, Task, WeightsSpec

LABELS = ("cooking", "sailing", "chess")
WORDS = {
    "cooking": ("salt", "oven", "butter", "knife", "soup", "flour"),
    "sailing": ("mast", "harbor", "wind", "keel", "rope", "tide"),
    "chess": ("rook", "pawn", "gambit", "board", "mate", "clock"),
}
FILLERS = ("the", "a", "old", "new", "some", "very", "quiet", "long", "before", "after", "and", "with", "near", "under")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def sentence(label: str, seed: int) -> str:
    """A sentence of fillers with two of the label's words."""
    draw = random.Random(f"{label} {seed}")
    words = [draw.choice(FILLERS) for _ in range(draw.randrange(8, 16))]
    for word in draw.sample(WORDS[label], 2):
        words.insert(draw.randrange(len(words)), word)
    return " ".join(words)


def sentences(each: int) -> list[tuple[str, str]]:
    return [(sentence(label, number), label) for number in range(each) for label in LABELS]


def tagged(seed: int) -> tuple[str, tuple[str, ...]]:
    """A sentence about none to all of the labels, with two words of each, and which."""
    draw = random.Random(seed)
    shown = tuple(label for label in LABELS if draw.random() < 0.45)
    words = [draw.choice(FILLERS) for _ in range(draw.randrange(8, 16))]
    for label in shown:
        for word in draw.sample(WORDS[label], 2):
            words.insert(draw.randrange(len(words)), word)
    return " ".join(words), shown


def tagged_csv(count: int, *, separator: str = ";", delimiter: str = ",") -> bytes:
    """A table of texts with any number of labels each."""
    rows = [delimiter.join((text, separator.join(shown))) for text, shown in map(tagged, range(count))]
    return "\n".join([f"text{delimiter}labels", *rows]).encode()


def csv_of(rows: list[tuple[str, str]], header: str = "text,label") -> bytes:
    return "\n".join([header, *(f'"{text}",{label}' for text, label in rows)]).encode()


def inspected_texts(run_dir: Path, content: bytes, **options: Any) -> dict[str, Any]:
    """Runs the verb on an upload of these bytes."""
    (run_dir / "inputs").mkdir(parents=True, exist_ok=True)
    (run_dir / "inputs/upload").write_bytes(content)
    with EventWriter(run_dir / "events.jsonl") as events:
        return inspect.run(InspectSpec(task=Task.TEXT_CLASSIFICATION, **options), run_dir, events)


def tiny_encoder(directory: Path, *, spread: float = 0.02, **changes: Any) -> Path:
    """Writes a release: two layers of width 32 with random weights, and a WordPiece vocabulary of the words here.
    `spread` is the weights' standard deviation; the usual one makes all texts much alike, as bfloat16 rounds them."""
    directory.mkdir(parents=True, exist_ok=True)
    words = [*SPECIAL, *FILLERS, *(word for own in WORDS.values() for word in own)]
    (directory / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=spread,
    )
    document = {**config.to_dict(), "architectures": ["BertModel"], **changes}
    (directory / "config.json").write_text(json.dumps(document), encoding="utf-8")
    weights.save_tensors(directory / "model.safetensors", dict(BertModel(config).state_dict()))
    return directory


def weights_at(directory: str, architecture: str = "BertModel") -> WeightsSpec:
    return WeightsSpec(
        task=Task.TEXT_CLASSIFICATION,
        framework=Framework.TRANSFORMERS,
        architecture=architecture,
        directory=directory,
    )


def loaded_from(directory: Path, architecture: str = "BertModel") -> Loaded:
    return frameworks.load(weights_at(directory.name, architecture), directory.parent)


def lay_out(run_dir: Path, **links: Path) -> Path:
    """Makes a run directory whose inputs are links."""
    (run_dir / "inputs").mkdir(parents=True)
    for name, target in links.items():
        (run_dir / "inputs" / name.replace("_pack", ".pack")).symlink_to(target)
    return run_dir


def run_verb(verb_module: Any, order: spec.Spec, run_dir: Path) -> dict[str, Any]:
    """Runs a verb in this process, as the engine's own process would."""
    (run_dir / "outputs").mkdir(exist_ok=True)
    with EventWriter(run_dir / "events.jsonl") as events:
        part: dict[str, Any] = verb_module.run(order, run_dir, events)
    return part
