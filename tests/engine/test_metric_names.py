"""Metrics are called as people write them, wherever their name comes from."""

from __future__ import annotations

import pytest

from finetuning.engine.metric_names import written


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("COCO-val2017-VOC-labels miou", "COCO-val2017-VOC-labels mIoU"),
        ("ImageNet-1K acc@1", "ImageNet-1K Top-1"),
        ("COCO-val2017 box_map", "COCO-val2017 box mAP"),
        ("COCO-val2017 kp_map", "COCO-val2017 keypoint mAP"),
        ("map50", "mAP50"),
        ("mIoU on its held-out test split", "mIoU on its held-out test split"),
        ("Accuracy on its held-out test split", "Accuracy on its held-out test split"),
        ("mean over 14 sentence-embedding tasks", "mean over 14 sentence-embedding tasks"),
        ("accuracy on our road map", "accuracy on our road map"),
        ("", ""),
    ],
)
def test_a_published_figure_names_its_metric_as_people_write_it(stored: str, shown: str) -> None:
    assert written(stored) == shown
