"""Finds images that show the same picture: equal pixels, or nearly so after saving, resizing or brightening."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from finetuning.engine import workers
from finetuning.engine.images import Bytes, Hashes

Pairs = npt.NDArray[np.int64]

MAX_HASH_BITS = 6
# Root mean square difference of standardised grey 32 x 32 thumbnails. Of 120 crops of photographs saved again
# (JPEG quality 30, half size, 20% more contrast) 97% or more measure less; the closest two of scikit-learn's
# 1,797 handwritten digits measure 0.089 at 8 and at 64 pixels.
MAX_DIFFERENCE = 0.085
MAX_COLOUR_DIFFERENCE = 25.0  # of 255, root mean square over a 4 x 4 grid: tells red from blue
_FLAT = 4.0  # of 255: below this spread an image counts as flat
_BLOCK_ROWS, _BLOCK_PAIRS = 64, 2**20  # compared at once in each thread: 8 MB
_PAIRS_AT_ONCE = 2_048
# Bounds the work where very many hashes collide (blank pages): an image is compared with so many others.
_MAX_CANDIDATES = 16


def exact_groups(identities: Sequence[str]) -> list[list[int]]:
    """Returns the positions of equal identities, groups of two or more only."""
    positions: dict[str, list[int]] = defaultdict(list)
    for position, identity in enumerate(identities):
        positions[identity].append(position)
    return [group for group in positions.values() if len(group) > 1]


def near_pairs(hashes: Hashes, thumbnails: Bytes) -> list[tuple[int, int]]:
    """Returns pairs of positions i < j that are nearly the same picture.

    `hashes` (N,), `thumbnails` (N, 32, 32, 3). All pairs of hashes are compared in blocks (N = 20,000: 2e8
    comparisons, about a second), so that no bucket can overflow; only close ones are compared by pixels.
    """
    rows = min(_BLOCK_ROWS, max(1, _BLOCK_PAIRS // max(1, len(hashes))))
    blocks = [slice(start, start + rows) for start in range(0, len(hashes), rows)]
    close = [found for _, found in workers.in_threads(lambda block: _close_hashes(hashes, block), blocks)]
    candidates = np.concatenate(close) if close else np.empty((0, 2), np.int64)
    some = [candidates[start : start + _PAIRS_AT_ONCE] for start in range(0, len(candidates), _PAIRS_AT_ONCE)]
    same = workers.in_threads(lambda pairs: _is_same(thumbnails, pairs), some)
    return [(int(low), int(high)) for pairs, keep in same for low, high in pairs[keep]]


def _close_hashes(hashes: Hashes, block: slice) -> Pairs:
    """Returns (M, 2) pairs i < j within MAX_HASH_BITS, i of the block, at most _MAX_CANDIDATES for each i."""
    rows, start = hashes[block, None], block.start
    close = np.bitwise_count(rows ^ hashes[None, start:]) <= MAX_HASH_BITS
    close[:, : len(rows)] = np.triu(close[:, : len(rows)], 1)
    if np.count_nonzero(close) > _MAX_CANDIDATES * len(rows):  # many blank pages: their pairs would fill the memory
        close &= np.cumsum(close, axis=1, dtype=np.int32) <= _MAX_CANDIDATES
    row, column = np.nonzero(close)
    before = np.arange(len(row)) - np.searchsorted(row, row)  # of the pairs with the same i
    pairs: Pairs = np.stack([row, column], axis=1)[before < _MAX_CANDIDATES] + start
    return pairs


def _is_same(thumbnails: Bytes, pairs: Pairs) -> npt.NDArray[np.bool_]:
    """Returns (M,) whether each pair has the same structure in grey and about the same colours."""
    positions, places = np.unique(pairs, return_inverse=True)
    one, other = places.reshape(pairs.shape).T
    pixels = thumbnails[positions]
    structure, colours = _standardised(pixels), _pooled(pixels)
    same: npt.NDArray[np.bool_] = _difference(structure, one, other) <= MAX_DIFFERENCE
    return same & (_difference(colours, one, other) <= MAX_COLOUR_DIFFERENCE)


def _standardised(pixels: Bytes) -> npt.NDArray[np.float32]:
    # A mean over the last axis is slow, and so is each new array of this size.
    total = pixels[..., 0].astype(np.uint16) + pixels[..., 1] + pixels[..., 2]
    grey = total.reshape(len(pixels), -1).astype(np.float32)
    grey /= 3
    spread = np.maximum(grey.std(axis=1, keepdims=True), _FLAT)
    grey -= grey.mean(axis=1, keepdims=True)
    grey /= spread
    return grey


def _pooled(pixels: Bytes) -> npt.NDArray[np.float32]:
    """Returns the mean colours of a 4 x 4 grid: (M, 48)."""
    rows = pixels.reshape(-1, 4, 8, 32 * 3).sum(axis=2, dtype=np.float32)
    grid: npt.NDArray[np.float32] = rows.reshape(-1, 4, 4, 8, 3).sum(axis=3) / 64
    return grid.reshape(len(pixels), -1)


def _difference(
    values: npt.NDArray[np.float32], one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """Returns the root mean square difference of the rows `one` and `other`."""
    apart = values[one] - values[other]
    result: npt.NDArray[np.float32] = np.sqrt(np.einsum("ij,ij->i", apart, apart) / apart.shape[1])
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
