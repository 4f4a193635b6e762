"""What a model is, read from the files that Hub clients push: its task, framework and architecture."""

from __future__ import annotations

import json
import re
from typing import Any

from finetuning.engine.spec import Framework, Task

# The Hub has no task of its own for semantic segmentation.
HUB_TASKS = {"semantic-segmentation": "image-segmentation"}
_OF_HUB = {hub: own for own, hub in HUB_TASKS.items()}
_TASKS = frozenset(task.value for task in Task)
_FRAMEWORKS = frozenset(framework.value for framework in Framework)
# The ends of Transformers' class names; a bare encoder is one of texts.
_HEADS = {
    "ForImageClassification": Task.IMAGE_CLASSIFICATION,
    "ForObjectDetection": Task.OBJECT_DETECTION,
    "ForSemanticSegmentation": Task.SEMANTIC_SEGMENTATION,
}
_NAME = re.compile(r"[!-~]{1,100}")


def parse_config(text: str) -> dict[str, Any]:
    """Returns the object that a config.json holds; {} where it holds none."""
    try:
        document = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def read(config: dict[str, Any], front: dict[str, Any]) -> dict[str, str]:
    """Returns `task`, `framework` and `architecture` as config.json and the card's front matter tell them; {} where
    they name no architecture. What they say wrongly, the verification refuses."""
    classes = config.get("architectures")
    is_transformers = isinstance(classes, list) and bool(classes) and isinstance(classes[0], str)
    architecture = classes[0] if is_transformers else config.get("architecture")  # type: ignore[index]  # a list, see above
    if not isinstance(architecture, str) or not _NAME.fullmatch(architecture):
        return {}
    named = config.get("library", front.get("library_name"))
    if is_transformers or not isinstance(named, str) or named not in _FRAMEWORKS:
        named = Framework.TRANSFORMERS.value if is_transformers else Framework.TIMM.value
    return {
        "task": _task(config, front, architecture, str(named)),
        "framework": str(named),
        "architecture": architecture,
    }


def _task(config: dict[str, Any], front: dict[str, Any], architecture: str, framework: str) -> str:
    for stated in (config.get("task"), front.get("pipeline_tag")):
        own = _OF_HUB.get(stated, stated) if isinstance(stated, str) else None
        if own in _TASKS:
            return str(own)
    if framework != Framework.TRANSFORMERS:
        return Task.IMAGE_CLASSIFICATION.value
    ending = next((task for end, task in _HEADS.items() if architecture.endswith(end)), Task.TEXT_CLASSIFICATION)
    return ending.value
