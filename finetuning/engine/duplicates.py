"""Finds images that show the same picture: equal pixels, or nearly so after saving, resizing or brightening."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Thumbnails = npt.NDArray[np.uint8]

MAX_HASH_BITS = 6
# Root mean square difference of standardised grey 32 x 32 thumbnails. Of 120 crops of photographs saved again
# (JPEG quality 30, half size, 20% more contrast) 97% or more measure less; the closest two of scikit-learn's
# 1,797 handwritten digits measure 0.089 at 8 and at 64 pixels.
MAX_DIFFERENCE = 0.085
MAX_COLOUR_DIFFERENCE = 25.0  # of 255, root mean square over a 4 x 4 grid: tells red from blue
_FLAT = 4.0  # of 255: below this spread an image counts as flat
_BLOCK_ROWS = 256
_PAIRS_AT_ONCE = 2_048
# Bounds the work where very many hashes collide (blank pages): an image is compared with so many others.
_MAX_CANDIDATES = 16


def exact_groups(identities: Sequence[str]) -> list[list[int]]:
    """Returns the positions of equal identities, groups of two or more only."""
    positions: dict[str, list[int]] = defaultdict(list)
    for position, identity in enumerate(identities):
        positions[identity].append(position)
    return [group for group in positions.values() if len(group) > 1]


def near_pairs(hashes: Hashes, thumbnails: Thumbnails) -> list[tuple[int, int]]:
    """Returns pairs of positions i < j that are nearly the same picture.

    `hashes` (N,), `thumbnails` (N, 32, 32, 3). All pairs of hashes are compared in blocks (N = 20,000: 2e8
    comparisons, about a second), so that no bucket can overflow; only close ones are compared by pixels.
    """
    candidates = _close_hashes(hashes)
    keep = [
        _is_same(thumbnails, candidates[start : start + _PAIRS_AT_ONCE])
        for start in range(0, len(candidates), _PAIRS_AT_ONCE)
    ]
    confirmed = candidates[np.concatenate(keep)] if keep else candidates
    return [(int(low), int(high)) for low, high in confirmed]


def _close_hashes(hashes: Hashes) -> npt.NDArray[np.int64]:
    """Returns (M, 2) pairs i < j within MAX_HASH_BITS, at most _MAX_CANDIDATES for each i."""
    found: list[npt.NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    for start in range(0, len(hashes), _BLOCK_ROWS):
        rows = hashes[start : start + _BLOCK_ROWS, None]
        close = np.triu(np.bitwise_count(rows ^ hashes[None, start:]) <= MAX_HASH_BITS, 1)
        if close.sum() > _MAX_CANDIDATES:
            close &= np.cumsum(close, axis=1, dtype=np.int32) <= _MAX_CANDIDATES
        row, column = np.nonzero(close)
        found.append(np.stack([row + start, column + start], axis=1))
    return np.concatenate(found)


def _is_same(thumbnails: Thumbnails, pairs: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Returns (M,) whether each pair has the same structure in grey and about the same colours."""
    one, other = (thumbnails[pairs[:, side]].astype(np.float32) for side in (0, 1))
    structure = _standardised(one) - _standardised(other)
    colours = _pooled(one) - _pooled(other)
    same: npt.NDArray[np.bool_] = _root_mean_square(structure) <= MAX_DIFFERENCE
    return same & (_root_mean_square(colours) <= MAX_COLOUR_DIFFERENCE)


def _standardised(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    grey = pixels.mean(axis=3).reshape(len(pixels), -1)
    spread = np.maximum(grey.std(axis=1, keepdims=True), _FLAT)
    result: npt.NDArray[np.float32] = (grey - grey.mean(axis=1, keepdims=True)) / spread
    return result


def _pooled(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the mean colours of a 4 x 4 grid: (M, 48)."""
    grid: npt.NDArray[np.float32] = pixels.reshape(-1, 4, 8, 4, 8, 3).mean(axis=(2, 4))
    return grid.reshape(len(pixels), -1)


def _root_mean_square(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    result: npt.NDArray[np.float32] = np.sqrt((values**2).mean(axis=1))
    return result


def connected(count: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Returns the groups of two or more that the pairs link, in order of their first member."""
    neighbours: dict[int, set[int]] = defaultdict(set)
    for one, other in pairs:
        neighbours[one].add(other)
        neighbours[other].add(one)
    seen: set[int] = set()
    groups = []
    for start in range(count):
        if start in seen or start not in neighbours:
            continue
        group, queue = {start}, [start]
        while queue:
            new = neighbours[queue.pop()] - group
            group |= new
            queue.extend(new)
        seen |= group
        groups.append(sorted(group))
    return groups
