"""Images with masks, as uploaded: every format that is read, and the answer to every malformed one."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives_factory import encoded, inspected, items_of, picture
from PIL import Image

from finetuning.engine.packs import PackReader
from finetuning.engine.spec import Split, Task

SIDE = 32
CLASSES = b"ground\nred\nblue\n"


def squares(seed: int, side: int = SIDE) -> np.ndarray:
    """Returns classes (side, side): a square of class 1 and one of class 2 on class 0."""
    rng = np.random.default_rng(seed)
    classes = np.zeros((side, side), np.uint8)
    for number in (1, 2):
        top, left = rng.integers(0, side - 8, 2)
        classes[top : top + 8, left : left + 8] = number
    classes[0, 0], classes[0, 1] = 1, 2  # both stay visible where the squares overlap
    return classes


def png(classes: np.ndarray) -> bytes:
    return encoded(Image.fromarray(classes))


def pairs(count: int = 12, **files: bytes) -> dict[str, bytes]:
    """Returns an upload of images/ and masks/; `files` come on top."""
    upload = {"classes.txt": CLASSES}
    for number in range(count):
        upload[f"images/{number}.png"] = encoded(picture(number, SIDE))
        upload[f"masks/{number}.png"] = png(squares(number))
    return upload | files


def checked(run_dir: Path, files: dict[str, bytes]) -> dict[str, Any]:
    return inspected(run_dir, files, task=Task.SEMANTIC_SEGMENTATION)


def codes(result: dict[str, Any]) -> list[str]:
    return [problem["code"] for problem in result["problems"]]


def stored_masks(run_dir: Path) -> dict[str, np.ndarray]:
    found = {}
    for name in ("train.pack", "test.pack"):
        pack = PackReader(run_dir / "outputs" / name)
        found |= {item.name: np.asarray(pack.mask(item)) for item in pack.items}
    return found


def test_pairs_become_items_with_masks_and_a_report(tmp_path: Path) -> None:
    result = checked(tmp_path, pairs())

    assert result["problems"] == []
    report = result["report"]
    assert report["labels"] == ["ground", "red", "blue"]
    assert report["counts"] == {"given": 12, "used": 12, "left_out": 0}
    assert sum(entry["shares"]["all"] for entry in report["classes"]) == pytest.approx(1, abs=1e-4)
    assert all(item.label == -1 and item.mask == f"{item.index:06d}-mask.png" for item in items_of(tmp_path))
    assert all(np.array_equal(mask, squares(int(Path(name).stem))) for name, mask in stored_masks(tmp_path).items())
    assert {item.split for item in items_of(tmp_path)} == set(Split)
    thumbnails = PackReader(tmp_path / "outputs/thumbnails.pack")
    item = thumbnails.items[0]
    assert thumbnails._read(report["thumbnails"]["overlay"].format(index=item.index)).startswith(b"\xff\xd8")


def palette(classes: np.ndarray) -> bytes:
    image = Image.fromarray(classes).convert("P")
    image.putpalette([7, 7, 7, 200, 0, 0, 0, 0, 200])
    return encoded(image)


def colored(classes: np.ndarray) -> bytes:
    return encoded(Image.fromarray(np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[classes]))


def sixteen_bit(classes: np.ndarray) -> bytes:
    return encoded(Image.fromarray(classes.astype(np.uint16)))


COLORS = b"name,r,g,b\nground,0,0,0\nred,255,0,0\nblue,0,0,255\nvoid,255,255,255\n"


@pytest.mark.parametrize(
    ("write", "file", "table"),
    [
        (palette, "classes.txt", CLASSES),
        (sixteen_bit, "classes.csv", b"id,name\n0,ground\n1,red\n2,blue\n"),
        (colored, "classes.csv", COLORS),
        (colored, "classes.txt", COLORS.replace(b"name,r,g,b\n", b"")),
        (png, "classes.csv", "\ufeffid;name\r\n2;blue\r\n0;ground\r\n1;red\r\n".encode()),
    ],
)
def test_every_kind_of_mask_and_class_list_gives_the_same_classes(
    tmp_path: Path, write: Any, file: str, table: bytes
) -> None:
    files = pairs() | {f"masks/{number}.png": write(squares(number)) for number in range(12)}
    del files["classes.txt"]

    result = checked(tmp_path, files | {file: table})

    assert result["problems"] == []
    assert result["report"]["labels"] == ["ground", "red", "blue"]
    assert all(np.array_equal(mask, squares(int(Path(name).stem))) for name, mask in stored_masks(tmp_path).items())


def test_without_a_list_the_classes_are_named_after_their_ids(tmp_path: Path) -> None:
    files = pairs()
    del files["classes.txt"]
    far = {f"masks/{number}.png": png(squares(number) * 7) for number in range(12)}

    result = checked(tmp_path, files | far)

    assert result["report"]["labels"] == ["class_0", "class_7", "class_14"]
    assert set(np.unique(next(iter(stored_masks(tmp_path).values())))) == {0, 1, 2}


def test_pixels_of_255_and_void_colors_are_ignored_and_counted(tmp_path: Path) -> None:
    masks = [np.where(squares(number) == 0, 255, squares(number)) for number in range(12)]

    result = checked(tmp_path, pairs() | {f"masks/{n}.png": png(mask) for n, mask in enumerate(masks)})

    assert result["report"]["ignored_share"] == pytest.approx(np.mean([mask == 255 for mask in masks]), abs=1e-5)
    assert "much_ignored" in [finding["code"] for finding in result["report"]["findings"]]


@pytest.mark.parametrize("pattern", ["{split}/{kind}/{n}.png", "{kind}/{split}/{n}.png"])
def test_split_folders_are_respected_at_either_place(tmp_path: Path, pattern: str) -> None:
    files = {"data/classes.txt": CLASSES}
    for split, numbers in (("train", range(8)), ("val", range(8, 10)), ("test", range(10, 12))):
        for n in numbers:
            files["data/" + pattern.format(split=split, kind="images", n=n)] = encoded(picture(n, SIDE))
            files["data/" + pattern.format(split=split, kind="labels", n=n)] = png(squares(n))

    report = checked(tmp_path, files)["report"]

    assert report["splits"] == {"train": 8, "validation": 2, "test": 2}
    assert report["split_source"] == "uploaded"


def test_large_images_and_their_masks_shrink_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    big = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((2048, 1536))
    mask = np.zeros((1536, 2048), np.uint8)
    mask[:768] = 1
    files = pairs() | {"images/big.png": encoded(big), "masks/big.png": png(mask)}

    checked(tmp_path, files)

    item = next(item for item in items_of(tmp_path) if item.name == "images/big.png")
    small = stored_masks(tmp_path)["images/big.png"]
    assert small.shape == (item.height, item.width) == (1024, 1365)
    assert set(np.unique(small)) == {0, 1}
    assert np.mean(small == 1) == pytest.approx(0.5, abs=0.01)


def turned(orientation: int, width: int = 40) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(77, SIDE).resize((width, SIDE)), "JPEG", exif=exif)


@pytest.mark.parametrize("drawn_upright", [True, False])
def test_masks_turn_with_their_photo_where_the_sizes_tell(tmp_path: Path, drawn_upright: bool) -> None:
    stored = np.zeros((SIDE, 40), np.uint8)
    stored[:, :10] = 1
    upright = np.rot90(stored, -1)
    files = pairs() | {"images/x.jpg": turned(6), "masks/x.png": png(upright if drawn_upright else stored)}

    assert checked(tmp_path, files)["problems"] == []
    assert np.array_equal(stored_masks(tmp_path)["images/x.jpg"], upright)


COCO_NAMES = [{"id": 3, "name": "red"}, {"id": 9, "name": "blue"}]


def coco(changes: dict[str, Any] | None = None, count: int = 12, **annotation: Any) -> dict[str, bytes]:
    """Returns an upload with one outline of each category in each image; `annotation` changes the first."""
    files = {f"images/{number}.png": encoded(picture(number, SIDE)) for number in range(count)}
    rows = [
        {"id": 2 * n + at, "image_id": n, "category_id": category, "segmentation": [[x, 2, x + 8, 2, x + 8, 12, x, 12]]}
        for n in range(count)
        for at, (category, x) in enumerate(((3, 2), (9, 18)))
    ]
    rows[0] |= annotation
    document = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": SIDE, "height": SIDE} for n in range(count)],
        "annotations": rows,
        "categories": COCO_NAMES,
    }
    return files | {"annotations/instances.json": json.dumps(document | (changes or {})).encode()}


def test_coco_outlines_become_masks_on_a_background(tmp_path: Path) -> None:
    result = checked(tmp_path, coco())

    assert result["problems"] == []
    assert result["report"]["labels"] == ["background", "red", "blue"]
    mask = stored_masks(tmp_path)["images/0.png"]
    assert mask[5, 5] == 1
    assert mask[5, 20] == 2
    assert mask[20, 20] == 0
    assert result["report"]["skipped"] == {}


def test_coco_files_in_split_folders_are_respected(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for folder, first, count in (("train", 0, 6), ("valid", 6, 2), ("test", 8, 2)):
        images = [{"id": n, "file_name": f"{n}.png", "width": SIDE, "height": SIDE} for n in range(count)]
        rows = [
            {"id": n, "image_id": n % count, "category_id": (3, 9)[n // count], "segmentation": [[2, 2, 9, 2, 9, 9]]}
            for n in range(2 * count)
        ]
        rows = [row | {"segmentation": [[2 + row["category_id"], 2, 20, 2, 20, 20]]} for row in rows]
        files |= {f"{folder}/{n}.png": encoded(picture(first + n, SIDE)) for n in range(count)}
        document = {"images": images, "annotations": rows, "categories": COCO_NAMES}
        files[f"{folder}/_annotations.coco.json"] = json.dumps(document).encode()

    result = checked(tmp_path, files)

    assert result["problems"] == []
    assert result["report"]["splits"] == {"train": 6, "validation": 2, "test": 2}


def stray(number: int) -> bytes:
    mask = squares(0)
    mask[3, 3] = number
    return png(mask)


def speck() -> bytes:
    image = Image.open(io.BytesIO(colored(squares(0))))
    image.putpixel((9, 0), (1, 2, 3))
    return encoded(image)


def all_colored() -> dict[str, bytes]:
    return {f"masks/{number}.png": colored(squares(number)) for number in range(12)}


def without(files: dict[str, bytes], *names: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name not in names}


BAD = {
    "a mask of another size": (pairs(**{"masks/0.png": png(squares(0, 40))}), "mask_size", "masks/0.png"),
    "an unknown id": (pairs(**{"masks/0.png": stray(9)}), "bad_class", "masks/0.png: 9"),
    "an id above 255": (pairs(**{"masks/0.png": sixteen_bit(squares(0).astype(int) * 500)}), "bad_class", "500"),
    "a missing mask": (without(pairs(), "masks/3.png"), "missing_mask", "images/3.png"),
    "a missing image": (without(pairs(), "images/3.png"), "missing_image", "masks/3.png"),
    "an undecodable mask": (pairs(**{"masks/0.png": png(squares(0))[:60]}), "bad_mask", "masks/0.png"),
    "a mask as JPEG": (
        without(pairs(**{"masks/0.jpg": encoded(picture(0, SIDE), "JPEG")}), "masks/0.png"),
        "mask_format",
        "masks/0.jpg",
    ),
    "a color not in the table": (
        without(pairs(), "classes.txt") | all_colored() | {"classes.csv": COLORS, "masks/0.png": speck()},
        "unknown_color",
        "(1, 2, 3)",
    ),
    "colors without a table": (pairs() | all_colored(), "colors_missing", "masks/0.png"),
    "files in no folder": (pairs(**{"x.png": encoded(picture(1, SIDE))}), "unplaced", "x.png"),
    "a class given twice": (pairs(**{"classes.txt": b"a\na\n"}), "bad_classes", "line 2"),
    "a class id above 254": (pairs(**{"classes.txt": b"0,a\n900,b\n"}), "bad_classes", "line 2"),
    "an empty list of classes": (pairs(**{"classes.txt": b"\n"}), "bad_classes", "no class"),
    "a color out of range": (pairs(**{"classes.txt": b"a,0,0,999\n"}), "bad_classes", "line 1"),
    "foreground saved as 255": (
        pairs() | {f"masks/{n}.png": png((squares(n) > 0).astype(np.uint8) * 255) for n in range(12)},
        "too_few_classes",
        "ground",
    ),
    "a square photo turned by EXIF": (
        without(pairs(**{"images/0.jpg": turned(6, SIDE)}), "images/0.png"),
        "rotation_unclear",
        "masks/0.png",
    ),
    "COCO beside mask files": (
        pairs(**{"a.json": coco()["annotations/instances.json"]}),
        "several_annotations",
        "a.json",
    ),
    "COCO: outside": (coco(segmentation=[[2, 2, 500, 2, 8, 8]]), "polygon_outside", "annotation 0"),
    "COCO: no outline": (coco(segmentation=[[2, 2, 8, 8]]), "bad_polygon", "annotation 0"),
    "COCO: not a number": (coco(segmentation=[[2, 2, float("nan"), 2, 8, 8]]), "bad_polygon", "annotation 0"),
    "COCO: run lengths": (coco(segmentation={"counts": "abc", "size": [1, 1]}), "rle_unsupported", "annotation 0"),
    "COCO: unknown category": (coco(category_id=4), "bad_class", "category 4"),
    "COCO: unknown image": (coco(image_id=99), "missing_image", "image 99"),
    "COCO: an image not listed": (coco() | {"images/x.png": encoded(picture(99, SIDE))}, "unlabelled", "images/x.png"),
    "COCO: another size": (
        coco({"images": [{"id": n, "file_name": f"{n}.png", "width": 64, "height": 64} for n in range(12)]}),
        "mask_size",
        "images/0.png",
    ),
    "COCO: no list": (coco({"images": {"id": 1}}), "bad_json", "annotations/instances.json"),
    "COCO: nested deeply": (
        coco() | {"annotations/instances.json": b"[" * 100_000 + b"]" * 100_000},
        "bad_json",
        "annotations/instances.json",
    ),
    "COCO: a key twice": (
        coco() | {"annotations/instances.json": b'{"images": [], "images": []}'},
        "bad_json",
        "annotations/instances.json",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_malformed_upload_is_refused_with_its_places(tmp_path: Path, case: str) -> None:
    files, code, place = BAD[case]

    result = checked(tmp_path, files)

    assert code in codes(result)
    problem = next(problem for problem in result["problems"] if problem["code"] == code)
    assert any(place in item for item in problem["items"]), problem
    assert len(problem["items"]) <= 20


def test_one_damaged_image_is_left_out_with_its_mask_and_listed(tmp_path: Path) -> None:
    result = checked(tmp_path, pairs(**{"images/0.png": encoded(picture(0, SIDE))[:80]}))

    assert result["report"]["counts"] == {"given": 12, "used": 11, "left_out": 1}
    assert [entry["name"] for entry in result["report"]["corrupt"]] == ["images/0.png"]


def test_copies_stay_in_one_split_and_share_a_group(tmp_path: Path) -> None:
    files = pairs(20)
    for number in (30, 31):
        files |= {f"images/{number}.png": files["images/0.png"], f"masks/{number}.png": files["masks/0.png"]}

    checked(tmp_path, files)

    copies = [item for item in items_of(tmp_path) if Path(item.name).stem in {"0", "30", "31"}]
    assert len({item.split for item in copies}) == 1
    assert len({item.group for item in copies}) == 1
    assert copies[0].group
