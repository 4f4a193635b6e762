"""Where a classifier is weak: the share of right items for each class, and for each part that the upload names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from finetuning.engine.evaluation import intervals
from finetuning.engine.evaluation.intervals import Ints

CLASS, PART = "class", "part"
# Of fewer independent items a Wilson interval spans half of the scale: such a slice is listed, never the worst.
FEWEST_FOR_WORST = 10


class Judged(Protocol):
    """Predictions of one class each, or of label sets, where an item is right that gets exactly its labels."""

    share_of_right: ClassVar[str]  # the metric that is the share of right items

    @property
    def indices(self) -> Ints: ...

    @property
    def is_right(self) -> npt.NDArray[np.bool_]: ...

    @property
    def group_numbers(self) -> Ints: ...

    def of_class(self, position: int) -> Ints: ...


def report(predictions: Judged, labels: Sequence[str], *, parts: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the part `slices` of an evaluation. `parts` (N) names each item's part, empty where it has none.
    The worst slice is the one whose interval ends lowest: a low share of few items is no finding yet."""
    listed = list(_slices(predictions, labels, parts))
    large = [entry for entry in listed if entry["effective_items"] >= FEWEST_FOR_WORST]
    name = predictions.share_of_right
    worst = min(large, key=lambda entry: (entry[name]["high"], entry[name]["value"]), default=None)
    return {"listed": listed, "worst": worst}


def _slices(predictions: Judged, labels: Sequence[str], parts: Sequence[str]) -> Iterator[dict[str, Any]]:
    for position, label in enumerate(labels):
        yield from _slice(predictions, predictions.of_class(position), kind=CLASS, name=label)
    for part in sorted({part for part in parts if part}):
        inside = np.array([at for at, other in enumerate(parts) if other == part], np.int64)
        yield from _slice(predictions, inside, kind=PART, name=part)


def _slice(predictions: Judged, inside: Ints, *, kind: str, name: str) -> Iterator[dict[str, Any]]:
    if not len(inside):
        return
    groups = np.unique(predictions.group_numbers[inside], return_inverse=True)[1]
    yield {
        "kind": kind,
        "name": name,
        "items": len(inside),
        "effective_items": round(intervals.effective_count(groups), 1),
        predictions.share_of_right: intervals.wilson_of(predictions.is_right[inside], groups).to_json(),
    }


def without(predictions: Judged, leaked: Sequence[int]) -> dict[str, Any] | None:
    """Returns the share of right items with and without the test items whose numbers are `leaked` (copies of them lie among
    the training items), or None where no such item was scored. `rest` is None where nothing is left."""
    is_leaked = np.isin(predictions.indices, np.array(leaked, np.int64))
    if not is_leaked.any():
        return None
    name = predictions.share_of_right
    everything = next(_slice(predictions, np.arange(len(is_leaked)), kind="", name=""))[name]
    rest = next(_slice(predictions, np.flatnonzero(~is_leaked), kind="", name=""), None)
    return {
        "metric": name,
        "items": int(is_leaked.sum()),
        "remaining": int((~is_leaked).sum()),
        "all": everything,
        "rest": rest[name] if rest else None,
        "inflation": everything["value"] - rest[name]["value"] if rest else None,
    }
