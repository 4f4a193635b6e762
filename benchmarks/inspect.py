"""An upload of photographs checked: `inspect` against a loop that only decodes the same JPEG files.

The engine also hashes, fingerprints, looks for duplicates, makes thumbnails and writes packs. Both are one process on
all cores, from start to end. `accuracy` is the share of the images that came through.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from benchmarks.processes import engine, peer
from benchmarks.reporting import Row, compare
from finetuning.engine import spec
from finetuning.engine.spec import Verb

SMALL, LARGE = 96, 2000  # pixels of the square images' sides
QUALITY = 90
LABELS = 2


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks inspect", description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--side", type=int, default=SMALL, help=f"pixels; {LARGE} makes four megapixels")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="inspect-") as name:
        run_dir = Path(name)
        (run_dir / "inputs").mkdir()
        upload(run_dir / "inputs/upload", count=options.images, side=options.side)
        spec.write(spec.InspectSpec(salt="benchmark"), run_dir)
        ours = engine(Verb.INSPECT, run_dir)
        if ours.result["status"] != "valid":
            raise SystemExit(json.dumps(ours.result["problems"], indent=1))
        report = ours.result["report"]
        bare = peer("benchmarks.decode_loop", str(run_dir / "inputs/upload"))
    speeds = {"ours": options.images / ours.seconds, "peer": options.images / bare.seconds}
    print(f"\nimages/s: engine {speeds['ours']:.0f}, bare decode loop {speeds['peer']:.0f}")
    compare(
        f"{options.images:,} JPEG images of {options.side} x {options.side} pixels",
        ours=Row("engine: inspect", ours.seconds, sum(report["splits"].values()) / options.images, ours.peak_mb),
        peer=Row("bare decode loop", bare.seconds, bare.result["decoded"] / options.images, bare.peak_mb),
        images_per_second=speeds,
        cpu_seconds={"ours": ours.cpu_seconds, "peer": bare.cpu_seconds},
    )


def upload(path: Path, *, count: int, side: int) -> None:
    """Writes a zip of class folders: random squares of scikit-learn's photographs, each brightened by its own factor."""
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(count):
            photograph = photographs[number % len(photographs)]
            size = int(rng.integers(min(photograph.size) // 4, min(photograph.size)))
            left, top = (int(rng.integers(limit - size + 1)) for limit in photograph.size)
            view = photograph.crop((left, top, left + size, top + size)).resize((side, side))
            file = io.BytesIO()
            ImageEnhance.Brightness(view).enhance(rng.uniform(0.5, 1.5)).save(file, "JPEG", quality=QUALITY)
            archive.writestr(f"{number % LABELS}/{number:06d}.jpg", file.getvalue())
