"""Named choices for each task, from a few seconds to the best that is known. Standard library only.

A preset gives a strategy and the settings in which it differs from that strategy's defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetuning.engine.hyper import Augmentation, Features, Optimizer, Schedule, SpecError, Strategy, Task

QUICK, BALANCED, BEST = "quick", "balanced", "best"
WORKED_EXAMPLE = "resnet50-cifar10"


@dataclass(frozen=True, slots=True)
class Preset:
    """`name` is what clients send, `title` and `text` what people read."""

    name: str
    title: str
    text: str
    strategy: Strategy
    hyper: dict[str, Any]


PRESETS: dict[Task, tuple[Preset, ...]] = {
    Task.IMAGE_CLASSIFICATION: (
        Preset(QUICK, "Quick", "Head only, on features that are computed once.", Strategy.HEAD, {}),
        Preset(
            BALANCED,
            "Balanced",
            "The last two stages, from the head-only solution; what is frozen is computed once.",
            Strategy.LAST,
            {"stages": 2},
        ),
        # AutoGluon's recipe (AdamW 1e-4, cosine, patience 10, 20 epochs, layer-wise decay 0.9) after the probe
        # (Kumar et al. 2022).
        Preset(
            BEST,
            "Best",
            "Every layer, from the head-only solution, with more augmentation and averaged weights.",
            Strategy.FULL,
            {
                "epochs": 20,
                "patience": 10,
                "learning_rate": 1e-4,
                "stage_decay": 0.9,
                "augmentation": Augmentation.MEDIUM,
                "average_weights": True,
            },
        ),
        # The worked example of many courses; patience lets all ten epochs run. Images are brought to the model's
        # own input size, so those of 32 pixels are upsampled.
        Preset(
            WORKED_EXAMPLE,
            "ResNet-50 to CIFAR-10",
            "The worked example: Adam 1e-4, batch 64, 10 epochs, every layer; small images are upsampled.",
            Strategy.FULL,
            {
                "optimizer": Optimizer.ADAM,
                "learning_rate": 1e-4,
                "batch_size": 64,
                "epochs": 10,
                "patience": 10,
                "schedule": Schedule.CONSTANT,
                "warm_up": 0.0,
                "weight_decay": 0.0,
                "stage_decay": 1.0,
                "clip_norm": 0.0,
                "augmentation": Augmentation.NONE,
                "features": Features.LAST,
            },
        ),
    ),
    Task.OBJECT_DETECTION: (
        Preset(QUICK, "Quick", "A new head on the frozen network.", Strategy.HEAD, {"epochs": 8}),
        Preset(
            BALANCED,
            "Balanced",
            "The head first, then the last three stages with it; what is frozen is computed once.",
            Strategy.LAST,
            {"stages": 3, "epochs": 12},
        ),
        Preset(
            BEST,
            "Best",
            "The head first, then every layer, for longer, with averaged weights.",
            Strategy.FULL,
            {"epochs": 24, "patience": 8, "augmentation": Augmentation.MEDIUM, "average_weights": True},
        ),
    ),
    Task.SEMANTIC_SEGMENTATION: (
        Preset(QUICK, "Quick", "A new decoder on the frozen network.", Strategy.HEAD, {"epochs": 10, "batch_size": 8}),
        Preset(
            BALANCED,
            "Balanced",
            "The decoder first, then the last three stages with it; what is frozen is computed once.",
            Strategy.LAST,
            {"stages": 3, "epochs": 15, "batch_size": 8},
        ),
        Preset(
            BEST,
            "Best",
            "The decoder first, then every layer, for longer, with averaged weights.",
            Strategy.FULL,
            {
                "epochs": 30,
                "patience": 10,
                "batch_size": 8,
                "augmentation": Augmentation.MEDIUM,
                "average_weights": True,
            },
        ),
    ),
    Task.TEXT_CLASSIFICATION: (
        Preset(QUICK, "Quick", "Head only, on features that are computed once.", Strategy.HEAD, {}),
        Preset(
            BALANCED,
            "Balanced",
            "The last two layers, from the head-only solution; what is frozen is computed once.",
            Strategy.LAST,
            {"stages": 2},
        ),
        # Longer than BERT's three epochs: few texts need it (Mosbach et al. 2021; Zhang et al. 2021).
        Preset(
            BEST,
            "Best",
            "Every layer, from the head-only solution, for longer than usual: steadier with few texts.",
            Strategy.FULL,
            {"epochs": 6},
        ),
    ),
}


def preset_of(task: Task, name: str) -> Preset:
    """Returns the task's preset of this name. Raises SpecError (`preset`)."""
    for preset in PRESETS[task]:
        if preset.name == name:
            return preset
    names = ", ".join(preset.name for preset in PRESETS[task])
    raise SpecError(f"There is no such preset for {task.replace('-', ' ')}. Choose one of {names}.", "preset")
