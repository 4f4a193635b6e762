"""The evaluation of a detector, as docs/engine.md describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from finetuning.engine.evaluation import average_precision as coco
from finetuning.engine.evaluation import detection_errors, reference, slices
from finetuning.engine.evaluation.average_precision import ClassMatches, Floats, Found
from finetuning.engine.evaluation.comparison import SIGNIFICANCE, Verdict
from finetuning.engine.evaluation.metrics import Estimate, percentile_interval
from finetuning.engine.packs import Item

RESAMPLES = 1000
CONFIDENCE = 0.5  # of a detector that names none
_CURVE_STEP = 5  # every fifth of the 101 recalls: 21 points draw the same curve
_Z95 = 1.96
# The first of those that there are is the one that is judged by.
BASELINES = {
    "bought_with_probe": "The model as bought, with a detection head trained on it",
    "nothing": "Finding nothing at all",
    "parent": "The model as bought, which knows these classes",
}


def best_confidence(matches: Sequence[ClassMatches]) -> float:
    """Returns the score from which on boxes have the best F1 at IoU 0.5 over all classes, two digits."""
    scores = np.concatenate([entry.scores for entry in matches])
    hits = np.concatenate([entry.hits[0] for entry in matches])
    total = sum(int(entry.truths.sum()) for entry in matches)
    if not hits.any():
        return CONFIDENCE
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order])
    f1 = 2 * right / (np.arange(1, len(order) + 1) + total)
    return float(np.floor(100 * scores[order][int(f1.argmax())]) / 100)


def report(
    items: Sequence[Item],
    found: Sequence[Found],
    baselines: Mapping[str, Sequence[Found]],
    *,
    labels: tuple[str, ...],
    confidence: float,
    seed: int,
    leaked: Sequence[int] = (),
) -> dict[str, Any]:
    """Returns the evaluation of what was `found` in the test items, beside baselines on the same images, by their
    kind, and finding nothing. `leaked` are numbers of test items that also lie among the training items."""
    truths = [Found.truth(item.boxes) for item in items]
    matches = coco.match(truths, found, len(labels))
    resamples = _resamples(items, np.random.default_rng(seed))
    measured = _measure(matches, resamples)
    maps = {
        kind: _measure(coco.match(truths, other, len(labels)), resamples)["map"] for kind, other in baselines.items()
    }
    maps["nothing"] = np.zeros(RESAMPLES + 1)
    rows = [_against(measured["map"], maps[kind], kind, len(items)) for kind in BASELINES if kind in maps]
    main = rows[0]
    counts = detection_errors.count(truths, found, confidence=confidence)
    return {
        "split": "test",
        "items": len(items),
        "boxes": sum(len(item.boxes) for item in items),
        "labels": list(labels),
        "metrics": {name: _estimate(values).to_json() for name, values in measured.items()},
        "by_size": reference.by_size(items, found, labels),
        "per_class": _per_class(matches, labels),
        "confidence": confidence,
        "errors": counts.totals(),
        "without_leaked": _without(items, matches, _estimate(measured["map"]).to_json(), leaked, seed),
        "worst": counts.worst(items),
        "baseline": {name: main[name] for name in ("kind", "title", "map")},
        **{name: main[name] for name in ("comparison", "verdict", "verdict_code")},
        "other_baselines": rows[1:],
    }


def _against(tuned: Floats, theirs: Floats, kind: str, images: int) -> dict[str, Any]:
    """Returns the comparison with one baseline's mean average precisions (1 + B,), as flat as one row of a table."""
    compared, title = _compare(tuned, theirs), BASELINES[kind]
    return {
        "kind": kind,
        "title": title,
        "map": _estimate(theirs).to_json(),
        "comparison": compared,
        "verdict": _sentence(compared, title, tuned[0], theirs[0], images),
        "verdict_code": _verdict(compared).value,
    }


def _resamples(items: Sequence[Item], rng: np.random.Generator) -> Floats:
    """Returns (1 + B, N) how often each image counts: first once each, then in resamples of groups, so that
    duplicates come and go together."""
    groups = np.unique([item.group or str(item.index) for item in items], return_inverse=True)[1]
    total = int(groups.max()) + 1
    drawn = rng.multinomial(total, np.full(total, 1 / total), size=RESAMPLES)
    return np.concatenate([np.ones((1, len(items))), drawn[:, groups].astype(np.float64)])


def _measure(matches: Sequence[ClassMatches], weights: Floats) -> dict[str, Floats]:
    """Returns each metric (1 + B,): of the images as they are, then of the resamples. A class without truths
    does not count, as pycocotools has it."""
    precision = _mean([coco.average_precision(entry, weights) for entry in matches])
    return {
        "map": precision.mean(axis=1),
        "map50": precision[:, 0],
        "map75": precision[:, 5],
        "average_recall": _mean([coco.average_recall(entry, weights) for entry in matches]),
    }


def _without(
    items: Sequence[Item],
    matches: Sequence[ClassMatches],
    everything: dict[str, float],
    leaked: Sequence[int],
    seed: int,
) -> dict[str, Any] | None:
    """Returns the mean average precision with and without the leaked images, or None where none is; of images without
    boxes there is none."""
    is_leaked = np.isin([item.index for item in items], list(leaked))
    if not is_leaked.any():
        return None
    others = [item for item, is_out in zip(items, is_leaked, strict=True) if not is_out]
    rest = None
    if any(item.boxes for item in others):
        weights = np.zeros((1 + RESAMPLES, len(items)))
        weights[:, ~is_leaked] = _resamples(others, np.random.default_rng(seed))
        rest = _estimate(_measure(matches, weights)["map"]).to_json()
    return slices.flattered("map", is_leaked, everything, rest)


def _mean(scores: list[Floats]) -> Floats:
    table = np.array(scores)
    counted = ~np.isnan(table)
    mean: Floats = np.where(counted, table, 0).sum(axis=0) / np.maximum(counted.sum(axis=0), 1)
    return mean


def _estimate(values: Floats) -> Estimate:
    return percentile_interval(float(values[0]), values[1:])


def _per_class(matches: Sequence[ClassMatches], labels: tuple[str, ...]) -> list[dict[str, Any]]:
    once = np.ones((1, len(matches[0].truths)))
    return [
        {
            "label": label,
            "boxes": int(entry.truths.sum()),
            "images": int((entry.truths > 0).sum()),
            **_scores(entry, once),
            "curve": {
                "recall": coco.RECALLS[::_CURVE_STEP].tolist(),
                "precision": coco.precisions(entry, 0)[::_CURVE_STEP].tolist(),
            },
        }
        for label, entry in zip(labels, matches, strict=True)
    ]


def _scores(matches: ClassMatches, once: Floats) -> dict[str, float | None]:
    """Returns the class's scores, null where the test images show none of it."""
    if not matches.truths.any():
        return {"ap": None, "ap50": None, "average_recall": None}
    precision = coco.average_precision(matches, once)[0]
    recall = coco.average_recall(matches, once)[0]
    return {"ap": float(precision.mean()), "ap50": float(precision[0]), "average_recall": float(recall)}


def _compare(tuned: Floats, baseline: Floats) -> dict[str, Any]:
    """Compares mean average precisions (1 + B,) of the same images and resamples."""
    differences = (tuned - baseline)[1:]
    below, above = int((differences <= 0).sum()), int((differences >= 0).sum())
    p_value = min(1.0, 2 * (min(below, above) + 1) / (len(differences) + 1))
    return {
        "test": "paired bootstrap over images",
        "metric": "map",
        "p_value": p_value,
        "difference": percentile_interval(float(tuned[0] - baseline[0]), differences).to_json(),
        "smallest_visible": float(_Z95 * differences.std(ddof=1)),
    }


def _verdict(compared: dict[str, Any]) -> Verdict:
    if compared["p_value"] >= SIGNIFICANCE:
        return Verdict.NO_MEASURABLE_GAIN
    return Verdict.BETTER if compared["difference"]["value"] > 0 else Verdict.WORSE


def _sentence(compared: dict[str, Any], title: str, tuned: float, baseline: float, images: int) -> str:
    difference, named = compared["difference"], title[0].lower() + title[1:]
    p_text = "p < 0.01" if compared["p_value"] < 0.01 else f"p = {compared['p_value']:.2f}"
    figures = (
        f"mean average precision {tuned:.3f} against {baseline:.3f} on {images:,} test images; difference "
        f"{difference['value']:+.3f}, 95% interval {difference['low']:+.3f} to {difference['high']:+.3f}, {p_text}"
    )
    visible = f" A test set of this size shows differences from {compared['smallest_visible']:.3f}."
    match _verdict(compared):
        case Verdict.BETTER:
            return f"Better than {named}: {figures}.{visible}"
        case Verdict.WORSE:
            return f"Worse than {named}: {figures}.{visible}"
        case Verdict.NO_MEASURABLE_GAIN:
            return f"No measurable gain over {named}: {figures}.{visible}"
