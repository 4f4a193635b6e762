"""Geometry of the small drawings that pages make as SVG: curves and diagrams in a unit square, as points of 100 by 100."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through the unit square: `points` as SVG reads them, y growing downwards; `figure` says its one number."""

    title: str
    figure: str
    points: str


@dataclass(frozen=True, slots=True)
class ReliabilityBar:
    """A bin of confidences in [low, high]: the share that was right, and the confidence it should have equaled.
    Positions and sizes in percent of the square."""

    left: float
    width: float
    top: float
    height: float
    expected_top: float
    span: str
    items: int
    confidence: float
    accuracy: float


def curve(title: str, figure: str, xs: Sequence[float], ys: Sequence[float]) -> Curve:
    """Returns the curve through (x, y), both in [0, 1]."""
    return Curve(title, figure, " ".join(f"{100 * x:.1f},{100 - 100 * y:.1f}" for x, y in zip(xs, ys, strict=True)))


def mean(rows: Iterable[Sequence[float]]) -> list[float]:
    """Returns the mean of curves (K, N) over the same N places; empty without any."""
    return [sum(column) / len(column) for column in zip(*rows, strict=True)]


def reliability(bins: Iterable[dict[str, Any]]) -> list[ReliabilityBar]:
    """Returns the bars of an evaluation's reliability diagram, as docs/engine.md has it."""
    return [
        ReliabilityBar(
            left=round(100 * row["low"], 2),
            width=round(100 * (row["high"] - row["low"]), 2),
            top=round(100 - 100 * row["accuracy"], 2),
            height=round(100 * row["accuracy"], 2),
            expected_top=round(100 - 100 * row["confidence"], 2),
            span=f"{row['low']:.0%} to {row['high']:.0%}",
            items=row["items"],
            confidence=row["confidence"],
            accuracy=row["accuracy"],
        )
        for row in bins
    ]
