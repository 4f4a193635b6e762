"""What torchvision says of its own pretrained weights."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

from torchvision import models

from finetuning.engine.events import EventWriter
from finetuning.engine.spec import Preprocessing, SpecError, Task, ZooSpec

_FAMILIES = (
    (models, Task.IMAGE_CLASSIFICATION),
    (models.detection, Task.OBJECT_DETECTION),
    (models.segmentation, Task.SEMANTIC_SEGMENTATION),
)
_SHA256_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.pth$")
_NO_SCORES: dict[str, float] = {}
_QUALITY = ("acc@1", "box_map", "miou")


def run(_spec: ZooSpec, _run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Returns `entries`, one for each weights enum member (docs/engine.md)."""
    events.stage("zoo", "Reading torchvision's metadata")
    entries = [
        _entry(architecture, member, task)
        for family, task in _FAMILIES
        for architecture in models.list_models(module=family)
        for member in models.get_model_weights(architecture)
    ]
    return {"entries": entries}


def _entry(architecture: str, member: Any, task: Task) -> dict[str, Any]:
    meta = member.meta
    found = _SHA256_IN_NAME.search(member.url)
    dataset, scores = next(iter(meta.get("_metrics", {}).items()), ("", _NO_SCORES))
    scores = {name: value for name, value in scores.items() if math.isfinite(value)}  # some are published as NaN
    quality = [name for name in _QUALITY if name in scores] or list(scores)[:1]
    return {
        "architecture": architecture,
        "weights": member.name,
        "task": task.value,
        "parameters": meta.get("num_params"),
        "gflops": meta.get("_ops"),
        "file_bytes": int(meta.get("_file_size", 0) * 1e6),
        "url": member.url,
        "sha256_prefix": found.group(1) if found else "",
        "recipe": meta.get("recipe", ""),
        "metrics": {f"{dataset} {name}": scores[name] / 100 for name in quality},
        "metrics_source": "torchvision's published metadata",
        "labels": len(meta.get("categories") or ()),
        "input": _input_of(member),
    }


def _input_of(member: Any) -> dict[str, Any] | None:
    """Returns the preprocessing of a classifier's preset; other tasks have presets of another kind."""
    preset = member.transforms()
    if not hasattr(preset, "crop_size"):
        return None
    crop, resize = preset.crop_size[0], preset.resize_size[0]
    try:
        spec = Preprocessing(
            size=crop,
            mean=tuple(preset.mean),
            std=tuple(preset.std),
            interpolation=preset.interpolation.value,
            crop_fraction=min(1.0, crop / resize),
        )
    except SpecError:
        return None
    return dataclasses.asdict(spec)
