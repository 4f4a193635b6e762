"""Images that an upload holds as arrays in a few files, not as a file each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from finetuning.engine.datasets import Sample
from finetuning.engine.images import encode_png
from finetuning.engine.problems import Rejected, reject
from finetuning.engine.spec import Split
from finetuning.engine.zip_directory import STORED, Entry

MAX_IMAGES = 200_000
_MAX_LISTED = 1_000  # faults of one kind: more of them say nothing new
Pixels = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Arrays:
    """Gives each image as the bytes of a PNG, under the name FILE/NUMBER.png, as `Archive.read` gives files."""

    samples: list[Sample] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    pixels: dict[str, tuple[Pixels, int]] = field(default_factory=dict)  # by name: the array and the place in it
    faults: dict[str, list[str]] = field(default_factory=dict)

    def add(self, file: str, pixels: Pixels, labels: Sequence[int], names: Sequence[str], split: Split | None) -> None:
        """Takes images (N, H, W) or (N, H, W, 3) with their labels. Collects faults: `bad_classes`, `count_mismatch`,
        `bad_class`. Raises Rejected: `too_many_files`."""
        if len(set(names)) < len(names):
            self.fault("bad_classes", f"{file}: {next(name for name in names if names.count(name) > 1)}")
            return
        if len(labels) != len(pixels):
            self.fault("count_mismatch", f"{file}: {len(pixels):,} images, {len(labels):,} labels")
            return
        if len(self.samples) + len(pixels) > MAX_IMAGES:
            raise reject("too_many_files", f"There are over {MAX_IMAGES:,} images. Upload fewer.", [file])
        for at, label in enumerate(labels):
            if not 0 <= label < len(names):
                self.fault("bad_class", f"{file}: image {at + 1} has the label {label} of {len(names)} classes")
                continue
            entry = _entry(file, at + 1)
            self.pixels[entry.name] = (pixels, at)
            self.samples.append(Sample(entry, names[label], split))

    def fault(self, code: str, place: str) -> None:
        places = self.faults.setdefault(code, [])
        if len(places) < _MAX_LISTED:
            places.append(place)

    def read(self, entry: Entry) -> bytes:
        pixels, at = self.pixels[entry.name]
        return encode_png(Image.fromarray(pixels[at]))


def _entry(file: str, number: int) -> Entry:
    suffix = ".png"
    parts = (*(part for part in file.split("/") if part), f"{number:06d}{suffix}")
    return Entry(
        name="/".join(parts),
        parts=parts,
        raw_name=b"",
        method=STORED,
        flags=0,
        crc=0,
        compressed=0,
        size=0,
        offset=0,
        mode=0,
        attributes=0,
        suffix=suffix,
    )


_MESSAGES = {
    "count_mismatch": "files have another number of labels than of images. Take both from one download",
    "bad_class": "images have a label that no class has. Download the file again, or add the missing class name",
    "bad_classes": "class names are given to two classes. Give each class a name of its own",
    "bad_array": "files cannot be read as this format says. Download them again and upload them unchanged",
    "missing_file": "files of the data set are missing. Put all that belong together into the upload",
}


def raise_any(faults: dict[str, list[str]]) -> None:
    """Raises Rejected with every fault collected."""
    if faults:
        raise Rejected(
            *(
                reject(code, f"{len(places):,} {_MESSAGES[code]}.", places).problems[0]
                for code, places in faults.items()
            )
        )
