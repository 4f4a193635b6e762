"""MNIST and what has its form (Fashion-MNIST, KMNIST): IDX files of images and labels, gzipped or not, in a zip."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np

from finetuning.engine.archives import Archive
from finetuning.engine.intake.arrays import Arrays, Pixels, raise_any
from finetuning.engine.intake.plain_pickles import MAX_BYTES
from finetuning.engine.problems import reject
from finetuning.engine.spec import Split
from finetuning.engine.tables import decode_text
from finetuning.engine.zip_directory import Entry

NAME = re.compile(
    r"(?P<part>.*?)[-_.]?(?P<kind>images|labels)[-_.]idx(?P<dimensions>[13])[-_.]ubyte(\.gz)?", re.IGNORECASE
)
MAGIC = (b"\x00\x00\x08\x01", b"\x00\x00\x08\x03")
_UNSIGNED_BYTE = 0x08
_SPLITS = {"train": Split.TRAIN, "t10k": Split.TEST, "test": Split.TEST, "val": Split.VALIDATION}
_NAME_LIST = "classes.txt"


class _BadFile(Exception):
    pass


def read(archive: Archive) -> Arrays:
    """Returns the images of each pair of files, `train` and `t10k` being the splits. Classes are called by
    `classes.txt`, one name a line, else by their numbers. Raises Rejected."""
    found = Arrays(skipped=dict(archive.contents.skipped))
    parts: dict[str, dict[str, Entry]] = {}
    for entry in archive.contents.arrays:
        match = NAME.fullmatch(entry.parts[-1])
        if match is None:
            continue
        kinds = parts.setdefault("/".join((*entry.parts[:-1], match["part"].lower())), {})
        if match["kind"].lower() in kinds:
            names = [kinds[match["kind"].lower()].name, entry.name]
            raise reject("duplicate_name", "Two files are the same part of the data set. Keep one.", names)
        kinds[match["kind"].lower()] = entry
    arrays: list[tuple[str, Pixels, list[int], Split | None]] = []
    for part, kinds in sorted(parts.items()):
        if lacking := {"images", "labels"} - set(kinds):
            found.fault("missing_file", f"{next(iter(kinds.values())).name} has no file of {lacking.pop()}")
            continue
        try:
            pixels = _array(archive, kinds["images"], 3)
            labels: list[int] = _array(archive, kinds["labels"], 1).tolist()
        except _BadFile as fault:
            found.fault("bad_array", str(fault))
            continue
        arrays.append((kinds["images"].name, pixels, labels, _SPLITS.get(part.rpartition("/")[2])))
    names = _names(archive) or [str(at) for at in range(1 + max((max(row[2], default=0) for row in arrays), default=0))]
    for file, pixels, labels, split in arrays:
        found.add(file, pixels, labels, names, split if len(arrays) > 1 else None)
    raise_any(found.faults)
    return found


def _names(archive: Archive) -> list[str]:
    listed = [entry for entry in archive.contents.documents if entry.parts[-1].casefold() == _NAME_LIST]
    if not listed:
        return []
    text = decode_text(archive.read(listed[0]), listed[0].name)
    return [line.strip() for line in text.splitlines() if line.strip()]


def _array(archive: Archive, entry: Entry, dimensions: int) -> Pixels:
    """Returns the file's array (N, H, W) or (N,). Raises _BadFile."""
    content = archive.read(entry, may_be_gzip=True)
    if content.startswith(b"\x1f\x8b"):
        content = _inflated(content, entry)
    head = 4 + 4 * dimensions
    if len(content) < head or content[:4] != bytes((0, 0, _UNSIGNED_BYTE, dimensions)):
        raise _BadFile(f"{entry.name}: does not begin as an IDX file of bytes in {dimensions} dimensions")
    shape = struct.unpack(f">{dimensions}I", content[4:head])
    size = int(np.prod(shape, dtype=object))
    if size != len(content) - head:
        said = " x ".join(f"{side:,}" for side in shape)
        raise _BadFile(f"{entry.name}: says {said} but holds {len(content) - head:,} bytes")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _inflated(content: bytes, entry: Entry) -> bytes:
    """Returns the unpacked bytes of one gzip file, never more than MAX_BYTES. Raises _BadFile, Rejected (`zip_bomb`)."""
    inflater = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        unpacked = inflater.decompress(content, MAX_BYTES + 1)
    except zlib.error as error:
        raise _BadFile(f"{entry.name}: the gzip file is damaged") from error
    if len(unpacked) > MAX_BYTES:
        limit = MAX_BYTES >> 20
        raise reject("zip_bomb", f"Unpacked, a file would be over {limit} MiB. Upload the original.", [entry.name])
    if not inflater.eof:
        raise _BadFile(f"{entry.name}: the gzip file ends too early")
    return unpacked
