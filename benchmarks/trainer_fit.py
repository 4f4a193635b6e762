"""Transformers' part of `benchmarks trainer`: a frozen encoder under Trainer, an evaluation after each epoch.

`python -m benchmarks.trainer_fit RELEASE_DIR PACKS_DIR EPOCHS` prints the accuracy after each epoch as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import transformers
from torch.utils.data import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

from finetuning.engine.packs import PackReader

RATE = 1e-3  # for a new head alone; Trainer's 5e-5 is made for whole encoders
BATCH = 32


class Texts(Dataset[dict[str, Any]]):
    def __init__(self, path: Path, tokenizer: Any) -> None:
        self._items, self._tokenizer = PackReader(path).items, tokenizer

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, position: int) -> dict[str, Any]:
        item = self._items[position]
        return {**self._tokenizer(item.text, truncation=True), "labels": item.label}


def main(release: Path, packs: Path, epochs: int) -> None:
    transformers.set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(release)
    model = AutoModelForSequenceClassification.from_pretrained(release, num_labels=2)
    model.base_model.requires_grad_(requires_grad=False)
    with tempfile.TemporaryDirectory(prefix="trainer-fit-") as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                folder,
                num_train_epochs=epochs,
                learning_rate=RATE,
                per_device_train_batch_size=BATCH,
                per_device_eval_batch_size=BATCH,
                eval_strategy="epoch",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                seed=0,
            ),
            train_dataset=Texts(packs / "train.pack", tokenizer),
            eval_dataset=Texts(packs / "test.pack", tokenizer),
            processing_class=tokenizer,
            compute_metrics=lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())},
        )
        trainer.train()
    found = [row["eval_accuracy"] for row in trainer.state.log_history if "eval_accuracy" in row]
    print(json.dumps({"accuracy": found[-1], "accuracies": found, "version": transformers.__version__}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
