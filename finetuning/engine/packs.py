"""Packs: the only form in which checked images reach training, evaluation and display.

A pack is a zip whose members are stored, not compressed, under generated names, `index.jsonl` first. So an
image is one seek and one read, and any zip reader can open it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict

from PIL import Image

from finetuning.engine.failures import UserFault
from finetuning.engine.images import UPRIGHT, upright
from finetuning.engine.spec import Split
from finetuning.engine.stored_zip import LOCAL_HEADER_BYTES, StoredZip

INDEX_MEMBER = "index.jsonl"
_encode = json.JSONEncoder(ensure_ascii=False).encode


class Annotation(TypedDict, total=False):
    """What an image shows: these fields of its item."""

    label: int
    labels: tuple[int, ...]
    boxes: tuple[tuple[float, ...], ...]
    mask: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One image, or one text. `index` counts from 1 over the whole upload and names its files (`000001.jpg`);
    `label` is the position in the report's `labels`, -1 where an item has no single one; `labels` are then the
    positions of the classes that it shows, ascending (segmentation: those of its mask; multi-label: its labels).
    `name` is the path in the upload: data, never a path on disk. `width` and `height` are those of the stored image
    once it is turned as `orientation`, an EXIF value, asks. `sha256` is over the uploaded file, `pixel_sha256` over its
    decoded RGB pixels (text: over the text, and over the text normalized as near_texts.py does), `phash` 16 hex
    digits. `group` names the items that must stay in one split and count as one in intervals (duplicates); empty:
    the item alone.

    Detection: `boxes` of (label, left, top, right, bottom) in pixels of the stored image. Segmentation: `mask`
    is the pack's member with the class of each pixel (PNG, mode L). Text: `text`."""

    index: int
    file: str
    name: str
    label: int = -1
    split: Split
    width: int
    height: int
    sha256: str
    pixel_sha256: str
    phash: str
    group: str = ""
    labels: tuple[int, ...] = ()
    boxes: tuple[tuple[float, ...], ...] = ()
    mask: str = ""
    text: str = ""
    orientation: int = UPRIGHT

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright image in pixels."""
        return self.width, self.height

    def to_json(self) -> str:
        return _encode(dict(zip(_FIELDS, _values(self), strict=True)))

    @classmethod
    def from_json(cls, line: str | bytes) -> Item:
        entries: dict[str, Any] = json.loads(line)
        boxes = tuple(tuple(box) for box in entries.pop("boxes", ()))
        labels = tuple(entries.pop("labels", ()))
        return cls(**{**entries, "split": Split(entries["split"]), "boxes": boxes, "labels": labels})


_FIELDS = tuple(field.name for field in dataclasses.fields(Item))
_values = attrgetter(*_FIELDS)


class PackReader:
    """Reads a pack that `PackWriter` made. Holds no open file: an instance may be shared by threads, forked
    and pickled."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with zipfile.ZipFile(self.path) as archive:
            self._spans = {
                info.filename: (
                    info.header_offset + LOCAL_HEADER_BYTES + len(info.filename.encode()),
                    info.file_size,
                )
                for info in archive.infolist()
            }
        self.items: list[Item] = [Item.from_json(line) for line in self._read(INDEX_MEMBER).splitlines()]

    def __len__(self) -> int:
        return len(self.items)

    def __reduce__(self) -> tuple[type[PackReader], tuple[Path]]:
        return PackReader, (self.path,)

    def content(self, item: Item) -> bytes:
        """Returns the item's encoded image."""
        return self._read(item.file)

    def mask_content(self, item: Item) -> bytes:
        """Returns the item's encoded mask."""
        return self._read(item.mask)

    def image(self, item: Item) -> Image.Image:
        """Returns the decoded item, upright, mode RGB, 8 bits a channel."""
        with Image.open(io.BytesIO(self.content(item)), formats=("PNG", "JPEG")) as image:
            image.load()
            return upright(image if image.mode == "RGB" else image.convert("RGB"), item.orientation)

    def mask(self, item: Item) -> Image.Image:
        """Returns the class of each pixel, mode L, in the size of the item's image."""
        with Image.open(io.BytesIO(self.mask_content(item)), formats=("PNG",)) as mask:
            mask.load()
            return mask

    def images(self, items: Iterable[Item]) -> Iterator[Image.Image]:
        """Yields the decoded items in the order given, one at a time in memory."""
        return (self.image(item) for item in items)

    def _read(self, member: str) -> bytes:
        offset, size = self._spans[member]
        with self.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)


def training_items(items: Iterable[Item]) -> tuple[list[Item], list[Item]]:
    """Returns a training pack's items: those of training and of validation. Raises UserFault
    (`test_items_present`): no trainer is given a test item."""
    by_split: dict[Split, list[Item]] = {split: [] for split in Split}
    for item in items:
        by_split[item.split].append(item)
    if by_split[Split.TEST]:
        raise UserFault("test_items_present", "The training pack holds test items; inspect the dataset again.")
    return by_split[Split.TRAIN], by_split[Split.VALIDATION]


class PackWriter:
    """Writes a pack; `add` the images in the order of the items. The items are known before the images."""

    def __init__(self, path: Path, items: Iterable[Item]) -> None:
        self._archive = StoredZip(path)
        self._archive.add(INDEX_MEMBER, index_lines(items))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._archive.close()

    def add(self, item: Item, content: bytes, mask: bytes = b"") -> None:
        """Stores the encoded image and, for an item that has one, its encoded mask."""
        self._archive.add(item.file, content)
        if item.mask:
            self._archive.add(item.mask, mask)


def index_lines(items: Iterable[Item]) -> bytes:
    """Returns `index.jsonl`: one item a line."""
    return "".join(item.to_json() + "\n" for item in items).encode()
