"""Turns a pickle of tensors into a release. The only place that unpickles, and tensors alone."""

from __future__ import annotations

import hashlib
import pickle
import urllib.request
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision import models

from finetuning.engine import frameworks, golden, weights
from finetuning.engine.events import EventWriter
from finetuning.engine.failures import AppFault, UserFault
from finetuning.engine.frameworks.loaded import Loaded
from finetuning.engine.problems import Rejected
from finetuning.engine.spec import GOLDEN_FILE, OUTPUTS_DIR, ConvertSpec, Preprocessing, Task
from finetuning.engine.verify import describe

FETCH_TIMEOUT_SECONDS = 60


def run(spec: ConvertSpec, run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Writes `outputs/release`. Raises UserFault (`unsafe_pickle`, `checksum_mismatch`, ...) and AppFault
    (`fetch_failed`) where the network does not reach the source."""
    source = run_dir / spec.source if spec.source else _fetch(spec, run_dir, events)
    events.stage("convert", "Reading the tensors")
    tensors = _read(source)
    loaded = frameworks.build(spec.framework, spec.architecture, _config(spec))
    try:
        weights.load_strictly(loaded.module, _matched(loaded, tensors))
    except Rejected as error:
        first = error.problems[0]
        raise UserFault(first.code, first.message, first.items) from error
    loaded.module.eval()
    directory = run_dir / OUTPUTS_DIR / "release"
    frameworks.write_release(directory, loaded)
    events.stage("golden", "Computing the golden pair")
    weights.save_tensors(directory / GOLDEN_FILE, golden.compute(loaded))
    return {"report": describe(loaded, directory)}


def _config(spec: ConvertSpec) -> dict[str, Any]:
    labels = list(spec.labels) or _labels_from(spec)
    prep = spec.preprocessing or Preprocessing()
    return {
        **({"task": spec.task.value} if spec.task is Task.SEMANTIC_SEGMENTATION else {}),
        "architecture": spec.architecture,
        "num_classes": len(labels),
        "label_names": labels,
        "pretrained_cfg": {
            "input_size": [3, prep.size, prep.size],
            "mean": list(prep.mean),
            "std": list(prep.std),
            "interpolation": prep.interpolation,
            "crop_pct": prep.crop_fraction,
        },
    }


def _labels_from(spec: ConvertSpec) -> list[str]:
    if spec.labels_from in {"imagenet-1k", ""}:
        return list(models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
    if spec.labels_from == "voc":  # torchvision's segmentation weights
        return list(models.segmentation.FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1.meta["categories"])
    raise UserFault("labels_unknown", f"There is no list of labels named {spec.labels_from}.")


def _fetch(spec: ConvertSpec, run_dir: Path, events: EventWriter) -> Path:
    events.stage("fetch", "Fetching the weights from their source")
    target = run_dir / "fetched"
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(spec.url, timeout=FETCH_TIMEOUT_SECONDS) as answer, target.open("wb") as file:  # noqa: S310 - addresses come from the zoo's own metadata
            while chunk := answer.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
    except OSError as error:
        raise AppFault(
            "fetch_failed", "This server cannot reach the source of the weights. Try again later."
        ) from error
    if not digest.hexdigest().startswith(spec.source_sha256_prefix.lower()):
        raise UserFault("checksum_mismatch", "The file at the source is not the one that was published.")
    return target


def _read(source: Path) -> dict[str, Tensor]:
    try:
        document = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserFault("unsafe_pickle", "The file holds more than tensors, so it is not read.") from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise UserFault("not_weights", "The file cannot be read as weights.") from error
    if not isinstance(document, dict) or not all(isinstance(value, Tensor) for value in document.values()):
        raise UserFault("not_weights", "The file must hold tensors by name and nothing else.")
    return dict(document)


def _matched(loaded: Loaded, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors under this architecture's names: by name where they agree, else by order, which
    counts only if every shape agrees too."""
    expected = loaded.module.state_dict()
    if set(expected) == set(tensors):
        return tensors
    if [value.shape for value in expected.values()] != [value.shape for value in tensors.values()]:
        return tensors  # load_strictly names what is missing
    return dict(zip(expected, tensors.values(), strict=True))
