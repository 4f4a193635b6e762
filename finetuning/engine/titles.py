"""What the choices of a fine-tune are called: for forms, run pages and cards. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from finetuning.engine.hyper import (
    Augmentation,
    Crop,
    Features,
    Loss,
    Optimizer,
    Precision,
    Schedule,
    Strategy,
    Task,
)

STRATEGIES: dict[Strategy, str] = {
    Strategy.HEAD: "Head only",
    Strategy.LAST: "Last stages",
    Strategy.FULL: "Full (LP-FT)",
    Strategy.LORA: "LoRA",
    Strategy.SCRATCH: "From scratch",
}
SENTENCES: dict[Strategy, str] = {
    Strategy.HEAD: "Fits a new head on the network as it is: quick, and hard to get wrong with little data.",
    Strategy.LAST: "Tunes the last stages and the head; the rest is computed once: between the two in time.",
    Strategy.FULL: "Starts from the head-only solution, then tunes every layer: slow, and worth it for unusual data.",
    Strategy.LORA: "Learns small updates beside the frozen weights, merged at the end: gentle with large models.",
    Strategy.SCRATCH: "Random weights: the control that shows what the bought ones are worth.",
}
# What one item of a task's data is.
ITEMS: dict[Task, str] = {
    Task.IMAGE_CLASSIFICATION: "image",
    Task.OBJECT_DETECTION: "image",
    Task.SEMANTIC_SEGMENTATION: "image",
    Task.TEXT_CLASSIFICATION: "text",
}
# By class: equal values of two classes, such as `auto`, are one key.
_CHOICES: dict[type[StrEnum], Mapping[Any, str]] = {
    Strategy: STRATEGIES,
    Loss: {
        Loss.AUTO: "Automatic",
        Loss.CROSS_ENTROPY: "Cross-entropy",
        Loss.WEIGHTED: "Cross-entropy, weighted by class",
        Loss.CLASS_BALANCED: "Class-balanced",
        Loss.FOCAL: "Focal",
        Loss.LOGIT_ADJUSTED: "Logit-adjusted",
        Loss.CROSS_ENTROPY_DICE: "Cross-entropy and Dice",
        Loss.LOVASZ: "Lovász-Softmax",
        Loss.BINARY: "Binary cross-entropy",
        Loss.BINARY_WEIGHTED: "Binary cross-entropy, rare labels weighted",
    },
    Optimizer: {Optimizer.ADAMW: "AdamW", Optimizer.ADAM: "Adam", Optimizer.SGD: "SGD with momentum"},
    Schedule: {
        Schedule.COSINE: "Cosine",
        Schedule.LINEAR: "Linear",
        Schedule.ONE_CYCLE: "One cycle",
        Schedule.STEP: "Two steps",
        Schedule.CONSTANT: "Constant",
    },
    Augmentation: {
        Augmentation.NONE: "None",
        Augmentation.LIGHT: "Light",
        Augmentation.MEDIUM: "Medium",
        Augmentation.STRONG: "Strong",
    },
    Crop: {
        Crop.RELEASE: "As the model",
        Crop.NONE: "Kept",
    },
    Features: {
        Features.STAGES: "The last stages, pooled",
        Features.GRID: "The last stages, pooled by region",
        Features.LAST: "The last layer alone",
    },
    Precision: {
        Precision.AUTO: "Automatic",
        Precision.FLOAT32: "32-bit floats",
        Precision.BFLOAT16: "bfloat16",
        Precision.FLOAT16: "float16, with a scaled loss",
    },
}


def title_of(choice: StrEnum) -> str:
    """Returns what people call the choice."""
    return _CHOICES[type(choice)][choice]
