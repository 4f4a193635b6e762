"""Weak slices are named, and a planted leak is told by how much it flatters."""

from __future__ import annotations

import numpy as np
import pytest

from finetuning.engine.evaluation import classifier, metrics, slices
from finetuning.engine.evaluation.metrics import Predictions

LABELS = ("cat", "dog")


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

    report = slices.report(made, LABELS, parts=["day", "night"] * 30)

    found = {(entry["kind"], entry["name"]): entry for entry in report["listed"]}
    assert set(found) == {("class", "cat"), ("class", "dog"), ("part", "day"), ("part", "night")}
    assert found["class", "dog"]["accuracy"] == pytest.approx(metrics.wilson(12, 20).to_json())
    assert found["part", "day"]["items"] == 30
    assert (report["worst"]["kind"], report["worst"]["name"]) == ("class", "dog")


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
