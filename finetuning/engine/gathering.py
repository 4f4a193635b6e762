"""Decodes the images of an upload in threads, keeping their encoded form on disk and only facts in memory."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import IO, Protocol, TypeVar

from finetuning.engine import images
from finetuning.engine.datasets import Layout, Sample
from finetuning.engine.events import EventWriter
from finetuning.engine.problems import reject
from finetuning.engine.spec import InspectSpec
from finetuning.engine.zip_directory import Entry

# The largest input of any network here (`Preprocessing.size`): more pixels would only cost disk and decoding.
MAX_SHORT_SIDE = 1024
# Images decoded may need more room than the upload; this times `max_total_bytes` is the end of it.
_SPOOL_FACTOR = 4
_PROGRESS_SECONDS = 0.25
_LARGE_PIXELS = 12_000_000  # 40 million need 400 MB while they are decoded
_WINDOW = 4  # images in flight for each thread
In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True, slots=True)
class Prepared:
    """One readable image, encoded for the packs. `width` and `height` are those of `png`."""

    sha256: str
    print: images.Fingerprint
    png: bytes
    thumbnail: bytes
    width: int
    height: int
    uploaded_size: tuple[int, int]
    mode: str
    notes: tuple[str, ...]
    orientation: int = 1


@dataclass(slots=True)
class Gathered:
    """The readable images in the order of the samples; their bytes lie in `spool` at `spans`."""

    spool: IO[bytes]
    samples: list[Sample] = field(default_factory=list)
    prepared: list[Prepared] = field(default_factory=list)
    spans: list[tuple[int, int, int]] = field(default_factory=list)
    faults: list[tuple[Sample, images.BadImage]] = field(default_factory=list)

    def add(self, sample: Sample, prepared: Prepared) -> int:
        """Keeps the image; returns how many bytes the spool holds now."""
        start = self.spool.tell()
        self.spool.write(prepared.png)
        self.spool.write(prepared.thumbnail)
        self.samples.append(sample)
        self.spans.append((start, len(prepared.png), len(prepared.thumbnail)))
        self.prepared.append(replace(prepared, png=b"", thumbnail=b""))
        return self.spool.tell()

    def png(self, position: int) -> bytes:
        start, length, _ = self.spans[position]
        self.spool.seek(start)
        return self.spool.read(length)

    def thumbnail(self, position: int) -> bytes:
        start, skip, length = self.spans[position]
        self.spool.seek(start + skip)
        return self.spool.read(length)


def prepare(content: bytes, suffix: str, spec: InspectSpec) -> Prepared:
    """Decodes, fingerprints and re-encodes one image. Raises images.BadImage."""
    picture = images.decode(content, suffix, spec.limits)
    stored = images.shrink(picture.image, MAX_SHORT_SIDE)
    told = {
        "animated": picture.is_animated,
        "rotated": picture.is_rotated,
        "misnamed": picture.is_misnamed,
        "shrunk": stored is not picture.image,
    }
    return Prepared(
        sha256=hashlib.sha256(content).hexdigest(),
        print=images.fingerprint(picture.image),
        png=images.encode_png(stored),
        thumbnail=images.encode_thumbnail(stored, spec.thumbnail_size),
        width=stored.width,
        height=stored.height,
        uploaded_size=picture.image.size,
        mode=picture.mode,
        notes=tuple(name for name, holds in told.items() if holds),
        orientation=picture.orientation,
    )


class Source(Protocol):
    """What gives the bytes of an image."""

    def read(self, entry: Entry, /) -> bytes: ...


def gather(archive: Source, layout: Layout, gathered: Gathered, spec: InspectSpec, events: EventWriter) -> None:
    """Fills `gathered` and tells the progress. Raises Rejected, as reading an archive does."""
    one_large_at_a_time = threading.Lock()

    def work(sample: Sample) -> Prepared | images.BadImage:
        content = archive.read(sample.entry)
        is_large = images.declared_pixels(content) > _LARGE_PIXELS
        try:
            with one_large_at_a_time if is_large else nullcontext():
                return prepare(content, sample.entry.suffix, spec)
        except images.BadImage as fault:
            return fault

    began = reported = time.monotonic()
    total, limit = len(layout.samples), _SPOOL_FACTOR * spec.limits.max_total_bytes
    for done, (sample, outcome) in enumerate(in_threads(work, layout.samples), start=1):
        if isinstance(outcome, images.BadImage):
            gathered.faults.append((sample, outcome))
        elif gathered.add(sample, outcome) > limit:
            raise reject("zip_bomb", f"Decoded, the images need over {limit / 2**30:.0f} GiB. Upload fewer.")
        now = time.monotonic()
        if now - reported >= _PROGRESS_SECONDS or done == total:
            events.progress("images", done, total, rate=done / max(now - began, 1e-3))
            reported = now


def in_threads(work: Callable[[In], Out], samples: Iterable[In]) -> Iterator[tuple[In, Out]]:
    """Yields each sample with its outcome, in order, holding only a few outcomes at a time."""
    threads = os.cpu_count() or 1
    waiting: deque[tuple[In, Future[Out]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for sample in samples:
                waiting.append((sample, pool.submit(work, sample)))
                if len(waiting) >= threads * _WINDOW:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)
