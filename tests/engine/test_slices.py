"""Weak slices are named, and a planted leak is told by how much it flatters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from finetuning.engine.evaluation import classifier, detector, metrics, segmenter, slices
from finetuning.engine.evaluation.average_precision import Found
from finetuning.engine.evaluation.metrics import Predictions
from finetuning.engine.evaluation.segmenter import Scored
from finetuning.engine.packs import Item
from finetuning.engine.spec import Split

LABELS = ("cat", "dog")


def item(**changes: Any) -> Item:
    given: dict[str, Any] = {"index": 1, "width": 0, "height": 0, **changes}
    return Item(file="", name="", split=Split.TEST, sha256="", pixel_sha256="", phash="", **given)


def predictions(right: list[bool], truth: list[int], groups: list[int] | None = None) -> Predictions:
    guessed = np.where(right, truth, 1 - np.array(truth))
    return Predictions(
        truth=np.array(truth),
        logits=4.0 * np.eye(2)[guessed],
        indices=np.arange(101, 101 + len(truth)),
        groups=np.array([] if groups is None else groups, np.int64),
    )


def test_each_class_and_part_has_its_wilson_interval_and_the_worst_is_named() -> None:
    right = [True] * 38 + [False] * 2 + [True] * 12 + [False] * 8
    made = predictions(right, [0] * 40 + [1] * 20)

    report = slices.report(made, LABELS, parts=slices.Parts(("day", "night"), (0, 1) * 30))

    found = {(entry["kind"], entry["name"]): entry for entry in report["listed"]}
    assert set(found) == {("class", "cat"), ("class", "dog"), ("part", "day"), ("part", "night")}
    assert found["class", "dog"]["accuracy"] == pytest.approx(metrics.wilson(12, 20).to_json())
    assert found["part", "day"]["items"] == 30
    assert (report["worst"]["kind"], report["worst"]["name"]) == ("class", "dog")


def test_short_and_long_texts_and_small_and_large_images_are_parts_where_they_differ() -> None:
    texts = [item(text="x" * length) for length in (10, 20, 30, 100, 200, 300, 1000, 2000, 3000)]
    images = [item(width=side, height=2 * side) for side in (32, 32, 32, 64, 64, 64, 500, 500, 500)]

    assert slices.parts_of(texts).names == ("up to 30 characters", "31 to 300 characters", "over 300 characters")
    assert slices.parts_of(texts).places == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert slices.parts_of(images).names[0] == "shorter side up to 32 pixels"
    assert slices.parts_of(images).places == (0, 0, 0, 1, 1, 1, 2, 2, 2)
    assert slices.parts_of(images[:3]) == slices.WHOLE
    shrunk, kept = item(width=1024, height=1365), item(width=1500, height=2000)
    assert slices.parts_of([shrunk, kept, kept]) == slices.WHOLE


def test_a_leak_among_scenes_is_told_by_how_much_it_flatters() -> None:
    box = (0.0, 10.0, 10.0, 50.0, 50.0)
    items = [item(index=number, width=100, height=100, boxes=(box,)) for number in range(1, 5)]
    right, nothing = Found.truth((box,)), Found.truth(())
    found = [right, right, nothing, right]

    told = detector.report(items, found, {}, labels=("cat",), confidence=0.5, seed=0, leaked=(1, 2))["without_leaked"]

    assert (told["metric"], told["items"], told["remaining"]) == ("map", 2, 2)
    assert told["all"]["value"] == pytest.approx(0.75, abs=0.01)
    assert told["rest"]["value"] == pytest.approx(0.5, abs=0.01)
    assert told["inflation"] == pytest.approx(told["all"]["value"] - told["rest"]["value"])
    assert detector.report(items, found, {}, labels=("cat",), confidence=0.5, seed=0)["without_leaked"] is None
    empty = [*items[:2], item(index=3, width=100, height=100)]
    told = detector.report(empty, found[:3], {}, labels=("cat",), confidence=0.5, seed=0, leaked=(1, 2))[
        "without_leaked"
    ]
    assert (told["remaining"], told["rest"], told["inflation"]) == (1, None, None)


def test_a_leak_among_masks_is_told_by_how_much_it_flatters() -> None:
    right, wrong = np.array([[50, 0], [0, 50]]), np.array([[25, 25], [25, 25]])
    scored = Scored([1, 2, 3], ["a", "b", "c"], [right, wrong, wrong])

    report = segmenter.report(scored, {"majority": scored}, labels=LABELS, seed=0, leaked=(1,))
    everyone = segmenter.report(scored, {"majority": scored}, labels=LABELS, seed=0, leaked=(1, 2, 3))

    told = report["without_leaked"]
    assert (told["metric"], told["items"], told["remaining"]) == ("miou", 1, 2)
    assert told["all"] == report["metrics"]["miou"]
    assert told["rest"]["value"] == pytest.approx(1 / 3)
    assert told["inflation"] == pytest.approx(0.5 - 1 / 3)
    assert everyone["without_leaked"]["rest"] is None


def test_a_slice_of_few_or_of_copied_items_is_never_the_worst() -> None:
    made = predictions([True] * 20 + [False] * 15, [0] * 20 + [1] * 15, [*range(20), *[20] * 15])

    report = slices.report(made, LABELS)

    assert report["listed"][1]["effective_items"] == 1.0
    assert report["worst"]["name"] == "cat"


def test_a_planted_leak_raises_the_score_and_the_report_says_by_how_much() -> None:
    # 40 honest items, half of them right, and 10 that the training had seen, all of them right.
    made = predictions(([True, False] * 20) + [True] * 10, [0, 0, 1, 1] * 10 + [0, 1] * 5)
    leaked = tuple(range(141, 151))

    report = classifier.report(made, None, 0, labels=LABELS, seed=0, leaked=leaked)["without_leaked"]

    assert (report["items"], report["remaining"]) == (10, 40)
    assert report["all"]["value"] == pytest.approx(0.6)
    assert report["rest"] == pytest.approx(metrics.wilson(20, 40).to_json())
    assert report["inflation"] == pytest.approx(0.1)
    assert slices.without(made, (1, 2)) is None
    everything = slices.without(made, tuple(made.indices.tolist()))
    assert everything is not None
    assert everything["rest"] is None
