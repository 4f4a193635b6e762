"""Where a model is weak: the share of right items for each class, and for short and long texts, small and large images;
and what leaked items flatter it by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from finetuning.engine.evaluation import intervals
from finetuning.engine.evaluation.intervals import Ints
from finetuning.engine.gathering import MAX_SHORT_SIDE
from finetuning.engine.packs import Item

CLASS, PART = "class", "part"
# Of fewer independent items a Wilson interval spans half of the scale: such a slice is listed, never the worst.
FEWEST_FOR_WORST = 10
# Thirds by length or size are parts of their own where the middle one spans this factor: else all are much alike.
_UNLIKE = 1.5


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


@dataclass(frozen=True, slots=True)
class Parts:
    """`places` (N) says which of the `names` each item belongs to."""

    names: tuple[str, ...] = ()
    places: tuple[int, ...] = ()


WHOLE = Parts()


def parts_of(items: Sequence[Item]) -> Parts:
    """Returns the thirds that the items lie in: texts by their characters, images by their shorter side, of which what is
    over MAX_SHORT_SIDE does not count, as many are stored at that; none where these are much alike."""
    is_text = any(item.text for item in items)
    sizes = [len(item.text) if is_text else min(*item.size, MAX_SHORT_SIDE) for item in items]
    low, high = (int(edge) for edge in np.quantile(sizes, (1 / 3, 2 / 3), method="lower"))
    if high < _UNLIKE * low:
        return WHOLE
    prefix, unit = ("", "characters") if is_text else ("shorter side ", "pixels")
    names = (
        f"{prefix}up to {low:,} {unit}",
        f"{prefix}{low + 1:,} to {high:,} {unit}",
        f"{prefix}over {high:,} {unit}",
    )
    return Parts(names, tuple((size > low) + (size > high) for size in sizes))


def report(predictions: Judged, labels: Sequence[str], *, parts: Parts = WHOLE) -> dict[str, Any]:
    """Returns the part `slices` of an evaluation.
    The worst slice is the one whose interval ends lowest: a low share of few items is no finding yet."""
    listed = list(_slices(predictions, labels, parts))
    large = [entry for entry in listed if entry["effective_items"] >= FEWEST_FOR_WORST]
    name = predictions.share_of_right
    worst = min(large, key=lambda entry: (entry[name]["high"], entry[name]["value"]), default=None)
    return {"listed": listed, "worst": worst}


def _slices(predictions: Judged, labels: Sequence[str], parts: Parts) -> Iterator[dict[str, Any]]:
    for position, label in enumerate(labels):
        yield from _slice(predictions, predictions.of_class(position), kind=CLASS, name=label)
    for number, name in enumerate(parts.names):
        yield from _slice(predictions, np.flatnonzero(np.array(parts.places) == number), kind=PART, name=name)


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
    return flattered(name, is_leaked, everything, rest[name] if rest else None)


def flattered(
    metric: str, is_leaked: npt.NDArray[np.bool_], everything: dict[str, float], rest: dict[str, float] | None
) -> dict[str, Any]:
    """Returns the part `without_leaked` of an evaluation: the metric `{value, low, high}` of all items, and of those that
    did not leak, None where there are none."""
    return {
        "metric": metric,
        "items": int(is_leaked.sum()),
        "remaining": int((~is_leaked).sum()),
        "all": everything,
        "rest": rest,
        "inflation": everything["value"] - rest["value"] if rest else None,
    }
