"""Texts, boxes and masks too: a run killed in each of its epochs ends with the weights of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from archives_factory import inspected
from kills import at_step, finished, killed_when, steps_saved
from scenes_factory import BOXED, MASKED, backbone, mask_upload, weights_at, yolo_upload
from texts_factory import LABELS, csv_of, inspected_texts, sentences, tiny_encoder
from texts_factory import weights_at as text_weights_at

from finetuning.engine import spec as specs
from finetuning.engine.packs import PackReader, training_items
from finetuning.engine.spec import Hyper, Split, Strategy, Task, TrainSpec

BATCH, EPOCHS = 8, 2
UPLOADS = {Task.OBJECT_DETECTION: (BOXED, yolo_upload), Task.SEMANTIC_SEGMENTATION: (MASKED, mask_upload)}


def inputs_of(task: Task, directory: Path) -> tuple[tuple[str, ...], Path]:
    """Lays a release and a training pack into `inputs`; returns the labels and that folder."""
    inputs, inspection = directory / "inputs", directory / "inspect"
    inputs.mkdir()
    if task is Task.TEXT_CLASSIFICATION:
        tiny_encoder(inputs / "release")
        labels, result = tuple(sorted(LABELS)), inspected_texts(inspection, csv_of(sentences(20)), salt="x")
    else:
        backbone(inputs / "release")
        inspection.mkdir()
        labels, upload = UPLOADS[task]
        result = inspected(inspection, upload(32), task=task, salt="x")
    assert result["status"] == "valid", result["problems"]
    (inputs / "train.pack").symlink_to(inspection / "outputs/train.pack")
    return labels, inputs


@pytest.mark.parametrize(
    ("task", "strategy", "choices"),
    [
        (Task.TEXT_CLASSIFICATION, Strategy.LAST, {"stages": 1}),
        (Task.OBJECT_DETECTION, Strategy.FULL, {}),
        (Task.SEMANTIC_SEGMENTATION, Strategy.LAST, {"stages": 2, "cached_views": 2}),
    ],
)
def test_a_run_killed_in_each_epoch_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, task: Task, strategy: Strategy, choices: dict[str, Any]
) -> None:
    labels, inputs = inputs_of(task, tmp_path)
    is_text = task is Task.TEXT_CLASSIFICATION
    order = TrainSpec(
        weights=(text_weights_at if is_text else weights_at)("inputs/release"),
        task=task,
        strategy=strategy,
        labels=labels,
        hyper=Hyper(epochs=EPOCHS, batch_size=BATCH, learning_rate=1e-3, patience=EPOCHS, **choices),
        device="cpu",
        threads=1,
    )
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inputs").symlink_to(inputs)
        specs.write(order, tmp_path / name)
    train, _ = training_items(PackReader(inputs / "train.pack").items)
    assert all(item.split is Split.TRAIN for item in train)
    steps, cut = len(train) // BATCH, tmp_path / "cut"

    whole = finished(tmp_path / "whole")
    killed_when(at_step(1), cut)
    assert 1 <= max(steps_saved(cut)) < EPOCHS * steps
    killed_when(at_step(steps + 1), cut)

    assert finished(cut) == whole
