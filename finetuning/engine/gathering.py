"""Checks the images of an upload on every core, keeping their files on disk and only facts in memory."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import IO, Protocol

import numpy as np

from finetuning.engine import clean_bytes, images, workers
from finetuning.engine.datasets import Layout, Sample
from finetuning.engine.events import EventWriter
from finetuning.engine.problems import reject
from finetuning.engine.spec import InspectSpec
from finetuning.engine.zip_directory import Entry

# The largest input of any network here (`Preprocessing.size`): more pixels would only cost disk and decoding.
MAX_SHORT_SIDE = 1024
# A JPEG that keeps its own bytes keeps its size up to here: it decodes in less time than a PNG of MAX_SHORT_SIDE does,
# 10 ms and 24 ms on a 2.6 GHz Zen 4 core (Pillow 13.0, one photograph).
MAX_PIXELS = 2048 * 2048
# Images decoded may need more room than the upload; this times `max_total_bytes` is the end of it.
_SPOOL_FACTOR = 4
_LARGE_PIXELS = 12_000_000  # 40 million need 400 MB while they are decoded
# What one worker takes at a time: so much that handing it over costs little, so little that all end together.
_PART_IMAGES, _PART_BYTES = 64, 2**20
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One readable image. `width` and `height` are those of the file for the packs, which is `file_bytes` long and
    named `suffix`, once it is turned as `stored_orientation` asks; the thumbnail's file is `thumbnail_bytes` long.
    `orientation` is what the uploaded file's EXIF asked for."""

    sha256: str
    pixel_sha256: str
    suffix: str
    file_bytes: int
    thumbnail_bytes: int
    width: int
    height: int
    uploaded_size: tuple[int, int]
    mode: str
    notes: tuple[str, ...]
    orientation: int
    stored_orientation: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some images of an upload, in its order. In the spool lie from `start` on file and thumbnail of each readable one,
    then the view of each; `hashes` holds those of the views, 8 bytes each."""

    outcomes: list[Prepared | images.BadImage]
    start: int
    hashes: bytes


@dataclass(slots=True)
class Gathered:
    """The readable images in the order of the samples; their files lie in `spool` from `starts` on, the views
    of so many of them from each of `_views` on."""

    spool: IO[bytes]
    samples: list[Sample] = field(default_factory=list)
    prepared: list[Prepared] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    faults: list[tuple[Sample, images.BadImage]] = field(default_factory=list)
    _views: list[tuple[int, int]] = field(default_factory=list)
    _hashes: bytearray = field(default_factory=bytearray)

    def add(self, samples: Iterable[Sample], part: Part) -> int:
        """Keeps the images; returns where in the spool they end."""
        start, known = part.start, len(self.starts)
        self._hashes += part.hashes
        for sample, outcome in zip(samples, part.outcomes, strict=True):
            if isinstance(outcome, images.BadImage):
                self.faults.append((sample, outcome))
                continue
            self.samples.append(sample)
            self.prepared.append(outcome)
            self.starts.append(start)
            start += outcome.file_bytes + outcome.thumbnail_bytes
        views = images.VIEW_BYTES * (len(self.starts) - known)
        self._views.append((start, views))
        return start + views

    def views(self) -> images.Bytes:
        """Returns (N, 32, 32, 3) uint8, to compare the images by."""
        whole = memoryview(bytearray(sum(length for _, length in self._views)))
        at = 0
        for start, length in self._views:
            os.preadv(self.spool.fileno(), [whole[at : at + length]], start)
            at += length
        return images.views(whole)

    @property
    def hashes(self) -> images.Hashes:
        """(N,) uint64, those of the views."""
        return np.frombuffer(self._hashes, np.uint64)

    def file(self, position: int) -> bytes:
        """Returns the image's file for the packs. Several processes may ask at once."""
        return self._read(self.starts[position], self.prepared[position].file_bytes)

    def thumbnail(self, position: int) -> bytes:
        prepared = self.prepared[position]
        return self._read(self.starts[position] + prepared.file_bytes, prepared.thumbnail_bytes)

    def _read(self, start: int, length: int) -> bytes:
        return os.pread(self.spool.fileno(), length, start)  # by place: what is under 2 GiB comes whole


@dataclass(frozen=True, slots=True)
class _Files:
    """What one image becomes."""

    facts: Prepared
    file: bytes
    thumbnail: bytes
    view: bytes


def _prepare(
    content: bytes, suffix: str, spec: InspectSpec, max_pixels: int, plain: clean_bytes.CleanFile | None
) -> _Files:
    """Decodes and fingerprints one image, and encodes it anew where its own file cannot be kept. Raises
    images.BadImage."""
    picture = images.decode(content, suffix, spec.limits, plain=plain)
    whole = picture.image
    decodes_fast = bool(picture.clean) and picture.format == "JPEG"
    is_whole = decodes_fast and whole.width * whole.height <= max_pixels
    stored = whole if is_whole else images.shrink(whole, MAX_SHORT_SIDE)
    is_kept = bool(picture.clean) and stored is whole
    glance = images.reduced(whole, 2 * max(spec.thumbnail_size, images.FINGERPRINT_SIDE))
    if is_kept:
        file, kind = picture.clean, picture.format
    elif picture.format == "JPEG" and stored is not whole:
        file, kind = images.encode_jpeg(stored), "JPEG"
    else:
        file, kind = images.encode_png(stored), "PNG"
    thumbnail = images.encode_thumbnail(glance, spec.thumbnail_size)
    told = {
        "animated": picture.is_animated,
        "rotated": picture.is_rotated,
        "misnamed": picture.is_misnamed,
        "shrunk": stored is not whole,
    }
    facts = Prepared(
        sha256=hashlib.sha256(content).hexdigest(),
        pixel_sha256=images.pixel_sha256(whole),
        suffix=_SUFFIXES[kind],
        file_bytes=len(file),
        thumbnail_bytes=len(thumbnail),
        width=stored.width,
        height=stored.height,
        uploaded_size=whole.size,
        mode=picture.mode,
        notes=tuple(name for name, holds in told.items() if holds),
        orientation=picture.orientation,
        stored_orientation=picture.orientation if is_kept else images.UPRIGHT,
    )
    return _Files(facts, file, thumbnail, images.small(glance))


class Source(Protocol):
    """What gives the bytes of an image."""

    def read(self, entry: Entry, /) -> bytes: ...


def gather(
    archive: Source,
    layout: Layout,
    gathered: Gathered,
    spec: InspectSpec,
    events: EventWriter,
    *,
    max_pixels: int = MAX_PIXELS,
) -> None:
    """Fills `gathered` and tells the progress; a clean JPEG of up to `max_pixels` keeps its size. Raises Rejected, as
    reading an archive does, and AppFault (`worker_lost`)."""
    one_large_at_a_time, one_writes = workers.shared_lock(), workers.shared_lock()

    def check(sample: Sample) -> _Files | images.BadImage:
        content = archive.read(sample.entry)
        plain = clean_bytes.jpeg(content)
        pixels = plain.size[0] * plain.size[1] if plain else images.declared_pixels(content)
        try:
            with one_large_at_a_time if pixels > _LARGE_PIXELS else nullcontext():
                return _prepare(content, sample.entry.suffix, spec, max_pixels, plain)
        except images.BadImage as fault:
            return fault

    def work(part: range) -> Part:
        checked = [check(layout.samples[at]) for at in part]
        good = [one for one in checked if isinstance(one, _Files)]
        views = b"".join(one.view for one in good)
        with one_writes:  # at the end, which the processes share as they share the open file
            start = gathered.spool.seek(0, os.SEEK_END)
            gathered.spool.write(b"".join(file for one in good for file in (one.file, one.thumbnail)) + views)
            gathered.spool.flush()
        return Part(
            outcomes=[one.facts if isinstance(one, _Files) else one for one in checked],
            start=start,
            hashes=images.perceptual_hashes(images.views(views)).tobytes(),
        )

    began = time.monotonic()
    total, limit = len(layout.samples), _SPOOL_FACTOR * spec.limits.max_total_bytes
    parts = _parts(layout.samples)
    with closing(workers.in_order(work, parts)) as results:
        for part, result in zip(parts, results, strict=True):
            if gathered.add(layout.samples[part.start : part.stop], result) > limit:
                raise reject("zip_bomb", f"Decoded, the images need over {limit / 2**30:.0f} GiB. Upload fewer.")
            events.progress("images", part.stop, total, rate=part.stop / max(time.monotonic() - began, 1e-3))


def _parts(samples: tuple[Sample, ...]) -> list[range]:
    """Returns the positions of the samples in runs of bounded number and size."""
    parts: list[range] = []
    start = held = 0
    for at, sample in enumerate(samples):
        held += sample.entry.size
        if at + 1 - start >= _PART_IMAGES or held >= _PART_BYTES:
            parts.append(range(start, at + 1))
            start, held = at + 1, 0
    return [*parts, range(start, len(samples))] if start < len(samples) else parts
