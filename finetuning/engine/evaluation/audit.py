"""Labels that are probably wrong, for a person to look at: confident learning (Northcutt, Jiang and Chuang 2021,
arXiv 1911.00068) on probabilities of heads that had not seen the item."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, softmax

from finetuning.engine.evaluation.intervals import Floats, Ints
from finetuning.engine.evaluation.label_sets import set_in_words

MAX_LISTED = 200


def thresholds(shares: Floats, labels: Ints) -> Floats:
    """Returns for each class the mean probability of it among the items given it (C,); 1 for a class without."""
    classes = shares.shape[1]
    own = shares[np.arange(len(labels)), labels]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=own, minlength=classes)
    means: Floats = np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)
    return means


def suspects(shares: Floats, labels: Ints) -> tuple[Ints, Ints, Floats]:
    """Returns (positions, suggested classes, margins) of the items that are confidently of another class: its
    probability reaches that class's threshold (Northcutt et al., equation 1) and is the largest of those that do.
    The margin, suggested minus given probability, ranks them, the surest first."""
    rows = np.arange(len(labels))
    confident = np.where(shares >= thresholds(shares, labels), shares, -1.0)
    suggested = confident.argmax(axis=1)
    margins = shares[rows, suggested] - shares[rows, labels]
    wrong = np.flatnonzero((confident.max(axis=1) >= 0) & (suggested != labels) & (margins > 0))
    order = wrong[np.argsort(-margins[wrong], kind="stable")]
    return order, suggested[order], margins[order]


def report_of_sets(logits: Floats, truth: Ints, *, indices: Ints, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns the part `label_audit` for items of any number of labels, truth (N, C) of 0 and 1: each label is a
    question of its own, shown or not. An item is listed once, with all its labels, and ranked by its surest doubt."""
    shares = expit(logits)
    margins = np.zeros_like(shares)
    for at in range(truth.shape[1]):
        doubted, _, by = suspects(np.stack([1 - shares[:, at], shares[:, at]], axis=1), truth[:, at])
        margins[doubted, at] = by
    surest = margins.max(axis=1)
    order = np.argsort(-surest, kind="stable")[: int((surest > 0).sum())]
    suggested = np.where(margins > 0, 1 - truth, truth)
    return {
        "items": len(truth),
        "flagged": len(order),
        "listed": [
            {
                "index": int(indices[at]),
                "given": set_in_words(truth[at], names),
                "suggested": set_in_words(suggested[at], names),
                "margin": round(float(surest[at]), 4),
            }
            for at in order[:MAX_LISTED].tolist()
        ],
    }


def report(logits: Floats, labels: Ints, *, indices: Ints, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns the part `label_audit` of the result for out-of-fold logits (N, C); at most 200 items are listed."""
    positions, suggested, margins = suspects(softmax(logits, axis=1), labels)
    return {
        "items": len(labels),
        "flagged": len(positions),
        "listed": [
            {
                "index": int(indices[at]),
                "given": names[labels[at]],
                "suggested": names[other],
                "margin": round(float(margin), 4),
            }
            for at, other, margin in list(zip(positions, suggested, margins, strict=True))[:MAX_LISTED]
        ],
    }
