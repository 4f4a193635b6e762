"""The health report of a segmentation: that of its images, and what the masks say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finetuning.engine import health, palettes
from finetuning.engine.health import GOOD, NOTICE, WARNING, Finding, Survey
from finetuning.engine.spec import Split

_RARE_SHARE = 0.02
_FEW_IMAGES, _ENOUGH_IMAGES = 5, 20
_MUCH_IGNORED = 0.2
THUMBNAILS = {"image": "{index:06d}.jpg", "overlay": "{index:06d}-overlay.jpg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskSurvey:
    """`pixels` (N, C) counts each class in each item, `ignored` (N,) what counts nowhere. `mask_modes` is how
    the masks were given; `unannotated` counts images that are all background."""

    survey: Survey
    pixels: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.int64]
    mask_sha256: Sequence[str]
    mask_modes: dict[str, int]
    unannotated: int


def report(masks: MaskSurvey) -> dict[str, Any]:
    """Returns the report, JSON-ready, as `docs/engine.md` has it."""
    about = health.about_images(masks.survey)
    classes = class_rows(masks)
    total = int(masks.pixels.sum() + masks.ignored.sum())
    return {
        **about,
        "classes": classes,
        "mask_modes": masks.mask_modes,
        "ignored_share": round(int(masks.ignored.sum()) / max(1, total), 6),
        "unannotated": masks.unannotated,
        "palette": palettes.hex_colors(len(masks.survey.labels)),
        "thumbnails": THUMBNAILS,
        "findings": [asdict(finding) for finding in findings(masks, classes, len(about["leakage"]))],
        "digest": _digest(masks),
    }


def class_rows(masks: MaskSurvey) -> list[dict[str, Any]]:
    """Returns for each class its images and its share of the counted pixels, over all and in each split."""
    splits = np.array([item.split.value for item in masks.survey.items])
    shares = {"all": _shares(masks.pixels)}
    shares |= {split.value: _shares(masks.pixels[splits == split.value]) for split in Split}
    occurs = masks.pixels > 0
    return [
        {
            "label": label,
            "images": int(occurs[:, place].sum()),
            **{split.value: int(occurs[splits == split.value, place].sum()) for split in Split},
            "pixels": int(masks.pixels[:, place].sum()),
            "shares": {name: round(float(values[place]), 6) for name, values in shares.items()},
        }
        for place, label in enumerate(masks.survey.labels)
    ]


def _shares(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    totals: npt.NDArray[np.float64] = pixels.sum(0) / max(1, int(pixels.sum()))
    return totals


def findings(masks: MaskSurvey, classes: list[dict[str, Any]], leaks: int) -> list[Finding]:
    """Returns the findings, the gravest first."""
    return health.gravest_first(
        [
            *health.about_files(masks.survey),
            *health.about_duplicates(masks.survey.items, masks.survey.exact, masks.survey.near),
            *health.about_leakage(leaks),
            *health.about_missing(classes),
            *_about_classes(classes),
            *_about_masks(masks),
        ]
    )


def _about_classes(classes: list[dict[str, Any]]) -> Iterator[Finding]:
    if few := [entry for entry in classes if entry["images"] < _ENOUGH_IMAGES]:
        least = min(entry["images"] for entry in few)
        yield Finding(
            "few_images",
            WARNING if least < _FEW_IMAGES else NOTICE,
            len(few),
            f"Classes that occur in fewer than {_ENOUGH_IMAGES} images; the rarest in {least}",
            "Add images that show these classes.",
        )
    rare = [entry for entry in classes if entry["shares"]["all"] < _RARE_SHARE]
    if rare:
        names = ", ".join(entry["label"] for entry in rare[:5])
        yield Finding(
            "rare_classes",
            NOTICE,
            len(rare),
            f"Classes with under {_RARE_SHARE:.0%} of the pixels: {names}{' and more' if len(rare) > 5 else ''}",
            "Training adds the Dice loss by itself; judge the result by the IoU of each class.",
        )
    else:
        yield Finding("balanced", GOOD, len(classes), "No class is rare", "")


def _about_masks(masks: MaskSurvey) -> Iterator[Finding]:
    total = int(masks.pixels.sum() + masks.ignored.sum())
    share = int(masks.ignored.sum()) / max(1, total)
    if share > _MUCH_IGNORED:
        yield Finding(
            "much_ignored",
            WARNING,
            int((masks.ignored > 0).sum()),
            f"{share:.0%} of all pixels are marked 255, so they count nowhere",
            "If 255 is a class of yours, save it under another number.",
        )
    if masks.unannotated:
        yield Finding(
            "unannotated",
            NOTICE,
            masks.unannotated,
            "Images without any annotation count as background",
            "Check that nothing in them should be outlined.",
        )
    digests: dict[str, set[str]] = {}
    for item, mask in zip(masks.survey.items, masks.mask_sha256, strict=True):
        digests.setdefault(item.pixel_sha256, set()).add(mask)
    if conflicts := sum(len(group) > 1 for group in digests.values()):
        yield Finding(
            "label_conflict",
            WARNING,
            conflicts,
            "The same image appears with different masks",
            "Decide which mask is right and remove the other copy.",
        )


def _digest(masks: MaskSurvey) -> str:
    """Returns the identity of the data set: sha256 over the sorted pixels, masks and splits, and the labels."""
    identities = sorted(
        f"{item.pixel_sha256} {item.split.value} {mask}\n"
        for item, mask in zip(masks.survey.items, masks.mask_sha256, strict=True)
    )
    return hashlib.sha256("".join([*masks.survey.labels, *identities]).encode()).hexdigest()
