"""Metrics and intervals against scikit-learn, statsmodels and torchmetrics; groups against what they are worth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from archives_factory import class_folders, encoded, inspected, items_of, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint
from torchmetrics.functional.classification import multiclass_calibration_error

from finetuning.engine.evaluation import calibration, comparison, intervals, metrics, ranking
from finetuning.engine.evaluation.metrics import Predictions


def drawn(items: int = 400, classes: int = 4, *, seed: int = 0, signal: float = 1.5) -> Predictions:
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, size=items, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2))
    logits = rng.normal(size=(items, classes))
    logits[np.arange(items), truth] += signal
    return Predictions(truth=truth, logits=logits, indices=np.arange(1, items + 1))


def repeated(predictions: Predictions, copies: int) -> Predictions:
    return Predictions(
        truth=np.repeat(predictions.truth, copies),
        logits=np.repeat(predictions.logits, copies, axis=0),
        indices=np.arange(copies * len(predictions.truth)),
        groups=np.repeat(np.arange(len(predictions.truth)), copies),
    )


@pytest.mark.parametrize(("right", "total"), [(0, 7), (7, 7), (1, 30), (45, 50), (987, 1000)])
def test_wilson_is_that_of_statsmodels(right: int, total: int) -> None:
    estimate = metrics.wilson(right, total)

    low, high = proportion_confint(right, total, method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-12)


@pytest.mark.parametrize(("better", "worse"), [(6, 0), (10, 2), (30, 15), (60, 40), (5, 5), (0, 1)])
def test_mcnemar_is_that_of_statsmodels(better: int, worse: int) -> None:
    expected = mcnemar([[3, better], [worse, 4]], exact=True).pvalue

    assert comparison.mcnemar(better, worse) == pytest.approx(min(1.0, expected), rel=1e-9)


@pytest.mark.parametrize("classes", [2, 4, 11])
def test_scores_are_those_of_scikit_learn(classes: int) -> None:
    predictions = drawn(classes=classes)
    truth, guessed = predictions.truth, predictions.predicted

    measured = {name: entry["value"] for name, entry in metrics.measure(predictions, seed=0).items()}

    one_vs_rest = {"multi_class": "ovr", "average": "macro"} if classes > 2 else {}
    shares = predictions.shares if classes > 2 else predictions.shares[:, 1]
    expected = {
        "accuracy": sklearn.accuracy_score(truth, guessed),
        "macro_f1": sklearn.f1_score(truth, guessed, average="macro"),
        "balanced_accuracy": sklearn.balanced_accuracy_score(truth, guessed),
        "matthews_correlation": sklearn.matthews_corrcoef(truth, guessed),
        "negative_log_likelihood": sklearn.log_loss(truth, predictions.shares),
        "auroc": sklearn.roc_auc_score(truth, shares, **one_vs_rest),
        "brier": np.square(predictions.shares - np.eye(classes)[truth]).sum(axis=1).mean(),
    }
    assert {name: measured[name] for name in expected} == pytest.approx(expected, rel=1e-9)
    assert ("top5_accuracy" in measured) == (classes >= 10)


def test_auroc_counts_ties_as_one_half() -> None:
    rng = np.random.default_rng(3)
    truth, scores = rng.integers(0, 2, 60), rng.integers(0, 4, 60).astype(float)

    found = ranking.auroc(truth, np.stack([-scores, scores], axis=1), np.arange(60), count=60)

    assert found is not None
    assert found.value == pytest.approx(sklearn.roc_auc_score(truth, scores), rel=1e-12)


def test_the_interval_of_auroc_has_the_width_of_a_bootstrap() -> None:
    predictions = drawn(300, 2, seed=5, signal=1.0)
    rng = np.random.default_rng(0)
    resampled = []
    for _ in range(600):
        at = rng.integers(0, 300, 300)
        resampled.append(sklearn.roc_auc_score(predictions.truth[at], predictions.shares[at, 1]))
    low, high = np.percentile(resampled, [2.5, 97.5])

    found = ranking.auroc(predictions.truth, predictions.shares, np.arange(300), count=300)

    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)


def test_the_calibration_error_is_that_of_torchmetrics() -> None:
    predictions = drawn(1000, 5, signal=0.5)

    expected = multiclass_calibration_error(
        torch.tensor(predictions.shares), torch.tensor(predictions.truth), num_classes=5, n_bins=15, norm="l1"
    )

    measured = metrics.measure(predictions, seed=0)["expected_calibration_error"]
    assert measured["value"] == pytest.approx(float(expected), abs=1e-6)
    assert measured["low"] <= measured["value"] <= measured["high"]


def test_bins_of_equal_mass_hold_equally_many_items() -> None:
    confidences, right = np.linspace(0.3, 1.0, 150), np.ones(150, bool)

    bins = calibration.equal_mass(confidences, right)

    assert np.bincount(bins.number).tolist() == [10] * 15
    assert float(calibration.expected_error(bins.gaps.sum(axis=0), 150)) == pytest.approx(0.35, abs=1e-9)


def test_copies_of_test_items_make_no_interval_narrower() -> None:
    alone = metrics.measure(drawn(120), seed=0)

    copied = metrics.measure(repeated(drawn(120), 5), seed=0)

    for name, entry in alone.items():
        width, wide = entry["high"] - entry["low"], copied[name]["high"] - copied[name]["low"]
        assert copied[name]["value"] == pytest.approx(entry["value"]), name
        assert wide == pytest.approx(width, rel=0.02), name


def test_effective_count_is_kishs() -> None:
    assert intervals.effective_count(np.arange(50)) == 50
    assert intervals.effective_count(np.repeat(np.arange(10), 4)) == pytest.approx(10)
    # One group of 6 and four alone: 10^2 / (36 + 4).
    assert intervals.effective_count(np.array([0] * 6 + [1, 2, 3, 4])) == pytest.approx(2.5)


def test_copies_of_a_test_item_do_not_prove_a_gain() -> None:
    tuned, baseline = np.ones(12, bool), np.array([False] * 8 + [True] * 4)

    alone = comparison.compare(tuned, baseline, seed=0)
    copies = comparison.compare(tuned, baseline, seed=0, groups=np.array([0] * 8 + [1, 2, 3, 4]))

    assert (alone.better, alone.p_value < 0.05) == (8, True)
    assert (copies.better, copies.worse, copies.p_value) == (1, 0, 1.0)
    assert copies.difference.value == alone.difference.value


@pytest.mark.parametrize("items", [1, 5, 40])
def test_a_perfect_score_is_not_certain(items: int) -> None:
    truth = np.arange(items) % 2
    perfect = Predictions(truth=truth, logits=20.0 * np.eye(2)[truth], indices=np.arange(items))

    measured = metrics.measure(perfect, seed=0)

    assert all(entry["high"] > entry["low"] for entry in measured.values())
    assert all(entry["low"] <= entry["value"] <= entry["high"] for entry in measured.values())
    # Clopper and Pearson's end for no miss in n.
    expected = proportion_confint(items, items, method="beta")[0]
    assert measured["balanced_accuracy"]["low"] == pytest.approx(expected, abs=0.02)
    difference = comparison.compare(truth >= 0, truth >= 0, seed=0).difference
    assert difference.low == -difference.high < 0


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 1000))
def test_no_interval_is_without_width_or_without_its_value(items: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    predictions = Predictions(
        truth=rng.integers(0, classes, items),
        logits=rng.normal(size=(items, classes)).round(1),
        indices=np.arange(items),
        groups=np.unique(rng.integers(0, items, items), return_inverse=True)[1],
    )

    for name, entry in metrics.measure(predictions, seed=0).items():
        assert entry["low"] <= entry["value"] + 1e-12, name
        assert entry["value"] <= entry["high"] + 1e-12, name
        assert entry["high"] - entry["low"] > 1e-9, name


def test_items_carry_the_group_of_their_duplicates(tmp_path: Path) -> None:
    files = {**class_folders(images=6), "cats/copy.png": encoded(picture(0)), "cats/again.png": encoded(picture(0))}

    inspected(tmp_path, files)

    items = {item.name: item for item in items_of(tmp_path)}
    twins = {items[name].group for name in ("cats/000.png", "cats/copy.png", "cats/again.png")}
    assert len(twins) == 1
    assert len({item.group for item in items.values()}) == 12
