"""Average precision, F1 and their intervals for label sets, against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional import classification as reference

from finetuning.engine import labelling, losses
from finetuning.engine.evaluation import audit, folds, label_ranking, label_sets
from finetuning.engine.evaluation.label_sets import LabelSets
from finetuning.engine.hyper import Hyper, Loss, SpecError, check_labels

CLASSES = 4


def sets(seed: int, *, items: int = 120, digits: int = 9, skill: float = 1.5) -> LabelSets:
    rng = np.random.default_rng(seed)
    truth = rng.random((items, CLASSES)) < np.array([0.5, 0.3, 0.2, 0.1])
    truth[:CLASSES] |= np.eye(CLASSES, dtype=bool)
    logits = (rng.normal(0, 1, truth.shape) + skill * truth - 1).round(digits)
    limits = np.array([0.5, 0.4, 0.35, 0.3])
    return LabelSets(truth, logits, limits, np.arange(1, items + 1), np.arange(items) // 2)


@pytest.mark.parametrize("digits", [9, 1], ids=["distinct scores", "many ties"])
def test_the_figures_are_those_of_torchmetrics(digits: int) -> None:
    found = sets(0, digits=digits)
    report = label_sets.report(found, {"prior": found.at_prior(np.full(CLASSES, 0.2))}, labels="abcd", seed=0)

    shares, truth = torch.from_numpy(found.shares), torch.from_numpy(found.truth.astype(np.int64))
    answered = torch.from_numpy(found.answered.astype(np.int64))
    expected = {
        f"{average}_average_precision": reference.multilabel_average_precision(shares, truth, CLASSES, average=average)
        for average in ("macro", "micro")
    }
    expected |= {
        f"{average}_f1": reference.multilabel_f1_score(answered, truth, CLASSES, average=average)
        for average in ("macro", "micro")
    }
    expected["subset_accuracy"] = reference.multilabel_exact_match(answered, truth, CLASSES)
    expected["hamming_loss"] = reference.multilabel_hamming_distance(answered, truth, CLASSES)
    assert {name: report["metrics"][name]["value"] for name in expected} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, abs=1e-6
    )
    for entry in report["metrics"].values():
        assert entry["low"] <= entry["value"] <= entry["high"]
        assert entry["low"] < entry["high"]


def test_calibration_counts_every_pair_of_image_and_label() -> None:
    found = sets(0)
    raw = found.divided_by(0.25)  # four times too sure

    report = label_sets.report(raw, {"prior": found}, labels="abcd", seed=0, temperature=4.0)["calibration"]

    truth = torch.from_numpy(found.truth.astype(np.int64).ravel())
    for when, table in (("before", raw.shares), ("after", found.shares)):
        expected = reference.binary_calibration_error(torch.from_numpy(table.ravel()), truth, n_bins=15, norm="l1")
        error = report[when]["expected_calibration_error"]
        assert error["low"] < error["value"] == pytest.approx(float(expected), abs=1e-6)
    assert report["after"]["negative_log_likelihood"]["value"] == pytest.approx(float(found.losses.mean()))
    assert sum(row["items"] for row in report["reliability"]["after"]) == found.truth.size
    assert "brier" not in report["after"]  # of one class each: 0 to 2


def test_slices_are_the_images_of_each_label_and_the_weakest_is_named() -> None:
    found = sets(6, items=400)
    found.logits[found.truth[:, 2], 2] = -9  # c is always overlooked

    parts = label_sets.report(found, {"prior": found}, labels="abcd", seed=0)["slices"]

    right = (found.answered == found.truth).all(axis=1)
    for position, row in enumerate(parts["listed"]):
        inside = found.truth[:, position]
        assert (row["name"], row["items"]) == ("abcd"[position], inside.sum())
        assert row["subset_accuracy"]["value"] == pytest.approx(right[inside].mean())
    assert parts["worst"]["name"] == "c"


def test_leaked_images_are_scored_with_and_without() -> None:
    found = sets(7)
    right = (found.answered == found.truth).all(axis=1)
    leaked = found.indices[right][:10].tolist()

    part = label_sets.report(found, {"prior": found}, labels="abcd", seed=0, leaked=leaked)["without_leaked"]

    assert (part["metric"], part["items"], part["remaining"]) == ("subset_accuracy", 10, len(right) - 10)
    assert part["inflation"] == pytest.approx(right.mean() - (right.sum() - 10) / (len(right) - 10))


def test_a_resample_weighs_items_as_if_they_were_there_several_times() -> None:
    found = sets(1, digits=1)
    times = np.random.default_rng(0).integers(0, 3, len(found.truth))
    again = np.repeat(np.arange(len(times)), times)

    weighed = label_ranking.by_class(found.logits, found.truth, times[None].astype(float))[0]
    repeated = label_ranking.by_class(found.logits[again], found.truth[again], np.ones((1, len(again))))[0]

    assert weighed == pytest.approx(repeated)


def test_a_label_that_no_item_shows_has_no_average_precision_and_does_not_count() -> None:
    found = sets(2)
    found.truth[:, 3] = False

    report = label_sets.report(found, {"prior": found.at_prior(np.full(CLASSES, 0.2))}, labels="abcd", seed=0)

    precisions = [row["average_precision"] for row in report["per_class"]]
    assert precisions[3] is None
    assert report["metrics"]["macro_average_precision"]["value"] == pytest.approx(np.mean(precisions[:3]))


def test_a_better_ranking_is_told_from_the_prior_and_the_same_one_is_no_gain() -> None:
    found = sets(3)

    report = label_sets.report(
        found, {"bought_with_probe": found, "prior": found.at_prior(np.full(CLASSES, 0.2))}, labels="abcd", seed=0
    )

    assert report["verdict_code"] == "no_measurable_gain"
    prior = report["other_baselines"][0]
    assert prior["verdict_code"] == "better"
    # Of equal scores nothing is ranked: average precision is how frequent the label is.
    assert prior["macro_average_precision"]["value"] == pytest.approx(found.truth.mean(axis=0).mean())
    assert "mean average precision" in prior["verdict"]


def test_the_worst_items_are_wrong_ones_with_both_sets_in_words() -> None:
    found = sets(4)

    worst = label_sets.report(found, {"prior": found}, labels="abcd", seed=0)["worst"]

    wrong = {int(index) for index in found.indices[(found.answered != found.truth).any(axis=1)]}
    assert 0 < len(worst) <= 24
    assert {row["index"] for row in worst} <= wrong
    assert all(row["truth"] != row["predicted"] for row in worst)


def test_thresholds_have_the_best_f1_on_the_items_they_are_chosen_on() -> None:
    found = sets(5)
    logits, truth = torch.from_numpy(found.logits), torch.from_numpy(found.truth)

    limits = labelling.thresholds(logits, truth)

    shares = found.shares
    for at, limit in enumerate(limits):
        scores = [
            reference.binary_f1_score(torch.from_numpy(shares[:, at] >= other).long(), truth[:, at].long())
            for other in np.linspace(0.01, 0.99, 99)
        ]
        own = reference.binary_f1_score(torch.from_numpy(shares[:, at] >= limit).long(), truth[:, at].long())
        assert float(own) >= float(max(scores)) - 0.03  # two digits of the probability
    assert labelling.thresholds(logits, torch.zeros_like(truth)) == (0.5,) * CLASSES


def test_binary_cross_entropy_is_the_negative_log_likelihood_of_the_label_set() -> None:
    logits, truth = torch.tensor([[2.0, -1.0], [0.0, 3.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    shares = logits.sigmoid()

    by_hand = -(truth * shares.log() + (1 - truth) * (1 - shares).log()).sum(1).mean()

    assert float(losses.binary(logits, truth)) == pytest.approx(float(by_hand))


def test_rare_labels_weigh_as_much_as_the_items_without_them() -> None:
    weights = losses.positive_weights(torch.tensor([50, 10, 0]), 100)

    assert weights.tolist() == [1.0, 9.0, 99.0]


def test_binary_cross_entropy_of_single_labels_is_one_against_the_rest() -> None:
    logits, labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1, 2])

    loss = losses.classification(Hyper(loss=Loss.BINARY), torch.tensor([2, 2, 2]))(logits, labels)

    assert float(loss) == pytest.approx(float(losses.binary(logits, torch.eye(3)[labels])))


@pytest.mark.parametrize(
    ("loss", "multi_label"),
    [(Loss.CROSS_ENTROPY, True), (Loss.FOCAL, True), (Loss.LOGIT_ADJUSTED, True), (Loss.BINARY_WEIGHTED, False)],
)
def test_a_loss_that_does_not_suit_the_labels_is_refused_in_a_sentence(loss: Loss, *, multi_label: bool) -> None:
    with pytest.raises(SpecError) as refused:
        check_labels(loss, multi_label=multi_label)

    assert refused.value.field == "loss"
    assert "Choose" in str(refused.value)


def test_the_audit_finds_labels_that_were_forgotten_and_labels_that_were_made_up() -> None:
    found = sets(8, items=300)
    logits = np.where(found.truth, 4.0, -4.0) + np.random.default_rng(0).normal(0, 0.5, found.truth.shape)
    given = found.truth.astype(np.int64)
    forgotten, made_up = np.flatnonzero(found.truth.sum(axis=1) == 2)[[5, 9]].tolist()
    given[forgotten], given[made_up] = 0, 1  # of every label
    logits[[forgotten, made_up]] *= 2  # surer than the mean of a label's images, which is what reaches to doubt

    report = audit.report_of_sets(logits, given, indices=found.indices, names=tuple("abcd"))

    listed = {row["index"]: row for row in report["listed"]}
    assert report["flagged"] == len(listed) == 2
    for place in (forgotten, made_up):
        row = listed[place + 1]
        assert row["given"] == label_sets.set_in_words(given[place], "abcd")
        assert row["suggested"] == label_sets.set_in_words(found.truth[place], "abcd")
    assert [row["margin"] for row in report["listed"]] == sorted(
        (row["margin"] for row in report["listed"]), reverse=True
    )


def test_folds_of_label_sets_divide_no_group_and_spread_every_label() -> None:
    found = sets(9, items=200)

    fold = folds.stratified(found.truth.astype(np.int64), found.groups, count=5, seed=0)

    assert all(len(set(fold[found.groups == number])) == 1 for number in range(100))
    shown = np.stack([found.truth[fold == number].sum(axis=0) for number in range(5)])
    assert (shown.max(axis=0) - shown.min(axis=0) <= 4).all()
    assert (np.bincount(fold) > 0).all()
