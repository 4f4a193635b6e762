"""Planted duplicates, leaks and imbalance are found; real digits are not called copies."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives_factory import class_folders, digits_zip, encoded, inspected, inspected_bytes, items_of, picture
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from finetuning.engine import duplicates, images


def photographs(count: int) -> list[Image.Image]:
    """Returns crops of two real photographs, no two alike."""
    rng = np.random.default_rng(3)
    sources = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    corners = rng.integers(0, (400, 200), (count, 2))
    return [sources[at % 2].crop((x, y, x + 200, y + 180)) for at, (x, y) in enumerate(corners)]


def saved_again(image: Image.Image) -> bytes:
    return encoded(image.resize((image.width // 2, image.height // 2)), "JPEG", quality=75)


def finding(report: dict[str, Any], code: str) -> dict[str, Any] | None:
    return next((entry for entry in report["findings"] if entry["code"] == code), None)


@pytest.mark.parametrize("side", [8, 64])
def test_digits_are_inspected_in_seconds_and_none_is_called_a_copy(tmp_path: Path, side: int) -> None:
    content = digits_zip(tmp_path / "digits.zip", side).read_bytes()

    began = time.monotonic()
    result = inspected_bytes(tmp_path, content, salt="s")

    assert time.monotonic() - began < 30
    assert result["report"]["images"] == 1797
    assert result["report"]["labels"] == [str(digit) for digit in range(10)]
    assert result["report"]["duplicates"] == {"exact": [], "near": []}
    assert result["report"]["modes"] == {"L": 1797}
    assert finding(result["report"], "balanced")


def test_planted_copies_are_found_and_kept_on_one_side(tmp_path: Path) -> None:
    photos = photographs(40)
    files = {f"{'ab'[at % 2]}/{at:02d}.png": encoded(photo) for at, photo in enumerate(photos)}
    files["a/exact.png"] = encoded(photos[0], "PNG", compress_level=0)
    files |= {f"{'ab'[at % 2]}/near{at:02d}.jpg": saved_again(photos[at]) for at in range(10, 20)}

    report = inspected(tmp_path, files)["report"]

    name_of = {item.index: item.name for item in items_of(tmp_path)}
    split_of = {item.index: item.split for item in items_of(tmp_path)}
    assert [{name_of[index] for index in group} for group in report["duplicates"]["exact"]] == [
        {"a/00.png", "a/exact.png"}
    ]
    near = [{name_of[index] for index in group} for group in report["duplicates"]["near"]]
    assert len(near) >= 9
    assert all({name.rpartition("/")[2][-6:-4] for name in group} & {str(n) for n in range(10, 20)} for group in near)
    groups = [*report["duplicates"]["exact"], *report["duplicates"]["near"]]
    assert all(len({split_of[index] for index in group}) == 1 for group in groups)
    assert report["leakage"] == []
    assert finding(report, "exact_duplicates")["count"] == 1


def test_leaks_between_uploaded_splits_are_found(tmp_path: Path) -> None:
    photos = photographs(24)
    files = {
        f"{folder}/{'ab'[at % 2]}/{at:02d}.png": encoded(photo)
        for at, photo in enumerate(photos)
        for folder in [("train", "train", "val", "val", "test", "test")[at % 6]]
    }
    files["test/a/leak.png"] = encoded(photos[0])
    files["test/b/near.jpg"] = saved_again(photos[1])

    report = inspected(tmp_path, files)["report"]

    name_of = {item.index: item.name for item in items_of(tmp_path)}
    leaks = {(name_of[leak["train"]], name_of[leak["test"]], leak["kind"]) for leak in report["leakage"]}
    assert leaks == {
        ("train/a/00.png", "test/a/leak.png", "exact"),
        ("train/b/01.png", "test/b/near.jpg", "near"),
    }
    assert finding(report, "leakage")["severity"] == "warning"
    assert report["findings"][0]["severity"] == "warning"


def test_same_image_in_two_classes_is_a_warning(tmp_path: Path) -> None:
    files = {**class_folders(), "dogs/copy.png": encoded(picture(0))}

    conflict = finding(inspected(tmp_path, files)["report"], "label_conflict")

    assert conflict is not None
    assert conflict["count"] == 1


def test_imbalance_small_classes_and_twin_labels_are_told(tmp_path: Path) -> None:
    files = {
        **class_folders(("cats",), 24),
        "dogs/1.png": encoded(picture(500)),
        "dogs/2.png": encoded(picture(501)),
    }
    files |= {f"Dogs /{n}.png": encoded(picture(600 + n)) for n in range(3)}

    report = inspected(tmp_path, files)["report"]

    assert report["imbalance_ratio"] == 12.0
    assert finding(report, "imbalance")["severity"] == "warning"
    assert finding(report, "few_images")["severity"] == "warning"
    assert finding(report, "similar_labels")["count"] == 1
    assert finding(report, "class_without_split")["count"] == 1


def test_sizes_are_counted_in_powers_of_two(tmp_path: Path) -> None:
    files = {**class_folders(images=2, side=48), "cats/big.png": encoded(picture(9, side=130))}

    sizes = inspected(tmp_path, files)["report"]["sizes"]

    assert sizes["width"] == {"min": 48, "median": 48, "max": 130}
    assert sizes["histogram"] == [
        {"low": 32, "high": 64, "images": 4},
        {"low": 64, "high": 128, "images": 0},
        {"low": 128, "high": 256, "images": 1},
    ]


def test_digest_follows_content_not_names(tmp_path: Path) -> None:
    files = class_folders()
    renamed = {name.replace(".png", "-x.png"): content for name, content in files.items()}
    changed = {**files, "cats/000.png": encoded(picture(4242))}

    digests = [
        inspected(tmp_path / run, data)["report"]["digest"]
        for run, data in zip("abc", (files, renamed, changed), strict=True)
    ]

    assert digests[0] == digests[1] != digests[2]


def near(pictures: list[Image.Image]) -> list[tuple[int, int]]:
    views = images.views(b"".join(images.small(image) for image in pictures))
    return duplicates.near_pairs(images.perceptual_hashes(views), views)


def test_brighter_and_recompressed_copies_are_near_but_colours_and_shades_are_not() -> None:
    photo = photographs(2)[1]
    brighter = ImageEnhance.Brightness(photo).enhance(1.08)
    red, blue, grey, white = (Image.new("RGB", (50, 50), name) for name in ("red", "blue", "grey", "white"))

    assert near([photo, brighter]) == [(0, 1)]
    assert near([red, blue, grey, white]) == []
    assert near([photo, photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]) == []


def test_near_search_of_twenty_thousand_images_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 20_000).astype(np.uint64)
    hashes[-1] = hashes[0] ^ np.uint64(0b111)
    thumbnails = np.zeros((20_000, 32, 32, 3), np.uint8)

    began = time.monotonic()
    pairs = duplicates.near_pairs(hashes, thumbnails)

    assert (0, 19_999) in pairs
    assert time.monotonic() - began < 30


def test_colliding_hashes_are_bounded_and_still_connected() -> None:
    count = 500
    pairs = duplicates.near_pairs(np.zeros(count, np.uint64), np.full((count, 32, 32, 3), 200, np.uint8))

    assert len(pairs) < 20 * count
    assert duplicates.connected(count, pairs) == [list(range(count))]
