"""Items of a dataset as its pages show them: found, paged, with boxes drawn; groups of copies, suspected labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.core.paginator import Page, Paginator
from django.http import QueryDict

from finetuning.engine.spec import Split, Task
from finetuning.models import DatasetVersion, Run
from finetuning.services import indexes
from marketplace.templatetags.market import percent

PAGE_SIZES = {Task.TEXT_CLASSIFICATION: 25, Task.OBJECT_DETECTION: 24, Task.SEMANTIC_SEGMENTATION: 24}
_PAGE_SIZE = 60
SHOWN_CHARACTERS = 300  # of a text; the rest opens on demand, up to:
MAX_CHARACTERS = 5_000
SHOWN_GROUPS = 6
SHOWN_OF_GROUP = 6
SHOWN_SUSPECTS = 24
_SERIES = 4  # colors in tokens.css; classes beyond share them: their names are always written
_CHARACTER_WIDTH = 0.6  # of the height, about
_TEXT_SHARE = 0.06  # of the longer side: the height of a box's name


@dataclass(frozen=True, slots=True)
class Box:
    """A box in pixels of the stored image; its name is written above it, or inside where there is no room, from
    its left edge, or up to its right one where the name would leave the image. A box that a model found is dashed,
    its name with the confidence below it."""

    label: str
    name: str
    series: int
    left: float
    top: float
    width: float
    height: float
    text_bottom: float
    text_ends_at: float | None
    is_found: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """`text_size` is the height of the boxes' names in pixels of the image."""

    index: int
    name: str
    split: str
    caption: str
    width: int
    height: int
    boxes: list[Box]
    text_size: float
    text: str
    rest: str


@dataclass(frozen=True, slots=True)
class Search:
    """What the visitor looks for, as the address says it; what makes no sense is not looked for."""

    label: int | None
    split: str
    words: str

    @property
    def is_narrow(self) -> bool:
        return self.label is not None or bool(self.split or self.words)


@dataclass(frozen=True, slots=True)
class Group:
    """Items that show or say the same, or nearly so; `more` of them are not shown."""

    title: str
    samples: list[Sample]
    more: int


@dataclass(frozen=True, slots=True)
class Suspect:
    sample: Sample
    given: str
    suggested: str


def search_of(query: QueryDict, labels: Sequence[str]) -> Search:
    label, split = query.get("class", ""), query.get("split", "")
    is_known = label.isdecimal() and label in {str(place) for place in range(len(labels))}
    return Search(
        label=int(label) if is_known else None,
        split=split if split in tuple(Split) else "",
        words=query.get("q", "").strip()[:200],
    )


def page_of(version: DatasetVersion, task: str, search: Search, number: str | None) -> Page[Sample]:
    """Returns one page of the items that are looked for."""
    size = PAGE_SIZES.get(Task(task), _PAGE_SIZE)
    return Paginator(_Found(version, search), size).get_page(number)


class _Found:
    """The items that are looked for, of which a paginator reads one slice."""

    def __init__(self, version: DatasetVersion, search: Search) -> None:
        self._version = version
        self._query = indexes.Query(label=search.label, split=search.split, words=search.words)
        self._total = indexes.find(version.index_sha256, self._query, start=0, count=0)[1]

    def __len__(self) -> int:
        return self._total

    def __getitem__(self, part: slice) -> list[Sample]:
        count = part.stop - part.start
        found, _ = indexes.find(self._version.index_sha256, self._query, start=part.start, count=count)
        return [_sample(entry, self._version) for entry in found]


def classes_of(version: DatasetVersion) -> list[tuple[int, str]]:
    """Returns the classes that items can be looked for by, none where the index names none."""
    return list(enumerate(version.labels)) if indexes.has_classes(version.index_sha256) else []


def samples_of(version: DatasetVersion, numbers: Iterable[int]) -> dict[int, Sample]:
    """Returns the items with these numbers."""
    found = indexes.by_number(version.index_sha256, numbers)
    return {number: _sample(entry, version) for number, entry in found.items()}


def with_found(sample: Sample, found: Iterable[dict[str, Any]], labels: Sequence[str]) -> Sample:
    """Returns the item with the boxes too that a model found in it, as an evaluation lists them."""
    boxes = [_found(row, labels, sample) for row in found]
    return replace(sample, boxes=[*sample.boxes, *boxes])


def copies_of(version: DatasetVersion) -> list[Group]:
    """Returns the first groups of leaks, conflicts, exact and near copies of the report, in this order."""
    report = version.report
    leaks = report.get("leakage", [])[:SHOWN_GROUPS]
    listed = [
        *((f"In two splits ({leak['kind']} copy)", [leak["test"], leak["train"]]) for leak in leaks),
        *(("The same under different labels", group) for group in report.get("conflicts", [])[:SHOWN_GROUPS]),
        *(("Exact copies", group) for group in report["duplicates"]["exact"][:SHOWN_GROUPS]),
        *(("Near copies", group) for group in report["duplicates"]["near"][:SHOWN_GROUPS]),
    ]
    known = samples_of(version, {number for _, group in listed for number in group[:SHOWN_OF_GROUP]})
    return [
        Group(
            title,
            [known[number] for number in group[:SHOWN_OF_GROUP] if number in known],
            max(0, len(group) - SHOWN_OF_GROUP),
        )
        for title, group in listed
    ]


def suspects_of(version: DatasetVersion, run: Run | None) -> list[Suspect]:
    """Returns the items whose label the run's audit doubts, the surest first."""
    listed = run.result.get("label_audit", {}).get("listed", [])[:SHOWN_SUSPECTS] if run else []
    known = samples_of(version, [row["index"] for row in listed])
    return [Suspect(known[row["index"]], row["given"], row["suggested"]) for row in listed if row["index"] in known]


def _sample(entry: indexes.Entry, version: DatasetVersion) -> Sample:
    labels = version.labels
    side = max(entry["width"], entry["height"])
    size = round(_TEXT_SHARE * side, 2)
    boxes = [_box(box, labels, entry["width"], size) for box in entry.get("boxes", [])]
    text = entry.get("text", "")
    return Sample(
        index=entry["index"],
        name=entry["name"],
        split=entry["split"],
        caption=_caption(entry, boxes, labels) or ("no label" if version.is_multi_label else ""),
        width=entry["width"],
        height=entry["height"],
        boxes=boxes,
        text_size=size,
        text=text[:SHOWN_CHARACTERS],
        rest=text[SHOWN_CHARACTERS:MAX_CHARACTERS],
    )


def _caption(entry: indexes.Entry, boxes: list[Box], labels: Sequence[str]) -> str:
    if entry["label"] >= 0:
        return labels[entry["label"]]
    return ", ".join(labels[place] for place in entry.get("labels", ())) or _listed(boxes)


def _box(
    box: Sequence[Any], labels: Sequence[str], image_width: int, text_size: float, *, score: float | None = None
) -> Box:
    place, left, top, right, bottom = box
    label = labels[int(place)]
    name = label if score is None else f"{label} {percent(score, 0)}"
    leaves = left + _CHARACTER_WIDTH * text_size * len(name) > image_width
    return Box(
        label=label,
        name=name,
        series=int(place) % _SERIES + 1,
        left=left,
        top=top,
        width=right - left,
        height=bottom - top,
        text_bottom=round(top - 0.2 * text_size if top > text_size else top + text_size, 2),
        text_ends_at=right if leaves else None,
    )


def _found(row: dict[str, Any], labels: Sequence[str], sample: Sample) -> Box:
    box = _box((row["label"], *row["box"]), labels, sample.width, sample.text_size, score=row["score"])
    bottom, size = row["box"][3], sample.text_size
    below = bottom + size if bottom + size < sample.height else bottom - 0.2 * size
    return replace(box, text_bottom=round(below, 2), is_found=True)


def _listed(boxes: list[Box]) -> str:
    """Returns the boxes in words: 2 disc, 1 square."""
    return ", ".join(f"{number} {label}" for label, number in Counter(box.label for box in boxes).most_common())
