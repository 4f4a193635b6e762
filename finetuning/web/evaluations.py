"""What a run's page says of its evaluation, whatever the task; older evaluations lack the newer parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetuning.engine import headlines
from finetuning.engine.metric_names import TITLES
from finetuning.engine.spec import RECEIPT_FILE, Task
from finetuning.models import DatasetVersion, Run
from finetuning.services.runs import EVALUATION_FOLDER
from finetuning.web import dataset_reports, metrics, plots, samples
from finetuning.web import evaluation_tables as tables
from finetuning.web.evaluation_tables import Evaluation
from finetuning.web.metrics import METRICS, Figure
from marketplace.templatetags.market import percent

_SMALLEST_P = 0.001  # that is written out
_OF_RESAMPLES = (
    "miou",
    headlines.OF_LABEL_SETS[0],
)  # no item is right or wrong by itself: it comes out better or worse
_SHARES_OF_RIGHT = ("accuracy", "subset_accuracy")
_VERDICTS = {"better": "Better", "worse": "Worse", "no_measurable_gain": "No measurable gain"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tuned weights beside one baseline."""

    title: str
    figure: Figure
    difference: str
    interval: str
    p_value: str
    told: str
    smallest_visible: str
    verdict: str
    verdict_code: str

    @property
    def verdict_in_words(self) -> str:
        return _VERDICTS.get(self.verdict_code, "")


@dataclass(frozen=True, slots=True)
class Reliability:
    title: str
    bars: list[plots.ReliabilityBar]
    figures: list[Figure]


@dataclass(frozen=True, slots=True)
class Estimates:
    """Figures of the head on the frozen model, from the training and validation items: no test item is in them."""

    figures: list[Figure]
    folds: list[str]
    items: int


@dataclass(frozen=True, slots=True)
class Slice:
    """A class, or a part that the upload names, and the share of its test items that are right."""

    kind: str
    name: str
    items: int
    figure: Figure


@dataclass(frozen=True, slots=True)
class Leaked:
    """The share of right items with and, where anything is left, without the test items that training had too."""

    everything: Figure
    rest: Figure | None
    text: str
    is_all: bool = False  # every test item leaked


@dataclass(frozen=True, slots=True)
class Mistake:
    """One of the worst items, with what is known of it; `file` is a drawing of the evaluation's own."""

    index: int
    truth: str = ""
    guess: str = ""
    confidence: float | None = None
    note: str = ""
    text: str = ""
    file: str = ""
    sample: samples.Sample | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """All of it; parts that the task or an older evaluation does not have are empty."""

    noun: str
    items: int
    groups: int | None
    headline: Figure
    figures: list[Figure]
    comparisons: list[Comparison]
    classes: tables.ClassTable
    confusion: tables.Confusion | None
    detection: tables.Detection | None
    reliability: list[Reliability]
    temperature: float | None
    estimates: Estimates | None
    slices: list[Slice]
    worst_slice: Slice | None
    leaked: Leaked | None
    mistakes: list[Mistake]
    receipt: bool
    looks: int  # so many runs have been scored on these very test items


def page(run: Run) -> Page | None:
    """Returns what there is to show, or None while there is no evaluation."""
    evaluation, task = run.evaluation, run.dataset_version.dataset.task
    name = metrics.headline_of(evaluation)
    if not name:
        return None
    noun = dataset_reports.noun(task)
    calibration = evaluation.get("calibration") or {}
    slices = evaluation.get("slices") or {}
    return Page(
        noun=noun,
        items=evaluation["items"],
        groups=evaluation.get("groups"),
        headline=metrics.figure(name, evaluation["metrics"][name]),
        figures=[metrics.figure(key, value) for key, value in evaluation["metrics"].items()],
        comparisons=list(_comparisons(evaluation, name, noun)),
        classes=tables.classes(evaluation, noun),
        confusion=tables.confusion(evaluation, of_pixels=task == Task.SEMANTIC_SEGMENTATION),
        detection=tables.detection(evaluation) if "errors" in evaluation else None,
        reliability=list(_reliability(calibration)),
        temperature=calibration.get("temperature"),
        estimates=_estimates(run.result),
        slices=[_slice(row) for row in slices.get("listed", [])],
        worst_slice=_slice(slices["worst"]) if slices.get("worst") else None,
        leaked=_leaked(evaluation.get("without_leaked")),
        mistakes=list(_mistakes(run)),
        receipt=file_of(run, RECEIPT_FILE) is not None,
        looks=run.dataset_version.evaluations,
    )


def _comparisons(evaluation: Evaluation, name: str, noun: str) -> Iterator[Comparison]:
    main = {**evaluation["baseline"], **{key: evaluation.get(key) for key in ("comparison", "verdict", "verdict_code")}}
    for row in (main, *evaluation.get("other_baselines", [])):
        if name not in row:
            continue
        compared, metric = row.get("comparison") or {}, METRICS[name]
        difference, p_value = compared.get("difference"), compared.get("p_value")
        smallest = compared.get("smallest_visible")
        yield Comparison(
            title=row["title"],
            figure=metrics.figure(name, row[name], title=row["title"]),
            difference=metric.difference(difference["value"]) if difference else "",
            interval=f"{metric.difference(difference['low'])} to {metric.difference(difference['high'])}"
            if difference
            else "",
            p_value=_p_in_words(p_value),
            told=_told(compared, name, noun),
            smallest_visible=metric.difference(smallest).lstrip("+") if smallest else "",
            verdict=row.get("verdict") or "",
            verdict_code=row.get("verdict_code") or "",
        )


def _p_in_words(p_value: float | None) -> str:
    if p_value is None:
        return ""
    return f"p < {_SMALLEST_P}" if p_value < _SMALLEST_P else f"p = {p_value:.3f}"


def _told(compared: Evaluation, name: str, noun: str) -> str:
    """Returns on how many items the two differ, and by which test that was judged."""
    better, worse = compared.get("better"), compared.get("worse")
    test = f" Compared by {compared['test']}, {_p_in_words(compared.get('p_value'))}." if compared.get("test") else ""
    if better is None:
        return test.strip()
    if name in _OF_RESAMPLES:
        return f"{better:,} {noun} come out better than with the baseline, {worse:,} worse.{test}"
    return f"{better:,} only this model gets right, {worse:,} only the baseline.{test}"


def _reliability(calibration: Evaluation) -> Iterator[Reliability]:
    for name, title in (("before", "As trained"), ("after", "As served, with the temperature")):
        if name in calibration.get("reliability", {}):
            figures = [metrics.figure(key, value) for key, value in calibration[name].items()]
            yield Reliability(title, plots.reliability(calibration["reliability"][name]), figures)


def _estimates(result: Evaluation) -> Estimates | None:
    folds, single = result.get("cross_validation", {}), result.get("leave_one_out", {})
    figures = []
    metric = headlines.OF_LABEL_SETS[0] if headlines.OF_LABEL_SETS[0] in folds else "accuracy"
    if folds:
        title = f"{folds['k']}-fold cross-validation"
        figures.append(metrics.figure(metric, folds["mean"], title=f"{title}, mean of the folds"))
        if "pooled" in folds:
            figures.append(metrics.figure(metric, folds["pooled"], title=f"{title}, all items together"))
    if single:
        figures.append(metrics.figure("accuracy", single["accuracy"], title="Leave one out, a ridge classifier"))
    if not figures:
        return None
    return Estimates(
        figures=figures,
        folds=[percent(share) for share in folds.get(metric, [])],
        items=(folds or single)["items"],
    )


def _slice(row: Evaluation) -> Slice:
    name = next(name for name in _SHARES_OF_RIGHT if name in row)
    return Slice(row["kind"], row["name"], row["items"], metrics.figure(name, row[name]))


def _leaked(found: Evaluation | None) -> Leaked | None:
    if not found:
        return None
    name = found.get("metric", "accuracy")
    everything = metrics.figure(name, found["all"])
    text = f"{found['items']:,} of them. {everything.title} with them {everything.shown} ({everything.low} to {everything.high})"
    if not found["rest"]:
        return Leaked(
            everything, None, f"{text}; without them nothing is left to measure.", is_all=not found["remaining"]
        )
    rest = metrics.figure(name, found["rest"])
    gain = METRICS[name].difference(found["inflation"])
    text += f"; on the other {found['remaining']:,} {rest.shown} ({rest.low} to {rest.high}): {gain} points by leaks."
    return Leaked(everything, rest, text)


def _mistakes(run: Run) -> Iterator[Mistake]:
    worst = run.evaluation.get("worst", [])
    # Items of old datasets may be gone from the disk, the evaluation is not: only boxes need the index.
    known = samples.samples_of(run.dataset_version, [row["index"] for row in worst]) if _has_boxes(worst) else {}
    for row in worst:
        if "iou" in row:
            file = row.get("file", "")
            yield Mistake(row["index"], note=f"IoU {percent(row['iou'])}", file=file if file_of(run, file) else "")
        elif "f1" in row:
            note = f"{row['right']} right, {row['wrong']} wrong, {row['missed']} missed"
            sample = known.get(row["index"])
            if sample and row.get("found"):
                sample = samples.with_found(sample, row["found"], run.evaluation["labels"])
            yield Mistake(row["index"], note=note, sample=sample)
        else:
            yield Mistake(row["index"], row["truth"], row["predicted"], row["confidence"], text=row.get("text", ""))


def file_of(run: Run, name: str) -> dict[str, Any] | None:
    """Returns {sha256, bytes} of a file that the evaluation wrote, by its path below `outputs/`."""
    found: dict[str, Any] | None = run.artifacts.get(f"{EVALUATION_FOLDER}/{name}")
    return found


def _has_boxes(worst: list[Evaluation]) -> bool:
    return bool(worst) and "f1" in worst[0]


def curves(version: DatasetVersion) -> list[tuple[str, str, bool]]:
    """Returns (metric event, title, whether its chart stays away until there are points) of a live page."""
    names = {
        Task.OBJECT_DETECTION: ["map", "map50"],
        Task.SEMANTIC_SEGMENTATION: ["miou", "pixel_accuracy"],
    }.get(Task(version.dataset.task), ["accuracy"])
    if version.is_multi_label:
        names = [headlines.OF_LABEL_SETS[0]]
    own = [(name, TITLES[name]) for name in names]
    measured = [("loss", "Loss", False), (*own[0], False), *((*more, True) for more in own[1:])]
    shown = [*measured, ("learning_rate", "Learning rate", True)]
    return [*shown, *((f"probe_{name}", f"{title} of the baseline", True) for name, title, _ in shown)]
