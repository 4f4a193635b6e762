"""One digest for all that an evaluation predicted: where it comes out again, so did every answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from finetuning.engine.evaluation.average_precision import Found

# What a digest tells apart; pixels and shares finer than these are rounding.
BOX_STEPS = 100  # to the pixel
SCORE_STEPS = 10_000  # to a score of 1


def of_answers(answers: Iterable[tuple[int, bytes]]) -> str:
    """Returns the SHA-256 (64 hex digits) over each item's number (int64, little endian) and the digest of its
    answer, in the order of the numbers."""
    found = hashlib.sha256()
    for index, answer in sorted(answers):
        found.update(index.to_bytes(8, "little"))
        found.update(answer)
    return found.hexdigest()


def of_logits(indices: npt.NDArray[np.int64], logits: npt.NDArray[np.float64]) -> str:
    """Returns the SHA-256 (64 hex digits) over every item's number (N,) as int64 and its logits (N, C) as float32, in
    the order of the numbers."""
    order = np.argsort(indices, kind="stable")
    found = hashlib.sha256(indices[order].astype("<i8").tobytes())
    found.update(logits[order].astype("<f4").tobytes())
    return found.hexdigest()


def of_classes(classes: npt.NDArray[np.uint8]) -> bytes:
    """Returns the SHA-256 (32 bytes) of a map of classes (H, W): height and width as int64, then its rows."""
    found = hashlib.sha256(np.array(classes.shape, "<i8").tobytes())
    found.update(np.ascontiguousarray(classes, np.uint8).tobytes())
    return found.digest()


def of_boxes(found: Found) -> bytes:
    """Returns the SHA-256 (32 bytes) of an image's boxes in the order of the answer: each as six int64, label,
    edges in hundredths of a pixel, score in ten-thousandths."""
    edges, scores = np.rint(found.boxes * BOX_STEPS), np.rint(found.scores * SCORE_STEPS)
    table = np.column_stack([found.labels, edges, scores])
    return hashlib.sha256(table.astype("<i8").tobytes()).digest()
