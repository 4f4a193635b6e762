"""Finds texts that are the same but for a few characters: MinHash over character shingles (Broder 1997), banded
(Leskovec et al., Mining of Massive Datasets, chapter 3.4), every candidate confirmed by its exact Jaccard index."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

from finetuning.engine import runtime

Hashes = npt.NDArray[np.uint64]

SHINGLE = 5  # characters
MIN_JACCARD = 0.8
# 16 bands of 4: a pair of Jaccard index 0.8 becomes a candidate with probability 1 - (1 - 0.8^4)^16 = 0.9998, one
# of 0.5 with 0.64, which the exact comparison then turns down.
_BANDS, _BAND_ROWS = 16, 4
_HASHES = _BANDS * _BAND_ROWS
_MIN_ESTIMATE = 0.6  # four standard deviations of 64 hashes below 0.8
_MAX_CHARACTERS = 4_000  # of each text: bounds the work; texts that agree so far are the same for our purpose
_CHUNK_SHINGLES = 1_000_000  # 8 MB at a time: stays in the processor's cache better than all at once
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # SplitMix64 (Steele et al. 2014)
_BASE = 1_000_003


def normalized(text: str) -> str:
    """Returns the text as duplicates are compared: NFKC, case folded, runs of spaces as one."""
    return " ".join(normalize("NFKC", text).casefold().split())


def identity(text: str) -> str:
    """Returns the sha256 of the normalized text, 64 hex digits."""
    return hashlib.sha256(normalized(text).encode()).hexdigest()


def near_pairs(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Returns pairs of positions that link all texts whose shingles' Jaccard index is 0.8 or more; pairs that
    others link already are left out. `texts` are normalized and differ."""
    if len(texts) < 2:
        return []
    signatures = np.concatenate([signature for _, signature in _signatures(texts)])
    parent = np.arange(len(texts))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = int(parent[item])
        return item

    pairs: list[tuple[int, int]] = []
    shingles: dict[int, Hashes] = {}
    for low, high in _candidates(signatures):
        if root(low) == root(high):
            continue
        one, other = (shingles.setdefault(at, np.unique(_shingles([texts[at]])[0])) for at in (low, high))
        if jaccard(one, other) >= MIN_JACCARD:
            pairs.append((low, high))
            parent[root(high)] = root(low)
    return pairs


def jaccard(one: Hashes, other: Hashes) -> float:
    """Returns |A and B| / |A or B| of two sorted sets."""
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / (len(one) + len(other) - shared)


def _candidates(signatures: Hashes) -> Iterator[tuple[int, int]]:
    """Yields pairs that share a band and whose signatures agree well enough. In a bucket each text is compared
    with the first and with the one before it, so that a thousand copies of a form letter cost a thousand
    comparisons, not a million."""
    for band in range(_BANDS):
        runtime.check_stop()
        columns = signatures[:, band * _BAND_ROWS : (band + 1) * _BAND_ROWS]
        keys = columns[:, 0].copy()
        for column in columns.T[1:]:
            keys = _mixed(keys * np.uint64(_BASE) + column)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        firsts = order[np.repeat(starts, np.diff(np.append(starts, len(order))))]
        pairs = np.concatenate(
            [
                np.stack([firsts, order], axis=1)[firsts != order],
                np.stack([order[:-1], order[1:]], axis=1)[ordered[1:] == ordered[:-1]],
            ]
        )
        if len(pairs):
            agreement = (signatures[pairs[:, 0]] == signatures[pairs[:, 1]]).mean(axis=1)
            for low, high in np.unique(pairs[agreement >= _MIN_ESTIMATE], axis=0):
                yield int(low), int(high)


def _signatures(texts: Sequence[str]) -> Iterator[tuple[int, Hashes]]:
    """Yields (first position, signatures (n, 64)) for runs of texts: the smallest of each hash over a text's
    shingles."""
    seeds = np.random.default_rng(0).integers(1, 2**63, size=_HASHES, dtype=np.uint64)
    start = 0
    while start < len(texts):
        runtime.check_stop()
        end, size = start, 0
        while end < len(texts) and (end == start or size < _CHUNK_SHINGLES):
            size += min(len(texts[end]), _MAX_CHARACTERS)
            end += 1
        hashes, offsets = _shingles(texts[start:end])
        signature = np.empty((end - start, _HASHES), np.uint64)
        for number, seed in enumerate(seeds):
            # Odd multipliers permute the numbers below 2^64; the high bits then depend on all of them.
            signature[:, number] = np.minimum.reduceat((hashes ^ seed) * (seed | np.uint64(1)), offsets)
        yield start, signature
        start = end


def _shingles(texts: Sequence[str]) -> tuple[Hashes, npt.NDArray[np.int64]]:
    """Returns the hashes of all texts' shingles one after the other, and where each text's begin. A text
    shorter than a shingle is one shingle."""
    padded = [text[:_MAX_CHARACTERS].ljust(SHINGLE, "\0") for text in texts]
    points = np.frombuffer("".join(padded).encode("utf-32-le"), np.uint32).astype(np.uint64)
    count = len(points) - SHINGLE + 1
    rolled = np.zeros(count, np.uint64)
    for at in range(SHINGLE):
        rolled = rolled * np.uint64(_BASE) + points[at : at + count]
    lengths = np.array([len(text) for text in padded])
    counts = lengths - SHINGLE + 1
    # Windows that reach over the end of a text belong to none.
    inside = np.ones(count, np.bool_)
    ends = np.cumsum(lengths)[:-1]
    for back in range(1, SHINGLE):
        inside[ends - back] = False
    return _mixed(rolled[inside]), np.concatenate([[0], np.cumsum(counts)[:-1]])


def _mixed(values: Hashes) -> Hashes:
    """Returns SplitMix64's finalizer of each value: a permutation in which every bit moves half of the others."""
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))
