"""The engine's inputs: one frozen dataclass for each verb, to and from JSON. Standard library only.

Hyper-parameters, their ranges and their help texts live here once: forms, the API schema and the docs
are generated from the `metadata` of `Hyper`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from finetuning.engine import plain_files
from finetuning.engine.hyper import (
    LOSSES,
    STRATEGIES,
    Augmentation,
    Crop,
    Features,
    Hyper,
    Loss,
    Optimizer,
    Precision,
    Schedule,
    SpecError,
    Strategy,
    Task,
    applicable,
    check,
    check_labels,
    defaults_for,
    search_space,
)
from finetuning.engine.presets import PRESETS, Preset, preset_of

# What the site may import: the choices of hyper.py, the presets and the specs of this module.
__all__ = [
    "LOSSES",
    "PRESETS",
    "STRATEGIES",
    "Augmentation",
    "Crop",
    "Features",
    "Hyper",
    "Loss",
    "Optimizer",
    "Precision",
    "Preset",
    "Schedule",
    "SpecError",
    "Strategy",
    "Task",
    "applicable",
    "check",
    "check_labels",
    "defaults_for",
    "preset_of",
    "search_space",
]

FORMAT = 1
MAX_TRIALS = 200

# What the runner says to the engine by its environment: how to be confined (confinement.py), how often an epoch writes
# a checkpoint (checkpoints.py), and how long a server waits for the next order (fork_server.py).
CONFINEMENT_VARIABLE = "ENGINE_CONFINEMENT"
CHECKPOINT_VARIABLE = "ENGINE_CHECKPOINT_SECONDS"
WARM_VARIABLE = "ENGINE_WARM_SECONDS"
FORK_SERVER = "fork-server"  # no verb: it has no run directory

# The files of a run directory.
SPEC_FILE = "spec.json"
EVENTS_FILE = "events.jsonl"
RESULT_FILE = "result.json"
INPUTS_DIR = "inputs"
OUTPUTS_DIR = "outputs"
CHECKPOINTS_DIR = "checkpoints"  # `STEP.ckpt`, of which the last by name is the newest; in folders those of its parts
CHECKPOINT_DIGEST_BYTES = 32  # each begins with the SHA-256 of its rest

# The files of a release, as the clients of its framework expect them.
CARD_FILE = "README.md"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
KERAS_FILE = "model.keras"
GOLDEN_FILE = "golden.safetensors"
ONNX_FILE = "model.onnx"
PROBE_FILE = "probe.safetensors"  # of a training: what the evaluation rebuilds the baselines from
# What text models carry beside them: the tokenizer, and how sentence-transformers pools and cuts.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
POOLING_FILE = "1_Pooling/config.json"
LENGTH_FILE = "sentence_bert_config.json"
SIGNED_RECEIPT_FILE = "evaluation-receipt.json"  # of a derivative: the evaluation, signed by the site
RECEIPT_FILE = "receipt.json"  # what an evaluation was made from, signed where a key is given


class Verb(StrEnum):
    INSPECT = "inspect"
    VERIFY = "verify"
    CONVERT = "convert"
    ZOO = "zoo"
    EXAMPLES = "examples"
    REBUILD = "rebuild"
    TRAIN = "train"
    SEARCH = "search"
    ESTIMATE = "estimate"
    EVALUATE = "evaluate"
    EXPORT = "export"
    SERVE = "serve"


class SearchMode(StrEnum):
    SEARCH = "search"  # the settings of one strategy
    RACE = "race"  # several strategies under one budget


class Framework(StrEnum):
    TORCHVISION = "torchvision"
    TIMM = "timm"
    TRANSFORMERS = "transformers"
    KERAS = "keras"


_SEEING = (Task.IMAGE_CLASSIFICATION, Task.OBJECT_DETECTION, Task.SEMANTIC_SEGMENTATION)
# What bought weights of (task, framework) can be tuned to do: timm's classifiers are the backbones of every
# vision task; the others keep to what they do.
TARGETS: dict[tuple[Task, Framework], tuple[Task, ...]] = {
    (Task.IMAGE_CLASSIFICATION, Framework.TIMM): _SEEING,
    (Task.IMAGE_CLASSIFICATION, Framework.TORCHVISION): (Task.IMAGE_CLASSIFICATION,),
    (Task.IMAGE_CLASSIFICATION, Framework.TRANSFORMERS): (Task.IMAGE_CLASSIFICATION,),
    (Task.IMAGE_CLASSIFICATION, Framework.KERAS): (Task.IMAGE_CLASSIFICATION,),
    (Task.OBJECT_DETECTION, Framework.TIMM): (Task.OBJECT_DETECTION,),
    (Task.OBJECT_DETECTION, Framework.TORCHVISION): (Task.OBJECT_DETECTION,),
    (Task.SEMANTIC_SEGMENTATION, Framework.TIMM): (Task.SEMANTIC_SEGMENTATION,),
    (Task.SEMANTIC_SEGMENTATION, Framework.TORCHVISION): (Task.SEMANTIC_SEGMENTATION,),
    (Task.TEXT_CLASSIFICATION, Framework.TRANSFORMERS): (Task.TEXT_CLASSIFICATION,),
}


def weights_file(framework: str) -> str:
    """Returns the name of the file that holds a release's weights."""
    return KERAS_FILE if framework == Framework.KERAS else WEIGHTS_FILE


class Split(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How an RGB image becomes the network's input: resize the short side to size / crop_fraction, centre
    crop to size x size, scale to [0, 1], subtract mean, divide by std (both per channel)."""

    size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    crop_fraction: float = 0.875

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 1024:
            raise SpecError("The input size must be between 16 and 1024 pixels.", "size")
        finite = all(math.isfinite(value) for value in (*self.mean, *self.std))
        if not finite or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise SpecError("Mean and std need three numbers each, std above zero.", "mean")
        if self.interpolation not in {"nearest", "bilinear", "bicubic", "lanczos"}:
            raise SpecError("Interpolation must be nearest, bilinear, bicubic or lanczos.", "interpolation")
        if not 0.5 <= self.crop_fraction <= 1.0:
            raise SpecError("The crop fraction must be between 0.5 and 1.", "crop_fraction")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSpec:
    """A release as the engine sees it; `directory` is relative to the run directory."""

    task: Task
    framework: Framework
    architecture: str
    directory: str = "inputs/release"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """What an upload may contain. Defaults leave Pillow's own warning threshold (89 Mpx) far away."""

    max_files: int = 20_000
    max_total_bytes: int = 5 * 2**30
    max_file_bytes: int = 64 * 2**20
    max_ratio: float = 200.0
    max_name_bytes: int = 200
    max_depth: int = 8
    max_pixels: int = 40_000_000
    min_side: int = 2
    max_label_characters: int = 100
    max_bad_fraction: float = 0.01
    min_images_per_class: int = 2
    max_table_bytes: int = 256 * 2**20  # of one CSV, TSV or JSON Lines file of texts
    max_texts: int = 200_000
    max_text_characters: int = 100_000
    max_row_bytes: int = 10 * 2**20
    max_conflict_fraction: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectSpec:
    """Check an uploaded archive and turn it into packs. The archive lies at `archive`."""

    task: Task = Task.IMAGE_CLASSIFICATION
    archive: str = "inputs/upload"
    salt: str = ""
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    thumbnail_size: int = 96
    limits: ArchiveLimits = ArchiveLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifySpec:
    weights: WeightsSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertSpec:
    """Turn a pickle of tensors (`source`, a path in the run directory, or `url`) into a release directory
    `outputs/release`. `labels` may be empty where the architecture's source carries them."""

    task: Task
    framework: Framework
    architecture: str
    source: str = ""
    url: str = ""
    source_sha256_prefix: str = ""
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] = ()
    labels_from: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooSpec:
    """List what torchvision knows of its own pretrained weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamplesSpec:
    """Build a data set to try each task with. `catalogs` holds `LANGUAGE/*.mo`, compiled message catalogues;
    `snippets` is the source distribution of vaderSentiment 3.3.1. What needs one of them that is not there is
    left out, and said."""

    scenes: int = 500
    texts: int = 2000  # of the rated snippets
    mixes: int = 2000  # of languages
    catalogs: str = "inputs/catalogs"
    snippets: str = "inputs/snippets.tar.gz"
    # Those of Latin letters, beside the English that the catalogues translate: spelling must tell them apart.
    languages: tuple[str, ...] = ("de", "es", "fr", "it", "nl", "pl", "pt")

    def __post_init__(self) -> None:
        if min(self.scenes, self.texts, self.mixes) < 20:
            raise SpecError("An example needs at least 20 scenes or texts.", "scenes")


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildSpec:
    """Put files together again out of the chunks that a Xet client has sent: `xorbs` holds them by their hashes, `shard`
    lists the files. `max_bytes` is of all files together."""

    max_bytes: int
    max_files: int = 256
    shard: str = "inputs/shard"
    xorbs: str = "inputs/xorbs"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    """Fine-tune on a pack that holds the training and validation items only: the trainer never has the
    test items. `task` is what to learn where that is not what the weights were bought for: a classifier can
    become the backbone of a detector."""

    weights: WeightsSpec
    strategy: Strategy
    task: Task | None = None
    hyper: Hyper = Hyper()
    labels: tuple[str, ...] = ()
    pack: str = "inputs/train.pack"
    device: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        fewest = 1 if self.target is Task.OBJECT_DETECTION else 2  # one kind of object is worth finding
        if len(self.labels) < fewest:
            raise SpecError(f"Fine-tuning needs at least {'one class' if fewest == 1 else 'two classes'}.", "labels")

    @property
    def target(self) -> Task:
        return self.task or self.weights.task


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpec:
    """Try `trials` combinations of strategy and hyper-parameters, judged on the validation items alone. One
    strategy: a search through `space`, choices of `Hyper` by name. Several: a race, each with its defaults and,
    where `trials` leaves room, with drawn values. `fixed` sets other choices for all; `budget_seconds` (0: none)
    ends it after the epoch in which it runs out."""

    weights: WeightsSpec
    strategies: tuple[Strategy, ...]
    task: Task | None = None
    space: tuple[str, ...] = ("learning_rate", "weight_decay")
    fixed: dict[str, Any] = dataclasses.field(default_factory=dict)
    trials: int = 20
    budget_seconds: float = 0.0
    labels: tuple[str, ...] = ()
    pack: str = "inputs/train.pack"
    device: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        if not self.strategies or len(set(self.strategies)) < len(self.strategies):
            raise SpecError("Name one strategy to search or several to race, each once.", "strategies")
        if not len(self.strategies) <= self.trials <= MAX_TRIALS:
            raise SpecError(f"Trials must be at least one for each strategy and at most {MAX_TRIALS}.", "trials")
        if not 0 <= self.budget_seconds < math.inf:
            raise SpecError("The budget must be seconds, 0 for none.", "budget_seconds")
        known = {name for strategy in self.strategies for name in search_space(self.target, strategy)}
        if unknown := [name for name in self.space if name not in known]:
            raise SpecError(
                f"{', '.join(unknown)} cannot be searched here; choose among {', '.join(sorted(known)) or 'nothing'}.",
                "space",
            )
        if twice := sorted(set(self.space) & set(self.fixed)):
            raise SpecError(f"{', '.join(twice)} cannot be both fixed and searched.", "fixed")
        for strategy in self.strategies:
            self.order(strategy, {})

    @property
    def target(self) -> Task:
        return self.task or self.weights.task

    @property
    def mode(self) -> SearchMode:
        return SearchMode.RACE if len(self.strategies) > 1 else SearchMode.SEARCH

    @property
    def seed(self) -> int:
        return int(self.fixed.get("seed", 0))

    def order(self, strategy: Strategy, chosen: dict[str, Any]) -> TrainSpec:
        """Returns the training that a trial of these values is."""
        return TrainSpec(
            weights=self.weights,
            strategy=strategy,
            task=self.task,
            hyper=hyper_from({**self.fixed, **chosen}, task=self.target, strategy=strategy),
            labels=self.labels,
            pack=self.pack,
            device=self.device,
            threads=self.threads,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateSpec:
    """Rehearse the training `order` and its evaluation on a few of its items, and say how long the whole will take.
    `steps` of training are rehearsed where the data have so many; `test_items` is how many items the evaluation will
    score, none of which is given."""

    order: TrainSpec
    steps: int = 20
    test_items: int = 0

    def __post_init__(self) -> None:
        if self.steps < 2 or self.test_items < 0:
            raise SpecError("An estimate needs at least two steps, and no fewer than no test items.", "steps")

    @property
    def device(self) -> str:
        return self.order.device

    @property
    def threads(self) -> int:
        return self.order.threads

    @property
    def seed(self) -> int:
        return self.order.hyper.seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """How the settings of a training were chosen before it: the best of so many trials by their validation score."""

    mode: SearchMode
    trials: int
    validation_items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateSpec:
    """Score a train run's outputs on the test pack. `train_outputs` is the `outputs` of the train run, `leaked`
    the test items that the inspection also found among the training items, `signing_key` an Ed25519 key (PEM)
    in the run directory that signs the receipt; empty: unsigned. `selection` is said in the receipt and changes
    nothing else."""

    strategy: Strategy
    base: WeightsSpec
    tuned: WeightsSpec
    labels: tuple[str, ...] = ()
    train_outputs: str = "inputs/train"
    pack: str = "inputs/test.pack"
    leaked: tuple[int, ...] = ()
    signing_key: str = ""
    selection: Selection | None = None
    seed: int = 0
    device: str = "auto"
    threads: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSpec:
    """Write a release as one ONNX file and compare the two on the test pack. `license_note` (the terms, in a few
    words) and `lineage` (the models it was made from, nearest first) become part of the file; `max_items` bounds
    the comparison, whose items are drawn from the seed."""

    weights: WeightsSpec
    pack: str = "inputs/test.pack"
    license_note: str = ""
    lineage: tuple[str, ...] = ()
    max_items: int = 250
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        if self.max_items < 1:
            raise SpecError("Compare at least one item.", "max_items")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSpec:
    """Answer predictions on a Unix socket for the releases laid out below `releases`."""

    socket: str
    releases: str
    capacity: int = 3
    threads: int = 0


def libraries(spec: Any) -> tuple[Framework | None, tuple[Task, ...]]:
    """Returns the framework whose weights the verb reads, and the tasks of these weights; last what it does with them."""
    match spec:
        case EstimateSpec():
            return libraries(spec.order)
        case TrainSpec() | SearchSpec():
            return spec.weights.framework, (spec.weights.task, spec.target)
        case EvaluateSpec():
            return spec.base.framework, (spec.base.task, spec.tuned.task)
        case VerifySpec():
            return spec.weights.framework, (spec.weights.task,)
        case ConvertSpec():
            return spec.framework, (spec.task,)
    return None, ()


type_of_verb: dict[Verb, type[Any]] = {
    Verb.INSPECT: InspectSpec,
    Verb.VERIFY: VerifySpec,
    Verb.CONVERT: ConvertSpec,
    Verb.ZOO: ZooSpec,
    Verb.EXAMPLES: ExamplesSpec,
    Verb.REBUILD: RebuildSpec,
    Verb.TRAIN: TrainSpec,
    Verb.SEARCH: SearchSpec,
    Verb.ESTIMATE: EstimateSpec,
    Verb.EVALUATE: EvaluateSpec,
    Verb.EXPORT: ExportSpec,
    Verb.SERVE: ServeSpec,
}
Spec = (
    InspectSpec
    | VerifySpec
    | ConvertSpec
    | ZooSpec
    | ExamplesSpec
    | RebuildSpec
    | TrainSpec
    | SearchSpec
    | EstimateSpec
    | EvaluateSpec
    | ExportSpec
    | ServeSpec
)


def to_json(spec: Spec) -> dict[str, Any]:
    """Returns the spec as JSON-ready values, with its verb and the format's number."""
    verb = next(verb for verb, kind in type_of_verb.items() if isinstance(spec, kind))
    return {"format": FORMAT, "verb": verb.value, **_plain(spec)}


def _plain(value: Any) -> Any:
    """As `dataclasses.asdict`, without fields that came later and have their default: a spec of before is the same spec, and
    what goes by its digest, such as a checkpoint, stays its own."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {
            field.name: _plain(entry)
            for field, entry in given
            if not (field.metadata.get("came_later") and entry == field.default)
        }
    if isinstance(value, list | tuple):
        return type(value)(_plain(entry) for entry in value)
    return {key: _plain(entry) for key, entry in value.items()} if isinstance(value, dict) else value


def from_json(document: dict[str, Any]) -> Spec:
    """Builds the spec again. Raises SpecError for an unknown format, verb, field or value."""
    entries = dict(document)
    if entries.pop("format", None) != FORMAT:
        raise SpecError(f"This engine reads format {FORMAT} only.", "format")
    try:
        verb = Verb(entries.pop("verb", ""))
    except ValueError as error:
        raise SpecError(f"Unknown verb; use one of {', '.join(Verb)}.", "verb") from error
    spec: Spec = build(type_of_verb[verb], entries)
    return spec


def build(kind: type[Any], entries: dict[str, Any], path: str = "") -> Any:
    """Returns `kind(**entries)` with every value checked and converted to its annotated type."""
    hints = typing.get_type_hints(kind)
    unknown = set(entries) - set(hints)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise SpecError(f"Unknown field: {names}.", path + names)
    required = {
        entry.name
        for entry in dataclasses.fields(kind)
        if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
    }
    if missing := required - set(entries):
        names = ", ".join(sorted(missing))
        raise SpecError(f"Missing field: {names}.", path + names)
    return kind(**{name: _convert(hints[name], value, path + name) for name, value in entries.items()})


def _convert(hint: Any, value: Any, path: str) -> Any:
    if isinstance(hint, types.UnionType):  # only `X | None` occurs
        return None if value is None else _convert(hint.__args__[0], value, path)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise SpecError(f"{path} must be a list.", path)
        return tuple(_convert(typing.get_args(hint)[0], item, path) for item in value)
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise SpecError(f"{path} must be an object.", path)
        return dict(value)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise SpecError(f"{path} must be an object.", path)
        return build(typing.cast("type[Any]", hint), value, path + ".")
    return _convert_scalar(hint, value, path)


def _convert_scalar(hint: Any, value: Any, path: str) -> Any:
    if issubclass(hint, StrEnum):
        if value not in tuple(hint):
            raise SpecError(f"{path} must be one of {', '.join(hint)}.", path)
        return hint(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SpecError(f"{path} must be of type {hint.__name__}.", path)
    return value


def write(spec: Spec, run_dir: Path) -> None:
    """Writes `spec.json`, whole or not at all; the directory must exist."""
    with plain_files.writing(run_dir, SPEC_FILE) as file:
        file.write(json.dumps(to_json(spec), indent=1, sort_keys=True).encode())


def read(run_dir: Path) -> Spec:
    """Reads `spec.json`. Raises SpecError for anything that is not a spec of this format."""
    try:
        document = json.loads((run_dir / SPEC_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SpecError(f"{SPEC_FILE} cannot be read: {error}.") from error
    if not isinstance(document, dict):
        raise SpecError(f"{SPEC_FILE} must hold an object.")
    return from_json(document)


def canonical(document: Any) -> bytes:
    """Returns the one byte string that digests of a JSON document are taken over."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def hyper_from(values: dict[str, Any], *, task: Task, strategy: Strategy) -> Hyper:
    """Builds `Hyper` from untrusted values over the defaults of the task and strategy. Raises SpecError with the
    field's name, also for a strategy or loss that the task does not have."""
    hyper = typing.cast("Hyper", build(Hyper, {**defaults_for(task, strategy), **values}))
    check(task, strategy, hyper)
    return hyper
