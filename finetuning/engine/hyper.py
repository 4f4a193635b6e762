"""The choices of one fine-tune, their ranges and help texts: here once. Standard library only.

Forms, the API's schema and the docs are generated from the `metadata` of `Hyper`: `strategies` and `tasks`
say where a choice is read.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class SpecError(ValueError):
    """A spec that contradicts itself or the format. `field` names the offending entry."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Task(StrEnum):
    IMAGE_CLASSIFICATION = "image-classification"
    OBJECT_DETECTION = "object-detection"
    SEMANTIC_SEGMENTATION = "semantic-segmentation"
    TEXT_CLASSIFICATION = "text-classification"


class Strategy(StrEnum):
    """How much of the network learns."""

    HEAD = "head"  # the pretrained network is computed once, a head is fitted to its features
    LAST = "last"  # the last `stages` stages and the head
    FULL = "full"  # everything, each stage towards the stem more slowly
    LORA = "lora"  # low-rank updates beside the frozen weights, merged at the end
    SCRATCH = "scratch"  # random weights: the control


class Loss(StrEnum):
    AUTO = "auto"
    CROSS_ENTROPY = "cross_entropy"
    WEIGHTED = "weighted"
    CLASS_BALANCED = "class_balanced"
    FOCAL = "focal"
    LOGIT_ADJUSTED = "logit_adjusted"
    CROSS_ENTROPY_DICE = "cross_entropy_dice"
    LOVASZ = "lovasz"
    BINARY = "binary"  # one sigmoid a class
    BINARY_WEIGHTED = "binary_weighted"


class Optimizer(StrEnum):
    ADAMW = "adamw"
    ADAM = "adam"
    SGD = "sgd"


class Schedule(StrEnum):
    COSINE = "cosine"
    LINEAR = "linear"
    ONE_CYCLE = "one_cycle"
    STEP = "step"
    CONSTANT = "constant"


class Augmentation(StrEnum):
    NONE = "none"
    LIGHT = "light"
    MEDIUM = "medium"
    STRONG = "strong"


class Crop(StrEnum):
    """What of an image a classifier sees."""

    RELEASE = "release"
    NONE = "none"


class Features(StrEnum):
    """What a head reads of the network."""

    STAGES = "stages"
    GRID = "grid"
    LAST = "last"


class Precision(StrEnum):
    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


LEAST_PATIENCE = 3  # epochs
_TUNED = tuple(strategy for strategy in Strategy if strategy is not Strategy.HEAD)
_STARTS_FROM_PROBE = (Strategy.LAST, Strategy.FULL, Strategy.LORA)
CLASSIFICATION = (Task.IMAGE_CLASSIFICATION, Task.TEXT_CLASSIFICATION)
# Their heads have no closed form: a frozen backbone's head is trained in epochs too.
_TRAINS_HEADS = (Task.SEMANTIC_SEGMENTATION, Task.OBJECT_DETECTION)
_NOT_OF_HEADS = {"stages", "stage_decay", "start_from_probe"}
# The strategies that each task can carry out, the quickest first.
STRATEGIES: dict[Task, tuple[Strategy, ...]] = {
    Task.IMAGE_CLASSIFICATION: tuple(Strategy),
    Task.OBJECT_DETECTION: (Strategy.HEAD, Strategy.LAST, Strategy.FULL, Strategy.SCRATCH),
    Task.SEMANTIC_SEGMENTATION: (Strategy.HEAD, Strategy.LAST, Strategy.FULL, Strategy.SCRATCH),
    Task.TEXT_CLASSIFICATION: tuple(Strategy),
}
_OF_CLASSES = (
    Loss.AUTO,
    Loss.CROSS_ENTROPY,
    Loss.WEIGHTED,
    Loss.CLASS_BALANCED,
    Loss.FOCAL,
    Loss.LOGIT_ADJUSTED,
    Loss.BINARY,
    Loss.BINARY_WEIGHTED,
)
# Of items that show any number of classes: one yes or no for each class.
LOSSES_OF_LABEL_SETS = (Loss.AUTO, Loss.BINARY, Loss.BINARY_WEIGHTED)
# The losses of each task. Class-balanced is none of pixels: the effective number of samples is of items, and
# saturates for them. A detector's losses belong to its heads.
LOSSES: dict[Task, tuple[Loss, ...]] = {
    Task.IMAGE_CLASSIFICATION: _OF_CLASSES,
    Task.OBJECT_DETECTION: (Loss.AUTO,),
    Task.SEMANTIC_SEGMENTATION: (
        Loss.AUTO,
        Loss.CROSS_ENTROPY,
        Loss.CROSS_ENTROPY_DICE,
        Loss.LOVASZ,
        Loss.WEIGHTED,
        Loss.FOCAL,
        Loss.LOGIT_ADJUSTED,
    ),
    Task.TEXT_CLASSIFICATION: _OF_CLASSES,
}
_SEES = (Task.IMAGE_CLASSIFICATION, Task.OBJECT_DETECTION, Task.SEMANTIC_SEGMENTATION)


@dataclass(frozen=True, slots=True)
class Searched:
    """Where a search looks for a number: from `low` to `high`, with `relative` as multiples of the default, and
    cut to the choice's own range. `log`: in equal ratios. Enumerations and yes-or-no choices need no numbers."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    relative: bool = False


def hyper_field(
    default: Any,
    *,
    label: str,
    help_text: str,
    minimum: float | None = None,
    maximum: float | None = None,
    strategies: tuple[Strategy, ...] = tuple(Strategy),
    tasks: tuple[Task, ...] = tuple(Task),
    advanced: bool = False,
    searched: Searched | None = None,
    came_later: bool = False,
) -> Any:
    """Declares a choice. `came_later`: there are specs without it, which mean its default; it is written out only where it
    is another (`spec.to_json`)."""
    return field(
        default=default,
        metadata={
            "label": label,
            "help_text": help_text,
            "minimum": minimum,
            "maximum": maximum,
            "strategies": strategies,
            "tasks": tasks,
            "advanced": advanced,
            "searched": searched,
            "came_later": came_later,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyper:
    """The choices of one fine-tune. Numbers outside their range are refused, never clipped."""

    epochs: int = hyper_field(
        10,
        label="Epochs",
        help_text="How often every training item is seen. Early stopping may end the run sooner.",
        minimum=1,
        maximum=200,
        strategies=_TUNED,
    )
    stages: int = hyper_field(
        1,
        label="Stages to tune",
        help_text="How many of the network's last stages learn beside the head; the rest is computed once.",
        minimum=1,
        maximum=12,
        strategies=(Strategy.LAST,),
        searched=Searched(1, 4),
    )
    cached_views: int = hyper_field(
        4,
        label="Cached views",
        help_text="How many augmented views of each image the frozen part is computed for; epochs take turns.",
        minimum=1,
        maximum=16,
        strategies=(Strategy.LAST,),
        tasks=(Task.IMAGE_CLASSIFICATION, Task.SEMANTIC_SEGMENTATION, Task.OBJECT_DETECTION),
        advanced=True,
    )
    batch_size: int = hyper_field(
        32,
        label="Batch size",
        help_text="Items for each optimiser step. Smaller needs less memory and trains more noisily.",
        minimum=2,
        maximum=512,
        strategies=_TUNED,
        searched=Searched(0.5, 4, log=True, relative=True),
    )
    learning_rate: float = hyper_field(
        3e-4,
        label="Learning rate",
        help_text="Peak rate of the body; the head learns ten times as fast unless it starts from the probe.",
        minimum=1e-7,
        maximum=1.0,
        strategies=_TUNED,
        searched=Searched(0.1, 10, log=True, relative=True),
    )
    find_learning_rate: bool = hyper_field(
        False,
        label="Find the learning rate",
        help_text="First try rates from 1e-7 to 1 in 100 steps on a copy, and use the one that the curve suggests. "
        "With fewer than 20 steps an epoch it is shown as a hint only.",
        strategies=_TUNED,
        advanced=True,
    )
    augmentation: Augmentation = hyper_field(
        Augmentation.LIGHT,
        label="Augmentation",
        help_text="Light: random crops of the image. Medium: colour and contrast too, and of whole images rotation. Strong: "
        "those are mixed with each other too (mixup), scenes are scaled more. None: every epoch sees the same pixels.",
        strategies=_TUNED,
        tasks=_SEES,
        searched=Searched(),
    )
    horizontal_flip: bool = hyper_field(
        False,
        label="Mirroring is harmless",
        help_text="Tick only if a mirrored image keeps its meaning; leave off for digits, text and signs.",
        strategies=_TUNED,
        tasks=_SEES,
    )
    image_size: int = hyper_field(
        0,
        label="Input size",
        help_text="Pixels of the longer side, in steps of 32: more shows smaller objects and costs more. 0: the "
        "size that the model was bought with.",
        minimum=0,
        maximum=1024,
        tasks=(Task.OBJECT_DETECTION,),
        advanced=True,
    )
    loss: Loss = hyper_field(
        Loss.AUTO,
        label="Loss",
        help_text="Auto: cross-entropy, with Dice where a class of a segmentation has under 2% of the pixels. "
        "Cross-entropy for balanced classes. Logit-adjusted, class-balanced, weighted or focal where "
        "some classes are rare; with Dice or Lovász for small regions of a segmentation. Items that show any number "
        "of classes are learned by binary cross-entropy, for which auto then stands.",
        strategies=_TUNED,
        tasks=(*CLASSIFICATION, Task.SEMANTIC_SEGMENTATION),
        advanced=True,
    )
    label_smoothing: float = hyper_field(
        0.0,
        label="Label smoothing",
        help_text="Share of each label spread over the other classes. 0.1 helps noisy labels.",
        minimum=0.0,
        maximum=0.5,
        strategies=_TUNED,
        tasks=CLASSIFICATION,
        advanced=True,
        searched=Searched(0, 0.2),
    )
    optimizer: Optimizer = hyper_field(
        Optimizer.ADAMW,
        label="Optimiser",
        help_text="AdamW suits nearly everything; SGD with momentum 0.9 wants a rate about ten times higher.",
        strategies=_TUNED,
        advanced=True,
        searched=Searched(),
    )
    schedule: Schedule = hyper_field(
        Schedule.COSINE,
        label="Schedule",
        help_text="How the rate falls after the warm-up: cosine or linear to zero, one cycle, two steps, or not at all.",
        strategies=_TUNED,
        advanced=True,
        searched=Searched(),
    )
    warm_up: float = hyper_field(
        0.1,
        label="Warm-up",
        help_text="Share of the steps in which the rate rises to its peak.",
        minimum=0.0,
        maximum=0.5,
        strategies=_TUNED,
        advanced=True,
        searched=Searched(0, 0.3),
    )
    weight_decay: float = hyper_field(
        1e-3,
        label="Weight decay",
        help_text="Pulls weights towards zero; norms and biases are left out of it.",
        minimum=0.0,
        maximum=1.0,
        strategies=_TUNED,
        advanced=True,
        searched=Searched(1e-5, 0.1, log=True),
    )
    stage_decay: float = hyper_field(
        0.75,
        label="Stage decay",
        help_text="Each stage towards the stem learns at this share of the rate of the one above it.",
        minimum=0.1,
        maximum=1.0,
        strategies=(Strategy.LAST, Strategy.FULL),
        advanced=True,
        searched=Searched(0.5, 1),
    )
    clip_norm: float = hyper_field(
        1.0,
        label="Gradient clipping",
        help_text="Largest norm of the gradient of one step; 0 for no limit.",
        minimum=0.0,
        maximum=1000.0,
        strategies=_TUNED,
        advanced=True,
    )
    accumulation: int = hyper_field(
        1,
        label="Gradient accumulation",
        help_text="Batches whose gradients are added up for one step: a larger batch in less memory.",
        minimum=1,
        maximum=64,
        strategies=_TUNED,
        advanced=True,
    )
    average_weights: bool = hyper_field(
        False,
        label="Average the weights (EMA)",
        help_text="Evaluate and keep a moving average of the weights: steadier, a little slower to move.",
        strategies=_TUNED,
        advanced=True,
        searched=Searched(),
    )
    lora_rank: int = hyper_field(
        8,
        label="LoRA rank",
        help_text="Width of the low-rank updates: more can change more and costs more.",
        minimum=1,
        maximum=256,
        strategies=(Strategy.LORA,),
        advanced=True,
        searched=Searched(0.5, 4, log=True, relative=True),
    )
    start_from_probe: bool = hyper_field(
        True,
        label="Start from the probe's head (LP-FT)",
        help_text="Fit the head on frozen features first, then tune (Kumar et al., 2022).",
        strategies=_STARTS_FROM_PROBE,
        tasks=(*CLASSIFICATION, Task.SEMANTIC_SEGMENTATION, Task.OBJECT_DETECTION),
        advanced=True,
        searched=Searched(),
    )
    patience: int = hyper_field(
        0,
        label="Early-stopping patience",
        help_text="Stop after so many epochs without a better validation score, those of the warm-up not counted; the "
        "best epoch is kept. 0: a fifth of the epochs, at least three.",
        minimum=0,
        maximum=200,
        strategies=_TUNED,
        advanced=True,
    )
    precision: Precision = hyper_field(
        Precision.AUTO,
        label="Training precision",
        help_text="Auto: bfloat16 on a GPU that has it, float16 with a scaled loss on other GPUs, float32 elsewhere.",
        strategies=_TUNED,
        advanced=True,
    )
    features: Features = hyper_field(
        Features.STAGES,
        label="What the head reads",
        help_text="Stages: the average and maximum of the last four stages, better where your data is unlike the "
        "model's own. Grid: the maximum of the last five in each cell of 3 by 3, where it matters what is where in the "
        "picture; about five times the memory, and a slower fit. Last: its last layer alone; the result then loads in plain timm or torchvision too.",
        tasks=(Task.IMAGE_CLASSIFICATION,),
        advanced=True,
    )
    crop: Crop = hyper_field(
        Crop.RELEASE,
        label="Edges of the images",
        help_text="As the model: cut off as its own preprocessing does, often an eighth of each side's length. Kept: none "
        "of the short side is cut off, where what tells the classes apart reaches the edges. The result answers the same "
        "way. Augmented views are of the whole image either way.",
        tasks=(Task.IMAGE_CLASSIFICATION,),
        advanced=True,
        came_later=True,
    )
    export_onnx: bool = hyper_field(
        False,
        label="ONNX file too",
        help_text="After the evaluation, write the result as one ONNX file with its preprocessing inside, and compare "
        "the two on test items. Where they disagree there is no file; the run succeeds all the same.",
        advanced=True,
    )
    seed: int = hyper_field(
        0,
        label="Seed",
        help_text="The same seed, data, weights and machine give the same result.",
        minimum=0,
        maximum=2**31 - 1,
        advanced=True,
    )

    def __post_init__(self) -> None:
        for entry in dataclasses.fields(self):
            _check_range(entry, getattr(self, entry.name))

    @property
    def warm_epochs(self) -> int:
        """The epochs in which the rate rises, the last of them maybe in part."""
        return math.ceil(round(self.warm_up * self.epochs, 6))

    @property
    def longest_wait(self) -> int:
        """After so many epochs without a better one, counted from the end of the warm-up, a run stops: a rate that has
        hardly begun to rise can show nothing."""
        return self.patience or max(LEAST_PATIENCE, math.ceil(self.epochs / 5))


def _check_range(entry: dataclasses.Field[Any], value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{entry.metadata['label']} must be a finite number.", entry.name)
    low, high = entry.metadata["minimum"], entry.metadata["maximum"]
    if low is not None and not low <= value <= high:
        raise SpecError(f"{entry.metadata['label']} must be between {low:g} and {high:g}.", entry.name)


def check(task: Task, strategy: Strategy, hyper: Hyper) -> None:
    """Raises SpecError with the field `strategy` or `loss` where the task has no such thing."""
    if strategy not in STRATEGIES[task]:
        raise SpecError(_unsupported("strategy", strategy, task, STRATEGIES[task]), "strategy")
    if hyper.loss not in LOSSES[task]:
        raise SpecError(_unsupported("loss", hyper.loss, task, LOSSES[task]), "loss")


def check_labels(loss: Loss, *, multi_label: bool) -> None:
    """Raises SpecError with the field `loss` where it does not suit how the items are labelled."""
    if multi_label and loss not in LOSSES_OF_LABEL_SETS:
        names = ", ".join(LOSSES_OF_LABEL_SETS)
        text = f"The loss {loss} is of items of one class each, and these have any number. Choose one of {names}."
        raise SpecError(text, "loss")
    if not multi_label and loss is Loss.BINARY_WEIGHTED:
        text = (
            "The loss binary_weighted is of items with any number of classes, and these have one each. Choose binary."
        )
        raise SpecError(text, "loss")


def _unsupported(noun: str, value: StrEnum, task: Task, choices: tuple[StrEnum, ...]) -> str:
    others = f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0].value
    return f"The {noun} {value} does not suit {task.replace('-', ' ')}. Choose {others}."


def applicable(strategy: Strategy, task: Task) -> list[dataclasses.Field[Any]]:
    """Returns the choices that a run of this strategy and task reads, in the order of the form."""
    if strategy is Strategy.HEAD and task in _TRAINS_HEADS:
        return [entry for entry in applicable(Strategy.LAST, task) if entry.name not in _NOT_OF_HEADS]
    return [
        entry
        for entry in dataclasses.fields(Hyper)
        if strategy in entry.metadata["strategies"] and task in entry.metadata["tasks"]
    ]


# What suits a task better than the defaults of `Hyper`, which are those of image classification. Text: BERT's
# own recipe (Devlin et al. 2019) with a linear decay and layer-wise rates (Zhang et al. 2021, arXiv 2006.05987).
_TASK_DEFAULTS: dict[Task, dict[str, Any]] = {
    Task.TEXT_CLASSIFICATION: {
        "epochs": 3,
        "stages": 2,
        "batch_size": 16,
        "learning_rate": 2e-5,
        "schedule": Schedule.LINEAR,
        "warm_up": 0.1,
        "weight_decay": 0.01,
        "stage_decay": 0.95,
    },
    # A decoder starts from random numbers: it needs a higher rate than the layers of a bought network.
    Task.SEMANTIC_SEGMENTATION: {"batch_size": 8, "epochs": 15, "learning_rate": 1e-3},
    Task.OBJECT_DETECTION: {"batch_size": 8, "epochs": 12, "stages": 3},
}
_STRATEGY_DEFAULTS: dict[tuple[Task, Strategy], dict[str, Any]] = {
    (Task.TEXT_CLASSIFICATION, Strategy.LORA): {"epochs": 5, "learning_rate": 3e-4},
    (Task.TEXT_CLASSIFICATION, Strategy.SCRATCH): {"epochs": 20, "learning_rate": 3e-4},
}


def defaults_for(task: Task, strategy: Strategy) -> dict[str, Any]:
    """Returns the default of every choice that a run of this task and strategy reads, by name: what a form
    shows first, and what `Hyper` should be built from where nothing was chosen."""
    better = {**_TASK_DEFAULTS.get(task, {}), **_STRATEGY_DEFAULTS.get((task, strategy), {})}
    return {entry.name: better.get(entry.name, entry.default) for entry in applicable(strategy, task)}


# How a head is fitted to frozen features of boxes and pixels. A baseline that were fitted at the run's own rate would
# be as bad as that rate, and flatter what is compared with it.
_OF_A_FIT = ("learning_rate", "optimizer", "schedule", "warm_up", "weight_decay", "clip_norm", "average_weights")


def of_the_probe(task: Task, hyper: Hyper) -> Hyper:
    """Returns the settings of a probe that is trained in epochs: the task's defaults for how it is fitted, the run's
    own for what it sees and how often. Runs that differ in nothing else share a probe."""
    defaults = defaults_for(task, Strategy.HEAD)
    own = {name: getattr(hyper, name) for name in defaults if name not in _OF_A_FIT}
    return Hyper(**{**defaults, **own})


@dataclass(frozen=True, slots=True)
class Range:
    """What a search draws one choice from: `choices`, or numbers from `low` to `high`."""

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    is_whole: bool = False
    choices: tuple[Any, ...] = ()


def search_space(task: Task, strategy: Strategy) -> dict[str, Range]:
    """Returns the range of every choice that a search may vary and such a run reads, by name."""
    defaults, hints = defaults_for(task, strategy), typing.get_type_hints(Hyper)
    return {
        entry.name: _range_of(entry, hints[entry.name], defaults[entry.name])
        for entry in applicable(strategy, task)
        if entry.metadata["searched"] is not None
    }


def _range_of(entry: dataclasses.Field[Any], kind: type[Any], default: Any) -> Range:
    if kind is bool:
        return Range(choices=(False, True))
    if issubclass(kind, StrEnum):
        return Range(choices=tuple(item.value for item in kind))
    where: Searched = entry.metadata["searched"]
    factor = default if where.relative else 1
    low = max(where.low * factor, entry.metadata["minimum"])
    high = min(where.high * factor, entry.metadata["maximum"])
    return Range(low=low, high=high, log=where.log, is_whole=kind is int)
