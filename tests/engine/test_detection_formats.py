"""COCO, Pascal VOC and YOLO uploads, good and bad: each mistake with its answer and its place."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from archives_factory import encoded, inspected, items_of, picture

from finetuning.engine import intake
from finetuning.engine.packs import PackReader
from finetuning.engine.spec import Split, Task

SIDE = 48
Files = dict[str, bytes]


def images(count: int = 8, folder: str = "images") -> Files:
    return {f"{folder}/{number}.png": encoded(picture(number, SIDE)) for number in range(count)}


def document(count: int = 8, folder: str = "", **changes: Any) -> dict[str, Any]:
    """Returns COCO's format for `images`: one box of each of two classes in every image but the last."""
    rows = [
        {
            "id": 10 * at + label,
            "image_id": at,
            "category_id": 5 + label,
            "bbox": [4 + 8 * label, 6, 20, 16],
            "iscrowd": 0,
        }
        for at in range(count - 1)
        for label in range(2)
    ]
    return {
        "images": [{"id": at, "file_name": f"{folder}{at}.png", "width": SIDE, "height": SIDE} for at in range(count)],
        "annotations": rows,
        "categories": [{"id": 5, "name": "dog"}, {"id": 6, "name": "cat"}, {"id": 9, "name": "unused"}],
        **changes,
    }


def coco(**changes: Any) -> Files:
    return {**images(), "instances.json": json.dumps(document(**changes)).encode()}


def voc(body: str = "", head: str = "") -> Files:
    def xml(number: int) -> str:
        boxes = "".join(
            f"<object><name>{label}</name><bndbox><xmin>4</xmin><ymin>6</ymin><xmax>{24 + at}</xmax><ymax>22</ymax></bndbox></object>"
            for at, label in enumerate(("cat", "dog"))
        )
        size = f"<size><width>{SIDE}</width><height>{SIDE}</height></size>"
        return f"{head}<annotation><filename>{number}.png</filename>{size}{boxes}{body if number == 3 else ''}</annotation>"

    return {
        **images(folder="JPEGImages"),
        **{f"Annotations/{number}.xml": xml(number).encode() for number in range(7)},
    }


def yolo(line: str = "", classes: str = "cat\ndog\n") -> Files:
    text = "0 0.5 0.5 0.25 0.5\n1 0.3 0.3 0.2 0.2\n"
    return {
        **images(),
        **{f"labels/{number}.txt": (text + (line if number == 3 else "")).encode() for number in range(7)},
        "classes.txt": classes.encode(),
    }


def inspect(run_dir: Path, files: Files) -> dict[str, Any]:
    return inspected(run_dir, files, task=Task.OBJECT_DETECTION, salt="salt")


def problems(run_dir: Path, files: Files) -> dict[str, tuple[str, ...]]:
    result = inspect(run_dir, files)
    assert result["status"] == "invalid"
    return {problem["code"]: problem["items"] for problem in result["problems"]}


def imagefolder(row: int = -1, **changes: Any) -> Files:
    """Returns Hugging Face's layout with the same boxes; `changes` are to the objects of one line."""
    lines = []
    for number in range(8):
        objects = {"bbox": [[4, 6, 20, 16], [12.0, 6.0, 20.0, 16.0]], "categories": ["dog", "cat"]}
        objects = {"bbox": [], "categories": []} if number == 7 else objects
        lines.append({"file_name": f"{number}.png", "objects": {**objects, **(changes if number == row else {})}})
    text = "\n".join(json.dumps(line) for line in lines)
    return {**images(folder="data"), "data/metadata.jsonl": text.encode()}


@pytest.mark.parametrize("make", [coco, voc, yolo, imagefolder])
def test_each_format_gives_the_same_kind_of_items(tmp_path: Path, make: Callable[[], Files]) -> None:
    result = inspect(tmp_path, make())

    report = result["report"]
    assert result["problems"] == []
    assert report["format"] == make.__name__
    assert report["labels"] == ["cat", "dog"]
    assert report["boxes"]["given"] == report["boxes"]["used"] == 14
    assert report["boxes"]["images_without_boxes"] == 1
    assert sum(entry["boxes"]["all"] for entry in report["classes"]) == 14
    assert "no_boxes" in {finding["code"] for finding in report["findings"]}
    items = items_of(tmp_path)
    assert {item.label for item in items} == {-1}
    assert sorted(len(item.boxes) for item in items) == [0, *[2] * 7]
    assert sum(len(PackReader(tmp_path / "outputs" / name)) for name in ("train.pack", "test.pack")) == 8


def test_boxes_are_exact_in_pixels(tmp_path: Path) -> None:
    inspect(tmp_path, coco())

    boxes = next(item.boxes for item in items_of(tmp_path) if item.name == "images/0.png")
    assert boxes == ((1.0, 4.0, 6.0, 24.0, 22.0), (0.0, 12.0, 6.0, 32.0, 22.0))


def test_boxes_shrink_with_a_large_image(tmp_path: Path) -> None:
    large = {f"images/{number}.png": encoded(picture(number, 2048)) for number in range(4)}
    rows = document(4)
    for row in rows["images"]:
        row["width"] = row["height"] = 2048

    inspect(tmp_path, {**large, "instances.json": json.dumps(rows).encode()})

    item = next(item for item in items_of(tmp_path) if item.boxes)
    assert item.size == (1024, 1024)
    assert item.boxes[0][1:] == (2.0, 3.0, 12.0, 11.0)


def test_coco_files_for_each_split_are_kept_as_uploaded(tmp_path: Path) -> None:
    files: Files = {}
    for at, part in enumerate(("train", "val", "test")):
        files |= {f"{part}2017/{number}.png": encoded(picture(100 * at + number, SIDE)) for number in range(4)}
        files[f"annotations/instances_{part}2017.json"] = json.dumps(document(4, f"{part}2017/")).encode()

    result = inspect(tmp_path, files)

    assert result["report"]["split_source"] == "uploaded"
    assert result["report"]["splits"] == {"train": 4, "validation": 4, "test": 4}
    assert {item.name.partition("2")[0] for item in items_of(tmp_path) if item.split is Split.VALIDATION} == {"val"}


def test_yaml_names_and_split_folders_are_read(tmp_path: Path) -> None:
    files: Files = {"data.yaml": b"names: {0: cat, 1: dog}\nnc: 2\n"}
    for at, part in enumerate(("train", "valid", "test")):
        for number in range(3):
            files[f"{part}/images/{number}.png"] = encoded(picture(100 * at + number, SIDE))
            files[f"{part}/labels/{number}.txt"] = b"0 0.5 0.5 0.25 0.5\n1 0.5 0.5 0.5 0.5\n"

    result = inspect(tmp_path, files)

    assert result["problems"] == []
    assert result["report"]["splits"] == {"train": 3, "validation": 3, "test": 3}


def test_voc_lists_give_the_splits(tmp_path: Path) -> None:
    lists = {"train": "0\n1\n2\n3\n", "val": "4\n5\n", "test": "6\n7\n"}
    files = {**voc(), **{f"ImageSets/Main/{name}.txt": text.encode() for name, text in lists.items()}}

    result = inspect(tmp_path, files)

    assert result["report"]["splits"] == {"train": 4, "validation": 2, "test": 2}


def test_crowds_and_unlisted_images_are_counted_not_dropped(tmp_path: Path) -> None:
    rows = document()
    rows["annotations"][0]["iscrowd"] = 1
    files = {**coco(), "instances.json": json.dumps(rows).encode(), "images/more.png": encoded(picture(99, SIDE))}

    boxes = inspect(tmp_path, files)["report"]["boxes"]

    assert (boxes["given"], boxes["used"], boxes["left_out"]["crowd_boxes"]) == (14, 13, 1)
    assert boxes["unlisted_images"] == 1


REPEATED = {
    "coco": lambda: coco(annotations=[*document()["annotations"], {**document()["annotations"][0], "id": 999}]),
    "voc": lambda: voc(
        "<object><name>cat</name><bndbox><xmin>4</xmin><ymin>6</ymin><xmax>24</xmax><ymax>22</ymax></bndbox></object>"
    ),
    "yolo": lambda: yolo("0 0.5 0.5 0.25 0.5\n"),
    "imagefolder": lambda: imagefolder(
        row=3, bbox=[[4, 6, 20, 16], [12.0, 6.0, 20.0, 16.0], [4, 6, 20, 16]], categories=["dog", "cat", "dog"]
    ),
}


@pytest.mark.parametrize("make", REPEATED.values(), ids=REPEATED.keys())
def test_a_box_that_is_given_twice_counts_once_and_that_is_told(tmp_path: Path, make: Callable[[], Files]) -> None:
    report = inspect(tmp_path, make())["report"]

    boxes = report["boxes"]
    assert (boxes["given"], boxes["used"], boxes["left_out"]["repeated_boxes"]) == (15, 14, 1)
    assert next(finding["count"] for finding in report["findings"] if finding["code"] == "repeated_boxes") == 1


def test_one_bad_box_in_a_hundred_is_left_out_and_told(tmp_path: Path) -> None:
    rows = document(60)
    rows["annotations"][7]["bbox"] = [4, 6, 0, 16]

    result = inspect(tmp_path, {**images(60), "instances.json": json.dumps(rows).encode()})

    assert result["status"] == "valid"
    assert result["report"]["boxes"]["left_out"]["bad_boxes"] == 1
    assert "bad_boxes" in {finding["code"] for finding in result["report"]["findings"]}


def changed(row: int, **values: Any) -> Files:
    rows = document()
    rows["annotations"][row] |= values
    return {**coco(), "instances.json": json.dumps(rows).encode()}


BAD_COCO = {
    "outside": (changed(2, bbox=[40, 6, 20, 16]), "bad_box", "annotation 10: outside of 48 x 48 pixels"),
    "no area": (changed(2, bbox=[4, 6, 0, 16]), "bad_box", "annotation 10: no area"),
    "negative": (changed(2, bbox=[4, 6, -3, 16]), "bad_box", "annotation 10: no area"),
    "nan": (changed(2, bbox=[float("nan"), 6, 20, 16]), "bad_box", "annotation 10: not a number"),
    "text": (changed(2, bbox=["4", 6, 20, 16]), "bad_box", "annotation 10: bbox must be four numbers"),
    "huge integer": (changed(2, bbox=[10**400, 6, 20, 16]), "bad_box", "annotation 10: bbox must be four numbers"),
    "class": (changed(2, category_id=77), "bad_class", "annotation 10: category_id 77"),
    "image": (changed(2, image_id=77), "missing_image", "annotation 10: image_id 77"),
    "twice": (changed(2, id=1), "duplicate_annotation", "annotation 1: this id occurs before"),
    "no bbox": (changed(2, bbox=None), "bad_json", "annotation 10: needs image_id, category_id and bbox"),
}


@pytest.mark.parametrize("case", BAD_COCO)
def test_a_bad_annotation_is_named_with_its_id(tmp_path: Path, case: str) -> None:
    files, code, place = BAD_COCO[case]

    assert problems(tmp_path, files) == {code: (f"instances.json: {place}",)}


def test_an_image_that_is_not_in_the_zip_is_named(tmp_path: Path) -> None:
    files = coco()
    del files["images/3.png"]

    assert problems(tmp_path, files) == {"missing_image": ("instances.json: image 3: 3.png",)}


def test_another_size_than_annotated_is_refused(tmp_path: Path) -> None:
    files = {**coco(), "images/3.png": encoded(picture(3, 40))}

    assert problems(tmp_path, files)["size_mismatch"] == ("images/3.png: 48 x 48, but is (40, 40)",)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"images": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "10 levels deep"),
        (b'{"images": [], "images": []}', "twice"),
        (b'{"images": [', "not JSON"),
        (b'{"images": {}, "annotations": [], "categories": []}', "not what COCO"),
        (b"\xff\xfe", "not JSON"),
    ],
    ids=["deep", "repeated name", "cut off", "wrong type", "not UTF-8"],
)
def test_json_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    result = inspect(tmp_path, {**images(), "instances.json": content})

    assert [problem["code"] for problem in result["problems"]] == ["bad_json"]
    assert told in result["problems"][0]["message"]


def test_json_that_is_too_large_is_refused_before_parsing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetuning.engine.intake.annotations.MAX_JSON_BYTES", 100)

    assert problems(tmp_path, coco()) == {"bad_json": ("instances.json",)}


ENTITIES = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
BAD_VOC = {
    "entities": (voc(head=ENTITIES), "bad_xml", "Annotations/0.xml: declarations and entities are not read"),
    "not closed": (voc("<object>"), "bad_xml", "Annotations/3.xml: not an annotation"),
    "deep": (voc("<a>" * 50 + "</a>" * 50), "bad_xml", "Annotations/3.xml: not an annotation"),
    "no name": (voc("<object><bndbox/></object>"), "bad_class", "Annotations/3.xml: object 3 has no name"),
    "no corner": (
        voc("<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object>"),
        "bad_box",
        "Annotations/3.xml: object 3: bndbox needs xmin, ymin, xmax, ymax",
    ),
    "orphan": (
        {**voc(), "Annotations/99.xml": b"<annotation><filename>99.png</filename></annotation>"},
        "missing_image",
        "Annotations/99.xml: 99.png",
    ),
}


@pytest.mark.parametrize("case", BAD_VOC)
def test_bad_xml_is_named_with_its_file(tmp_path: Path, case: str) -> None:
    files, code, place = BAD_VOC[case]

    assert problems(tmp_path, files)[code][0] == place


BAD_YOLO = {
    "words": (yolo("cat 0.5 0.5 0.1 0.1\n"), "bad_line", "labels/3.txt line 3"),
    "four numbers": (yolo("0 0.5 0.5 0.1\n"), "bad_line", "labels/3.txt line 3"),
    "class": (yolo("2 0.5 0.5 0.1 0.1\n"), "bad_class", "labels/3.txt line 3: class 2 of 2"),
    "negative class": (yolo("-1 0.5 0.5 0.1 0.1\n"), "bad_class", "labels/3.txt line 3: class -1 of 2"),
    "outside": (yolo("0 0.9 0.5 0.4 0.1\n"), "bad_box", "labels/3.txt line 3: outside of 48 x 48 pixels"),
    "nan": (yolo("0 nan 0.5 0.4 0.1\n"), "bad_box", "labels/3.txt line 3: not a number"),
    "no area": (yolo("0 0.5 0.5 0 0.1\n"), "bad_box", "labels/3.txt line 3: no area"),
    "orphan": (
        {**yolo(), "labels/99.txt": b"0 0.5 0.5 0.1 0.1\n"},
        "missing_image",
        "labels/99.txt: no image of this name",
    ),
    "same class": (yolo(classes="cat\ncat\n"), "bad_class", "classes.txt: cat is listed twice"),
}


@pytest.mark.parametrize("case", BAD_YOLO)
def test_a_bad_line_is_named_with_its_number(tmp_path: Path, case: str) -> None:
    files, code, place = BAD_YOLO[case]

    assert problems(tmp_path, files) == {code: (place,)}


PLACE = "data/metadata.jsonl line 4"
BAD_FOLDER = {
    "lengths": (imagefolder(3, categories=["dog"]), "bad_json", f"{PLACE}: 2 boxes, but 1 categories"),
    "no boxes": (imagefolder(3, bbox=None), "bad_json", f"{PLACE}: objects needs the lists bbox and categories"),
    "corner": (imagefolder(3, bbox=[[1, 2, 3], [4, 6, 9, 9]]), "bad_box", f"{PLACE}: bbox 1 must be four numbers"),
    "outside": (imagefolder(3, bbox=[[40, 6, 20, 9], [4, 6, 9, 9]]), "bad_box", f"{PLACE}: bbox 1: outside of 48 x 48 pixels"),
    "nan": (imagefolder(3, bbox=[[float("nan"), 6, 20, 9], [4, 6, 9, 9]]), "bad_box", f"{PLACE}: bbox 1: not a number"),
    "class": (imagefolder(3, categories=["dog", 1.5]), "bad_class", f"{PLACE}: category 2 is no name and no whole number"),
    "no image": (
        {**imagefolder(), "data/metadata.jsonl": imagefolder()["data/metadata.jsonl"].replace(b"3.png", b"x.png")},
        "missing_image",
        f"{PLACE}: x.png",
    ),
    "twice": (
        {**imagefolder(), "data/metadata.jsonl": imagefolder()["data/metadata.jsonl"].replace(b"3.png", b"2.png")},
        "duplicate_annotation",
        f"{PLACE}: 2.png is listed before",
    ),
    "no json": (
        {**imagefolder(), "data/metadata.jsonl": imagefolder()["data/metadata.jsonl"] + b"\n[]"},
        "bad_json",
        "data/metadata.jsonl line 9: not an object",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FOLDER)
def test_a_bad_line_of_an_image_folder_is_named(tmp_path: Path, case: str) -> None:
    files, code, place = BAD_FOLDER[case]

    assert problems(tmp_path, files)[code] == (place,)


def test_split_folders_with_metadata_of_their_own_are_kept_as_uploaded(tmp_path: Path) -> None:
    files: Files = {}
    for at, part in enumerate(("train", "validation", "test")):
        rows = []
        for number in range(3):
            files[f"{part}/{number}.png"] = encoded(picture(100 * at + number, SIDE))
            rows.append({"file_name": f"{number}.png", "objects": {"bbox": [[4, 6, 20, 16]] * 2, "category": [0, 1]}})
        files[f"{part}/metadata.jsonl"] = "\n".join(map(json.dumps, rows)).encode()

    report = inspect(tmp_path, files)["report"]

    assert report["splits"] == {"train": 3, "validation": 3, "test": 3}
    assert report["labels"] == ["0", "1"]
    assert "tables" not in report["skipped"]


def test_yolo_without_names_is_refused(tmp_path: Path) -> None:
    files = yolo()
    del files["classes.txt"]

    assert "no_classes" in problems(tmp_path, files)


def test_yaml_aliases_are_refused(tmp_path: Path) -> None:
    files = {**yolo(), "data.yaml": b"a: &a [x, x]\nnames: [*a, *a]\n"}

    assert problems(tmp_path, files) == {"bad_yaml": ("data.yaml",)}


def test_a_zip_of_images_alone_has_no_boxes(tmp_path: Path) -> None:
    assert "unlabelled" in problems(tmp_path, images())


def test_two_formats_at_once_are_refused(tmp_path: Path) -> None:
    assert "several_formats" in problems(tmp_path, {**yolo(), **coco()})


def test_duplicates_stay_together_and_count_as_one(tmp_path: Path) -> None:
    files = coco()
    files["images/1.png"] = files["images/0.png"]

    report = inspect(tmp_path, files)["report"]

    assert report["duplicates"]["exact"] == [[1, 2]]
    one, other = (item for item in items_of(tmp_path) if item.index in {1, 2})
    assert one.group == other.group != ""
    assert one.split is other.split


def test_every_task_has_its_intake() -> None:
    assert intake.module_of(Task.OBJECT_DETECTION).__name__.endswith("detection")
