"""What people call each metric: the one home of these names, for pages, cards and forms. Standard library only."""

from __future__ import annotations

import re

# By the keys of an evaluation's `metrics`, and below by those of published figures.
TITLES = {
    "accuracy": "Accuracy",
    "top5_accuracy": "Top-5 accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "matthews_correlation": "Matthews correlation",
    "auroc": "AUROC",
    "negative_log_likelihood": "Negative log-likelihood",
    "brier": "Brier score",
    "expected_calibration_error": "Calibration error",
    "expected_calibration_error_equal_mass": "Calibration error, equal bins",
    "macro_average_precision": "mAP over labels",
    "micro_average_precision": "Average precision, all labels together",
    "micro_f1": "Micro F1",
    "subset_accuracy": "Whole sets right",
    "hamming_loss": "Hamming loss",
    "map": "mAP",
    "map50": "mAP50",
    "map75": "mAP75",
    "average_recall": "Average recall",
    "miou": "mIoU",
    "mean_dice": "Mean Dice",
    "pixel_accuracy": "Pixel accuracy",
}
# As torchvision's metadata and vendors write them.
_PUBLISHED = {
    "acc@1": "Top-1",
    "acc@5": "Top-5",
    "top-1": "Top-1",
    "top-5": "Top-5",
    "top1": "Top-1",
    "top5": "Top-5",
    "box_map": "box mAP",
    "kp_map": "keypoint mAP",
    "mask_map": "mask mAP",
    "pixel_acc": "pixel accuracy",
    "mean_iou": "mIoU",
}
# Inside a sentence a plain word, such as accuracy or map, stays as its writer has it.
_PLAIN = frozenset({"accuracy", "map", "brier"})
_IN_WORDS = {**{key: title for key, title in TITLES.items() if key not in _PLAIN}, **_PUBLISHED}
_NAME = re.compile(r"[\w@][\w@-]*")


def title_of(name: str) -> str:
    """Returns what people call the metric: known names by TITLES, others with their first letter raised."""
    return TITLES.get(name) or name.replace("_", " ").capitalize()


def written(words: str) -> str:
    """Returns a published figure's description with the metrics in it as people write them:
    "COCO-val2017-VOC-labels miou" -> "COCO-val2017-VOC-labels mIoU"."""
    if words.lower() in TITLES:
        return TITLES[words.lower()]
    return _NAME.sub(lambda found: _IN_WORDS.get(found[0].lower(), found[0]), words)
