"""95% intervals: for shares of items, for resampled scores, and for what showed no variation at all.

Items of one group (duplicates) are one observation: a share counts with Kish's effective number, and a
bootstrap draws whole groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 2000  # percentile ends of a 95% interval then rest on 50 resamples each
CHUNK_CELLS = 8_000_000  # 64 MB of float64 at a time
_NO_WIDTH = 1e-12


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and the ends of its 95% interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


def quantile() -> float:
    """Returns the standard normal deviate of a two-sided 95% interval, 1.96."""
    return float(ndtri((1 + CONFIDENCE) / 2))


def wilson(right: float, total: float) -> Estimate:
    """Returns the share with Wilson's score interval (Wilson, 1927), which stays in [0, 1] and does not
    collapse at 0 or `total` successes. Numbers of effective observations need not be whole."""
    z = quantile()
    share = right / total
    scale = 1 + z**2 / total
    centre = (share + z**2 / (2 * total)) / scale
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / scale
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def numbered(groups: Sequence[str]) -> Ints:
    """Returns for each item the number of its group, from 0; an empty name is a group of its own."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group or f"\0{at}", len(numbers)) for at, group in enumerate(groups)], np.int64)


def effective_count(groups: Ints) -> float:
    """Returns how many independent items N items in groups of m_g are worth: N^2 / sum(m_g^2), Kish's design
    effect (Survey Sampling, 1965, section 8.2) where the items of a group always agree. With groups of one it
    is N, with groups of m it is N / m; it never exceeds the number of groups."""
    sizes = np.bincount(groups)
    return float(len(groups) ** 2 / np.square(sizes).sum())


def wilson_of(right: npt.NDArray[np.bool_], groups: Ints) -> Estimate:
    """Returns the share of items (N,) that are right, its Wilson interval counting effective items."""
    count = effective_count(groups)
    return wilson(float(right.mean()) * count, count)


def percentile_interval(value: float, resampled: Floats) -> Estimate:
    """Returns the value with the percentile bootstrap interval of its resamples (B,)."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return Estimate(value, float(low), float(high))


def unseen_share(count: float) -> float:
    """Returns the largest share of items of a kind that `count` independent items may well (2.5%) have missed:
    1 - 0.025^(1 / count), the end of Clopper and Pearson's interval (1934) at 0 successes. The one-sided form
    at 5% is the rule of three (Hanley and Lippman-Hand, 1983)."""
    return float(1 - ((1 - CONFIDENCE) / 2) ** (1 / count))


def never_of_zero_width(estimate: Estimate, *, count: float, bounds: tuple[float, float]) -> Estimate:
    """Returns the estimate with its value inside and, where nothing varied, ends of a finite sample.

    Resamples of equal observations are equal: the bootstrap then claims to know exactly. What may have been
    missed is a share s (`unseen_share`) of items at the score's best or worst, so the ends become
    value + s (bound - value)."""
    if estimate.high - estimate.low > _NO_WIDTH:
        low, high = min(estimate.low, estimate.value), max(estimate.high, estimate.value)
        return Estimate(estimate.value, low, high)
    share = unseen_share(count)
    low, high = (estimate.value + share * (bound - estimate.value) for bound in bounds)
    return Estimate(estimate.value, low, high)


def resamples(groups: Ints, *, seed: int, cells: int = 1) -> Iterator[Floats]:
    """Yields how often each group is drawn, (b, G) at a time, 2,000 rows in all. `cells` are the numbers that
    the caller makes of one row: they bound b."""
    rng, total = np.random.default_rng(seed), int(groups.max()) + 1
    step = max(1, min(RESAMPLES, CHUNK_CELLS // max(cells, total)))
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        drawn = rng.integers(0, total, size=(rows, total)) + total * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * total).reshape(rows, total).astype(np.float64)


def sums_by_group(values: Floats, groups: Ints) -> Floats:
    """Returns the sums (G, K) of the rows (N, K) of each group."""
    sums = np.zeros((int(groups.max()) + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return sums
