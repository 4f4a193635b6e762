"""CIFAR-10 and CIFAR-100 as downloaded: the tar.gz of pickles for Python, or of binary records."""

from __future__ import annotations

import gzip
import re
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from finetuning.engine.intake import plain_pickles
from finetuning.engine.intake.arrays import Arrays, Pixels, raise_any
from finetuning.engine.intake.plain_pickles import NotPlain
from finetuning.engine.problems import reject
from finetuning.engine.spec import Split
from finetuning.engine.tables import decode_text

_SIDE, _PIXELS = 32, 3 * 32 * 32
_MAX_MEMBERS = 100  # the downloads have 6 to 9
_MAX_UNPACKED_BYTES = 512 * 2**20  # the downloads have 178 to 187 MB
_CHUNK_BYTES = 2**20
_BATCH = re.compile(r"(data_batch_\d+|test_batch|train|test)(\.bin)?")
_NAMES = re.compile(r"batches\.meta(\.txt)?|meta|(fine|coarse)_label_names\.txt")
_ADVICE = "Upload cifar-10-python.tar.gz, cifar-100-python.tar.gz or a binary version as you downloaded it."
# The labels that are taken, the finest first, and the names that belong to them.
_LABELS = ((b"fine_labels", b"fine_label_names"), (b"labels", b"label_names"))


def read(path: Path, folder: Path) -> Arrays:
    """Returns the images with their classes; `data_batch_*` and `train` are the training split, the others the
    test split. Unpacks to an unlinked file in `folder`. Raises Rejected."""
    with tempfile.TemporaryFile(dir=folder) as unpacked:
        _unpack(path, unpacked)
        try:
            with tarfile.open(fileobj=unpacked, mode="r:") as archive:
                return _read(archive)
        except tarfile.TarError as error:
            raise reject(
                "file_type", f"The file is no tar.gz of CIFAR ({error}). {_ADVICE} MNIST's files go into one zip."
            ) from error


def _unpack(path: Path, target: IO[bytes]) -> None:
    """Raises Rejected: `zip_bomb`, `zip_truncated`, `corrupt_member`."""
    try:
        with gzip.open(path) as source:
            while chunk := source.read(_CHUNK_BYTES):
                target.write(chunk)
                if target.tell() > _MAX_UNPACKED_BYTES:
                    limit = _MAX_UNPACKED_BYTES >> 20
                    raise reject("zip_bomb", f"Unpacked, the file would be over {limit} MiB. {_ADVICE}")
    except EOFError as error:
        raise reject("zip_truncated", "The file ends too early: part of it is missing. Download it again.") from error
    except (OSError, zlib.error) as error:
        raise reject("corrupt_member", "The gzip file is damaged. Download it again.") from error
    target.seek(0)


def _read(archive: tarfile.TarFile) -> Arrays:
    files: dict[str, bytes] = {}
    found = Arrays()
    for count, member in enumerate(archive, start=1):
        if count > _MAX_MEMBERS:
            raise reject("too_many_files", f"The archive holds over {_MAX_MEMBERS} files. {_ADVICE}")
        name = _checked(member)
        if name and (_BATCH.fullmatch(name) or _NAMES.fullmatch(name)):
            if name in files:
                raise reject("duplicate_name", f"The archive holds a file twice. {_ADVICE}", [member.name])
            source = archive.extractfile(member)
            files[name] = source.read() if source else b""
        elif name:
            found.skipped["documents"] = found.skipped.get("documents", 0) + 1
    batches = {name: content for name, content in sorted(files.items()) if _BATCH.fullmatch(name)}
    if not batches:
        raise reject("file_type", f"The tar.gz holds no batches of CIFAR. {_ADVICE} Images go into a zip.")
    for name, content in batches.items():
        split = Split.TEST if name.startswith("test") else Split.TRAIN
        try:
            if name.endswith(".bin"):
                pixels, labels, classes = _binary(content, files, is_fine=name in {"train.bin", "test.bin"})
            else:
                pixels, labels, classes = _pickled(content, files)
            found.add(name, pixels, labels, classes, split)
        except NotPlain as fault:
            found.fault("bad_array", f"{name}: {fault}")
    raise_any(found.faults)
    return found


def _checked(member: tarfile.TarInfo) -> str:
    """Returns the member's bare name, empty for a folder. Raises Rejected: `links_not_allowed`, `unsafe_path`."""
    if member.isdir():
        return ""
    if not member.isreg() or member.issparse():
        raise reject(
            "links_not_allowed", f"The archive holds links, devices or files with holes. {_ADVICE}", [member.name]
        )
    if member.name.startswith("/") or ".." in member.name.split("/") or "\\" in member.name:
        raise reject("unsafe_path", f"Some names point outside of the archive. {_ADVICE}", [member.name])
    return member.name.rpartition("/")[2]


def _pickled(content: bytes, files: dict[str, bytes]) -> tuple[Pixels, list[int], list[str]]:
    document = _dictionary(plain_pickles.load(content))
    key, names_key = next(((key, names) for key, names in _LABELS if key in document), (b"", b""))
    if not key:
        raise NotPlain("it has no labels")
    labels = document[key]
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise NotPlain("its labels are no list of numbers")
    pixels = plain_pickles.array_of(document.get(b"data"))
    if pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise NotPlain(f"its array is {' x '.join(map(str, pixels.shape))}, not N x {_PIXELS}")
    meta = next((files[file] for file in ("batches.meta", "meta") if file in files), None)
    names = _dictionary(plain_pickles.load(meta)).get(names_key) if meta is not None else None
    if meta is not None and not (isinstance(names, list) and all(isinstance(one, bytes | str) for one in names)):
        raise NotPlain("its file of class names (batches.meta or meta) has no list of names")
    return _images(pixels), labels, [_text(one) for one in names or []] or _numbered(labels)


def _binary(content: bytes, files: dict[str, bytes], *, is_fine: bool) -> tuple[Pixels, list[int], list[str]]:
    """Records of one label (CIFAR-10) or coarse and fine label (CIFAR-100), then the pixels."""
    leading = 2 if is_fine else 1
    record = leading + _PIXELS
    if not content or len(content) % record:
        raise NotPlain(f"its {len(content):,} bytes are no whole number of records of {record:,} bytes")
    rows = np.frombuffer(content, np.uint8).reshape(-1, record)
    labels = rows[:, leading - 1].tolist()
    file = "fine_label_names.txt" if is_fine else "batches.meta.txt"
    names = [line.strip() for line in decode_text(files.get(file, b""), file).splitlines() if line.strip()]
    return _images(rows[:, leading:]), labels, names or _numbered(labels)


def _dictionary(document: Any) -> dict[bytes, Any]:
    """Returns the entries by name as Python 2 wrote them; files of Python 3 have the same names as text."""
    if not isinstance(document, dict):
        raise NotPlain("it is no dictionary")
    return {key.encode() if isinstance(key, str) else key: value for key, value in document.items()}


def _images(rows: Pixels) -> Pixels:
    """(N, 3072), channels first -> (N, 32, 32, 3)"""
    return rows.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1)


def _text(name: bytes | str) -> str:
    return (name.decode("utf-8", "replace") if isinstance(name, bytes) else name).strip()


def _numbered(labels: list[int]) -> list[str]:
    return [str(number) for number in range(max(labels, default=0) + 1)]
