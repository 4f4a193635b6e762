"""Builds uploads for tests: good ones, and bad ones byte by byte."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from finetuning.engine import inspect
from finetuning.engine.events import EventWriter
from finetuning.engine.packs import Item
from finetuning.engine.spec import InspectSpec

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
REGULAR_FILE = 0o100644 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member, every field free to lie. `offset`, `local_name` and `declared_size` default to the truth."""

    name: bytes
    content: bytes = b""
    method: int = zipfile.ZIP_DEFLATED
    flags: int = 0
    attributes: int = REGULAR_FILE
    offset: int | None = None
    local_name: bytes | None = None
    declared_size: int | None = None
    crc: int | None = None
    has_descriptor: bool = False


def raw_zip(members: Iterable[Member], *, comment: bytes = b"") -> bytes:
    """Returns a zip written field by field. A member with `offset` gets a directory entry only."""
    body, directory, count = bytearray(), bytearray(), 0
    for member in members:
        packed = _pack(member)
        size = len(member.content) if member.declared_size is None else member.declared_size
        crc = zlib.crc32(member.content) if member.crc is None else member.crc
        flags = member.flags | (8 if member.has_descriptor else 0)
        offset = len(body) if member.offset is None else member.offset
        if member.offset is None:
            name = member.name if member.local_name is None else member.local_name
            told = (0, 0, 0) if member.has_descriptor else (crc, len(packed), size)
            body += _LOCAL.pack(b"PK\x03\x04", 20, flags, member.method, 0, 33, *told, len(name), 0)
            body += name + packed
            if member.has_descriptor:
                body += struct.pack("<4sLLL", b"PK\x07\x08", crc, len(packed), size)
        head = (b"PK\x01\x02", 0x0314, 20, flags, member.method, 0, 33, crc, len(packed), size)
        directory += _CENTRAL.pack(*head, len(member.name), 0, 0, 0, 0, member.attributes, offset)
        directory += member.name
        count += 1
    end = _END.pack(b"PK\x05\x06", 0, 0, count, count, len(directory), len(body), len(comment))
    return bytes(body + directory + end + comment)


def _pack(member: Member) -> bytes:
    if member.method != zipfile.ZIP_DEFLATED:
        return member.content
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(member.content) + deflater.flush()


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """Returns an ordinary zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(seed: int, side: int = 48) -> Image.Image:
    """Returns a smooth random RGB image: different seeds look different, copies stay recognisable."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def class_folders(
    labels: Iterable[str] = ("cats", "dogs"), images: int = 8, *, side: int = 48, prefix: str = ""
) -> dict[str, bytes]:
    """Returns `{path: PNG}` for class folders of images that all differ."""
    return {
        f"{prefix}{label}/{number:03d}.png": encoded(picture(1000 * position + number, side))
        for position, label in enumerate(labels)
        for number in range(images)
    }


def digits_zip(path: Path, side: int = 64) -> Path:
    """Writes scikit-learn's 1,797 handwritten digits as class folders `0` to `9` of greyscale PNGs."""
    digits = load_digits()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, (values, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            grey = Image.fromarray((values * (255 / 16)).round().astype(np.uint8))
            image = grey if side == grey.width else grey.resize((side, side), Image.Resampling.BICUBIC)
            archive.writestr(zipfile.ZipInfo(f"{label}/{number:04d}.png"), encoded(image))
    return path


def inspected(run_dir: Path, files: dict[str, bytes], **options: Any) -> dict[str, Any]:
    """Runs the verb on an upload of these files; `options` are fields of InspectSpec."""
    return inspected_bytes(run_dir, zip_of(files), **options)


def inspected_bytes(run_dir: Path, content: bytes, **options: Any) -> dict[str, Any]:
    """Runs the verb on an upload of these bytes."""
    (run_dir / "inputs").mkdir(parents=True, exist_ok=True)
    (run_dir / "inputs/upload").write_bytes(content)
    events = EventWriter(run_dir / "events.jsonl")
    try:
        return inspect.run(InspectSpec(**options), run_dir, events)
    finally:
        events._file.close()  # the writer lives as long as its process and has no close of its own


def items_of(run_dir: Path) -> list[Item]:
    """Returns the items of an inspected run directory."""
    lines = (run_dir / "outputs/index.jsonl").read_text(encoding="utf-8").splitlines()
    return [Item.from_json(line) for line in lines]
