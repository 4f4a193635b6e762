"""Uploads of images in arrays: tiny files in the exact form of CIFAR's and MNIST's downloads."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Mapping
from typing import Any

import numpy as np

CLASSES = ("airplane", "automobile", "bird")


def pixels(count: int, seed: int, side: int = 32, channels: int = 3) -> np.ndarray:
    """Returns (count, channels, side, side) smooth pictures; the class of image n, n % 3, is its brightest channel."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 140, (count, channels, side // 8, side // 8), dtype=np.uint8)
    images = coarse.repeat(8, 2).repeat(8, 3)
    for at in range(count):
        images[at, at % channels] += 100
    return images


def batch(count: int, seed: int, **changes: Any) -> bytes:
    """A batch as CIFAR's authors pickled it: protocol 2, names as bytes, channels first."""
    document: dict[bytes, Any] = {
        b"batch_label": b"training batch 1 of 5",
        b"labels": [at % 3 for at in range(count)],
        b"data": pixels(count, seed).reshape(count, -1),
        b"filenames": [f"picture_{at}.png".encode() for at in range(count)],
    }
    document |= {key.encode(): value for key, value in changes.items()}
    return pickle.dumps(document, protocol=2)


def meta(names: tuple[str, ...] = CLASSES) -> bytes:
    return pickle.dumps({b"num_cases_per_batch": 10, b"label_names": [name.encode() for name in names]}, protocol=2)


def cifar10(**changes: bytes) -> dict[str, bytes]:
    """The members of a tiny cifar-10-python.tar.gz: two training batches, one test batch."""
    members = {
        "cifar-10-batches-py/batches.meta": meta(),
        "cifar-10-batches-py/data_batch_1": batch(24, 1),
        "cifar-10-batches-py/data_batch_2": batch(24, 2),
        "cifar-10-batches-py/readme.html": b"<html></html>",
        "cifar-10-batches-py/test_batch": batch(12, 3),
    }
    return {**members, **{f"cifar-10-batches-py/{name}": content for name, content in changes.items()}}


def tar_gz(members: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def idx(array: np.ndarray, *, zipped: bool = True, kind: int = 8, shape: tuple[int, ...] | None = None) -> bytes:
    """An IDX file of bytes; `kind` and `shape` may lie."""
    sides = array.shape if shape is None else shape
    content = bytes((0, 0, kind, len(sides))) + struct.pack(f">{len(sides)}I", *sides) + array.tobytes()
    return gzip.compress(content, mtime=0) if zipped else content


def mnist(*, zipped: bool = True, **changes: bytes | None) -> dict[str, bytes]:
    """The four files of MNIST's download, tiny; None takes one away."""
    ending = ".gz" if zipped else ""
    files: dict[str, bytes | None] = {}
    for part, count, seed in (("train", 48, 5), ("t10k", 12, 6)):
        images = pixels(count, seed)[np.arange(count), np.arange(count) % 3]
        files[f"{part}-images-idx3-ubyte{ending}"] = idx(images, zipped=zipped)
        files[f"{part}-labels-idx1-ubyte{ending}"] = idx(np.arange(count, dtype=np.uint8) % 3, zipped=zipped)
    files |= changes
    return {name: content for name, content in files.items() if content is not None}
