"""The health report of a data set of texts, in the manner of health.py."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from finetuning.engine import health, label_set_health
from finetuning.engine.health import GOOD, NOTICE, WARNING, Finding
from finetuning.engine.packs import Item
from finetuning.engine.spec import Split

NOUN = "texts"
_LONG_WORDS = 180  # about 256 tokens: what the networks here read of a text
_SHORT_CHARACTERS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSurvey:
    """What inspecting found. `exact`, `near` and `conflicts` hold positions in `items`; `left_out` names the rows
    that are not used, `ignored` columns. `is_multi_label`: items have any number of labels."""

    items: Sequence[Item]
    labels: Sequence[str]
    read: int
    left_out: list[dict[str, str]]
    skipped: dict[str, int]
    ignored: Sequence[str]
    exact: list[list[int]]
    near: list[list[int]]
    conflicts: list[list[int]]
    split_source: str
    is_multi_label: bool = False


def report(survey: TextSurvey) -> dict[str, Any]:
    """Returns the report, JSON-ready, as `docs/engine.md` has it."""
    items = survey.items
    classes = health.class_counts(items, survey.labels, noun=NOUN)
    splits = Counter(item.split for item in items)
    leaks = health.leakage(items, survey.exact, survey.near)
    sets = label_set_health.label_sets(items, survey.labels, noun=NOUN) if survey.is_multi_label else None

    def indices(groups: list[list[int]]) -> list[list[int]]:
        return [[items[at].index for at in group] for group in groups]

    return {
        "texts": len(items),
        "rows": {"read": survey.read, "used": len(items), "left_out": len(survey.left_out)},
        "labels": list(survey.labels),
        "classes": classes,
        **({"multi_label": True, "label_sets": sets} if sets else {}),
        "splits": {split.value: splits[split] for split in Split},
        "lengths": _lengths([item.text for item in items]),
        "imbalance_ratio": health.imbalance_ratio(classes, noun=NOUN),
        "skipped": survey.skipped,
        "ignored_columns": list(survey.ignored),
        "left_out": survey.left_out,
        "duplicates": {"exact": indices(survey.exact), "near": indices(survey.near)},
        "conflicts": indices(survey.conflicts),
        "leakage": leaks,
        "findings": [asdict(finding) for finding in findings(survey, classes, len(leaks), sets)],
        "split_source": survey.split_source,
        "digest": health.digest(items, survey.labels),
    }


def findings(
    survey: TextSurvey, classes: list[dict[str, Any]], leaks: int, sets: dict[str, Any] | None
) -> list[Finding]:
    """Returns the findings, the gravest first; `sets` are those of items with any number of labels."""
    about_sets = label_set_health.about_sets(sets, classes, len(survey.items), noun=NOUN) if sets else ()
    return health.gravest_first(
        [
            *_about_rows(survey),
            *_about_lengths(survey.items),
            *health.about_classes(classes, noun=NOUN),
            *health.about_duplicates(survey.items, survey.exact, survey.near, noun=NOUN),
            *health.about_label_conflicts(survey.items, survey.exact, noun=NOUN),
            *health.about_leakage(leaks, noun=NOUN),
            *health.about_missing(classes, noun=NOUN),
            *(about_sets if sets else health.about_test_size(classes, noun=NOUN)),
        ]
    )


def _about_rows(survey: TextSurvey) -> Iterator[Finding]:
    if survey.left_out:
        yield Finding(
            "left_out",
            WARNING,
            len(survey.left_out),
            "Some rows were left out: their text is empty or too long",
            "Mend these rows, or remove them.",
        )
    else:
        yield Finding("all_readable", GOOD, len(survey.items), "Every row could be used", "")
    if survey.ignored:
        names = ", ".join(survey.ignored[:5])
        yield Finding(
            "ignored_columns",
            NOTICE,
            len(survey.ignored),
            f"Columns that are not used: {names}",
            "Nothing to do unless the text stands in one of them: then name it text.",
        )


def _about_lengths(items: Sequence[Item]) -> Iterator[Finding]:
    if long := sum(len(item.text.split()) > _LONG_WORDS for item in items):
        yield Finding(
            "long_texts",
            NOTICE,
            long,
            f"Texts of more than {_LONG_WORDS} words",
            "Networks here read about the first 256 word pieces. Put what matters there, or split these texts.",
        )
    if short := sum(len(item.text) <= _SHORT_CHARACTERS for item in items):
        yield Finding(
            "short_texts",
            NOTICE,
            short,
            f"Texts of at most {_SHORT_CHARACTERS} characters",
            "So short a text tells little. Check that these are whole.",
        )


def _lengths(texts: Sequence[str]) -> dict[str, Any]:
    characters = [len(text) for text in texts]
    bins = Counter(int(math.log2(length)) for length in characters)
    return {
        "characters": _spread(characters),
        "words": _spread([len(text.split()) for text in texts]),
        "histogram": [
            {"low": 2**power, "high": 2 ** (power + 1), "texts": bins[power]}
            for power in range(min(bins), max(bins) + 1)
        ],
    }


def _spread(values: Sequence[int]) -> dict[str, float]:
    low, median, high, top = np.percentile(values, [0, 50, 95, 100])
    return {"min": float(low), "median": float(median), "p95": float(high), "max": float(top)}
