"""Average precision, matches and mistakes, against COCO's own code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from finetuning.engine import box_drawings
from finetuning.engine.evaluation import average_precision as coco
from finetuning.engine.evaluation import detection_errors, detector, reference
from finetuning.engine.evaluation.average_precision import Found
from finetuning.engine.hyper import Augmentation, Hyper
from finetuning.engine.packs import Item
from finetuning.engine.palettes import color_of
from finetuning.engine.placement import drawn, fitted
from finetuning.engine.spec import Split

LABELS = ("a", "b", "c")
SIDE = 128


def item(index: int, boxes: tuple[tuple[float, ...], ...], **changes: object) -> Item:
    values = {
        "index": index, "file": f"{index}.png", "name": f"{index}.png", "label": -1, "split": Split.TEST,
        "width": SIDE, "height": SIDE, "sha256": "", "pixel_sha256": "", "phash": "", "boxes": boxes,
    }  # fmt: skip
    return Item(**{**values, **changes})  # type: ignore[arg-type]


def random_case(seed: int, images: int = 30, digits: int = 1) -> tuple[list[Item], list[Found]]:
    """Returns truths and answers that are near, doubled, of another class, or nowhere."""
    rng = np.random.default_rng(seed)
    items, found = [], []
    for index in range(1, images + 1):
        corners = rng.uniform(0, 80, (int(rng.integers(0, 5)), 2))
        sizes = rng.uniform(6, 48, corners.shape)
        labels = rng.integers(0, len(LABELS), len(corners))
        truth = np.concatenate([corners, corners + sizes], axis=1).round(2)
        items.append(
            item(index, tuple((float(label), *box) for label, box in zip(labels, truth.tolist(), strict=True)))
        )
        moved = np.concatenate([truth, truth, rng.uniform(0, 60, (3, 4)) + np.array([0, 0, 61, 61])])
        moved = moved + rng.normal(0, 3, moved.shape)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        guesses = np.concatenate([labels, labels, rng.integers(0, len(LABELS), 3)])
        other = rng.random(len(guesses)) < 0.2
        guesses[other] = rng.integers(0, len(LABELS), int(other.sum()))
        scores = rng.random(len(moved)).round(digits)  # with one digit, many ties
        found.append(Found(moved, guesses.astype(np.int64), scores))
    return items, found


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    items, found = random_case(seed)

    expected = reference.stats(items, found, LABELS)
    matches = coco.match([Found.truth(entry.boxes) for entry in items], found, len(LABELS))
    measured = detector._measure(matches, np.ones((1, len(items))))

    assert measured["map"][0] == pytest.approx(expected[0], abs=1e-9)
    assert measured["map50"][0] == pytest.approx(expected[1], abs=1e-9)
    assert measured["map75"][0] == pytest.approx(expected[2], abs=1e-9)
    assert measured["average_recall"][0] == pytest.approx(expected[8], abs=1e-9)


def test_a_resample_weighs_images_as_if_they_were_there_several_times() -> None:
    items, found = random_case(7, digits=9)
    weights = np.random.default_rng(0).integers(0, 4, (1, len(items))).astype(float)
    again = [at for at, times in enumerate(weights[0]) for _ in range(int(times))]

    matches = coco.match([Found.truth(entry.boxes) for entry in items], found, len(LABELS))
    expected = reference.stats([items[at] for at in again], [found[at] for at in again], LABELS)

    assert detector._measure(matches, weights)["map"][0] == pytest.approx(expected[0], abs=1e-6)


def test_a_report_knows_its_interval_and_its_baseline() -> None:
    items, found = random_case(3)
    perfect = [Found.truth(entry.boxes) for entry in items]

    report = detector.report(items, perfect, {"bought_with_probe": found}, labels=LABELS, confidence=0.5, seed=0)
    against_nothing = detector.report(items, perfect, {}, labels=LABELS, confidence=0.5, seed=0)

    assert report["metrics"]["map"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert report["verdict_code"] == "better"
    assert report["baseline"]["map"]["low"] <= report["baseline"]["map"]["value"] <= report["baseline"]["map"]["high"]
    assert report["errors"]["right"] == report["boxes"]
    assert report["worst"] == []
    assert against_nothing["baseline"]["kind"] == "nothing"
    assert "shows differences from" in report["verdict"]


def test_the_same_answers_are_no_measurable_gain() -> None:
    items, found = random_case(3)

    report = detector.report(items, found, {"bought_with_probe": found}, labels=LABELS, confidence=0.5, seed=0)

    assert report["verdict_code"] == "no_measurable_gain"


def test_finding_nothing_at_all_is_measured_too() -> None:
    items, _ = random_case(3)
    nothing = [Found(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0)) for _ in items]

    report = detector.report(items, nothing, {}, labels=LABELS, confidence=0.5, seed=0)

    assert report["metrics"]["map"]["value"] == 0
    assert report["verdict_code"] == "no_measurable_gain"


@pytest.mark.parametrize(
    ("box", "label", "kind"),
    [
        ((10, 10, 50, 50), 0, "right"),
        ((10, 10, 50, 50), 1, "class"),
        ((30, 30, 70, 70), 0, "localisation"),
        ((30, 30, 70, 70), 1, "both"),
        ((90, 90, 120, 120), 0, "background"),
    ],
)
def test_each_mistake_has_its_kind(box: tuple[float, ...], label: int, kind: str) -> None:
    truth = Found.truth([(0, 10, 10, 50, 50)])
    found = Found(np.array([box], float), np.array([label]), np.array([0.9]))

    totals = detection_errors.count([truth], [found], confidence=0.5).totals()

    assert totals[kind] == 1
    assert totals["missed"] == (kind in {"both", "background"})


def test_the_worst_images_name_every_box_that_was_found_with_its_confidence() -> None:
    truth = [(0, 10, 10, 50, 50)]
    found = Found(
        np.array([(90, 90, 120, 120), (10, 10, 50, 50), (0, 0, 9, 9)], float),
        np.array([1, 0, 0]),
        np.array([0.7, 0.9, 0.1]),
    )

    worst = detection_errors.count([Found.truth(truth)], [found], confidence=0.5).worst([item(1, tuple(truth))])

    assert worst[0]["found"] == [
        {"label": 0, "score": 0.9, "box": [10, 10, 50, 50], "kind": "right"},
        {"label": 1, "score": 0.7, "box": [90, 90, 120, 120], "kind": "background"},
    ]


def test_a_drawing_tells_true_from_found_boxes_by_the_kind_of_line() -> None:
    grey = Image.new("RGB", (box_drawings.SIDE,) * 2, (128, 128, 128))
    edges = [100, 100, 300, 300]

    solid = np.asarray(box_drawings.compared(grey, [(0, *edges)], [], LABELS))[250, 100:300]
    dashed = np.asarray(box_drawings.compared(grey, [], [{"label": 0, "score": 0.9, "box": edges}], LABELS))

    color = np.array(color_of(0))
    assert (solid[:2] == color).all()
    along = (dashed[100:300, 100] == color).all(axis=1)
    assert 0.3 < along.mean() < 0.8
    assert dashed.shape[0] > box_drawings.SIDE  # the legend below


def test_a_second_box_on_the_same_object_is_a_duplicate() -> None:
    truth = Found.truth([(0, 10, 10, 50, 50)])
    found = Found(np.array([(10, 10, 50, 50), (12, 10, 50, 50)], float), np.array([0, 0]), np.array([0.9, 0.8]))

    totals = detection_errors.count([truth], [found], confidence=0.5).totals()

    assert (totals["right"], totals["duplicate"], totals["missed"]) == (1, 1, 0)


def test_placed_boxes_come_back_to_where_they_were() -> None:
    wide = item(3, (), width=200, height=80)
    boxes = torch.tensor([[10.0, 20.0, 60.0, 70.0], [100.0, 5.0, 180.0, 40.0]])

    at = fitted(wide.size, 96)
    placed, visible = at.boxes(boxes)

    assert visible.all()
    assert torch.allclose(at.back(placed), boxes, atol=1e-3)


def test_a_mirrored_view_mirrors_its_boxes_and_only_where_that_is_allowed() -> None:
    boxes = torch.tensor([[10.0, 20.0, 60.0, 70.0]])
    views = [drawn(item(index, ()), 96, Hyper(horizontal_flip=True), epoch=1) for index in range(30)]
    flipped = next(view for view in views if view.flip)

    # A box of the mirrored image, placed without mirroring, lies at the same place.
    still = drawn(item(views.index(flipped), ()), 96, Hyper(), epoch=1)

    mirrored = boxes.clone()
    mirrored[:, [0, 2]] = SIDE - boxes[:, [2, 0]]
    assert torch.allclose(flipped.boxes(boxes)[0], still.boxes(mirrored)[0], atol=1e-4)
    assert not any(drawn(item(index, ()), 96, Hyper(), epoch=1).flip for index in range(30))


def test_a_view_depends_on_seed_epoch_and_item_alone() -> None:
    views = {drawn(item(4, ()), 96, Hyper(seed=1), epoch=2) for _ in range(3)}

    assert len(views) == 1
    assert drawn(item(4, ()), 96, Hyper(seed=1), epoch=3) not in views
    assert drawn(item(4, ()), 96, Hyper(augmentation=Augmentation.NONE), epoch=3) == fitted((SIDE, SIDE), 96)
