"""The verb `estimate`: rehearses a training and its evaluation on a few items, by the code that will do both, and
says how long the whole will take. The weights that come of it are thrown away."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from finetuning.engine import (
    activations,
    evaluate,
    features,
    fork_server,
    lr_finder,
    rehearsal,
    runtime,
    tasks,
    tokens,
)
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import UserFault
from finetuning.engine.hyper import SpecError, check
from finetuning.engine.packs import Item, PackReader, PackWriter, training_items
from finetuning.engine.spec import (
    EVENTS_FILE,
    INPUTS_DIR,
    OUTPUTS_DIR,
    EstimateSpec,
    EvaluateSpec,
    Split,
    Task,
    TrainSpec,
)

FOLDER = "rehearsal"  # in the run directory: the run directory of what is rehearsed
MAX_ITEMS = 640  # of a rehearsal's training; large batches are rehearsed in fewer steps
_FEWEST_STEPS = 4  # an epoch
_FEWEST_ROUNDS = 3  # of the threads that compute: fewer do not tell what is done once from what grows
_TRAIN_PACK, _JUDGED_PACK = "train.pack", "judged.pack"


def run(spec: EstimateSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns the verb's part of the result (docs/engine.md). Raises what the training would raise at once."""
    imported = time.process_time()  # what starting an engine takes; a run starts two, and a fork server once
    order = spec.order
    try:
        check(order.target, order.strategy, order.hyper)
    except SpecError as error:
        raise UserFault(f"{error.field}_unsupported", str(error)) from error
    device = runtime.choose_device(order.device)
    pack = PackReader(run_dir / order.pack)
    train, validation = training_items(pack.items)
    if not train or not validation:
        raise UserFault("too_few_images", "Training needs training and validation items. Add some to the dataset.")
    at_once = torch.get_num_threads() if device.type == "cpu" else 1
    taken = _sampled(train, order, steps=spec.steps, at_once=at_once)
    checked = _spread(validation, max(len(order.labels), round(len(taken) * len(validation) / len(train))))
    stage = _laid_out(run_dir, pack, taken, checked)
    events.stage("rehearse", "Rehearsing the training on a few items")
    with rehearsal.Clock(stage / EVENTS_FILE) as clock:
        tasks.module_of(order.target).train(_rehearsed(order), stage, clock, device)
        evaluate.run(_judged(order), stage, clock)
        passages = clock.finish()
    shutil.rmtree(stage)
    views = activations.views_of(order.hyper)
    growth = rehearsal.Growth(
        items=len(train) / len(taken),
        validation=len(validation) / len(checked),
        test=(spec.test_items or len(validation)) / len(checked),
        views=views / activations.views_of(_rehearsed(order).hyper),
        epochs=order.hyper.epochs,
        sample=len(taken),
        at_once=at_once,
    )
    begun = imported + passages[0].seconds  # a task's own imports come before its first stage
    start = {"start": fork_server.spared_seconds() + 2 * begun}
    parts = rehearsal.whole(passages, growth) | start
    early = rehearsal.whole(passages, growth, epochs=_fewest_epochs(order)) | start
    steps = rehearsal.step_of(passages)
    if order.hyper.find_learning_rate and steps:
        parts["learning_rate"] = early["learning_rate"] = lr_finder.STEPS * steps.seconds
    return {
        "estimate": {
            "seconds": round(sum(parts.values()), 3),
            "shortest_seconds": round(sum(early.values()), 3),
            "parts": {name: round(seconds, 3) for name, seconds in parts.items()},
            "step_seconds": steps and round(steps.seconds, 4),
            "steps_measured": steps.count if steps else 0,
            "features_per_second": rehearsal.rate_of(passages, "features", at_once=at_once),
            "rehearsed": {"train": len(taken), "validation": len(checked)},
            "whole": {"train": len(train), "validation": len(validation), "test": spec.test_items},
        },
        "peak_memory_bytes": runtime.peak_memory_bytes(device),
    }


def _fewest_epochs(order: TrainSpec) -> int:
    """Returns how many epochs a training makes that nothing improves."""
    return min(order.hyper.epochs, order.hyper.warm_epochs + order.hyper.longest_wait)


def _rehearsed(order: TrainSpec) -> TrainSpec:
    """Returns the order for so few epochs; a test of rates is left out, its steps are counted in."""
    hyper = dataclasses.replace(
        order.hyper,
        epochs=rehearsal.EPOCHS,
        patience=max(order.hyper.patience, rehearsal.EPOCHS),
        find_learning_rate=False,
        export_onnx=False,
    )
    return dataclasses.replace(order, hyper=hyper, pack=_TRAIN_PACK)


def _judged(order: TrainSpec) -> EvaluateSpec:
    """Returns the evaluation of what was rehearsed, on validation items in the place of test items."""
    tuned = dataclasses.replace(order.weights, task=order.target, directory=f"{OUTPUTS_DIR}/release")
    return EvaluateSpec(
        strategy=order.strategy,
        base=order.weights,
        tuned=tuned,
        labels=order.labels,
        train_outputs=OUTPUTS_DIR,
        pack=_JUDGED_PACK,
        seed=order.hyper.seed,
        device=order.device,
        threads=order.threads,
    )


def _sampled(train: Sequence[Item], order: TrainSpec, *, steps: int, at_once: int) -> list[Item]:
    size = order.hyper.batch_size
    batches = min(-(-steps // rehearsal.EPOCHS), max(_FEWEST_STEPS, MAX_ITEMS // size))
    a_batch = tokens.AT_ONCE if order.target is Task.TEXT_CLASSIFICATION else features.AT_ONCE
    rounds = min(_FEWEST_ROUNDS * at_once * a_batch, MAX_ITEMS) if at_once > 1 else 0
    return _spread(train, max(batches * size, rounds, 2 * len(order.labels)))


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """Returns so many items, of every class in turn, in their order in the pack."""
    by_class: dict[tuple[int, ...], list[Item]] = defaultdict(list)
    for item in items:
        shown = item.labels or tuple(sorted({int(box[0]) for box in item.boxes}))
        by_class[(item.label,) if item.label >= 0 else shown[:1]].append(item)
    turns = [(turn, item.index) for own in by_class.values() for turn, item in enumerate(own)]
    chosen = {index for _, index in sorted(turns)[:count]}
    return [item for item in items if item.index in chosen]


def _laid_out(run_dir: Path, pack: PackReader, taken: list[Item], checked: list[Item]) -> Path:
    """Returns the run directory of the rehearsal: the inputs as they are, the packs with the sampled items only."""
    stage = run_dir / FOLDER
    shutil.rmtree(stage, ignore_errors=True)
    (stage / OUTPUTS_DIR).mkdir(parents=True)
    (stage / INPUTS_DIR).symlink_to(run_dir / INPUTS_DIR)
    _write(stage / _TRAIN_PACK, pack, [*taken, *checked])
    _write(stage / _JUDGED_PACK, pack, [dataclasses.replace(item, split=Split.TEST) for item in checked])
    return stage


def _write(path: Path, pack: PackReader, items: list[Item]) -> None:
    with PackWriter(path, items) as writer:
        for item in items:
            if item.file:
                writer.add(item, pack.content(item), pack.mask_content(item) if item.mask else b"")
