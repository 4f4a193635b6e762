"""What each format answers to malformed, missing, contradictory and hostile uploads: a code, words that say what to
do, and the file and line. Run through the engine's verb, as the site does."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives_factory import encoded, inspected, inspected_bytes, items_of, picture
from PIL import Image

from finetuning.engine.spec import Task

SIDE = 48
Files = dict[str, bytes]
DETECTION, SEGMENTATION, TEXT = Task.OBJECT_DETECTION, Task.SEMANTIC_SEGMENTATION, Task.TEXT_CLASSIFICATION


def pictures(count: int = 12, prefix: str = "images/") -> Files:
    return {f"{prefix}{number}.png": encoded(picture(number, SIDE)) for number in range(count)}


def coco(count: int = 12, **changes: Any) -> dict[str, Any]:
    """A COCO document of one box an image, with `changes` to the first annotation, or to the document."""
    document: dict[str, Any] = {
        "images": [{"id": at, "file_name": f"{at}.png", "width": SIDE, "height": SIDE} for at in range(count)],
        "annotations": [
            {"id": at + 100, "image_id": at, "category_id": at % 2, "bbox": [4, 4, 20, 20]} for at in range(count)
        ],
        "categories": [{"id": 0, "name": "cup"}, {"id": 1, "name": "pan"}],
    }
    for key, value in changes.items():
        (document if key in document else document["annotations"][0])[key] = value
    return document


def with_coco(document: Any) -> Files:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return {**pictures(), "annotations/instances.json": content}


def voc(box: str = "<xmin>4</xmin><ymin>4</ymin><xmax>30</xmax><ymax>30</ymax>", head: str = "", **first: str) -> Files:
    """VOC files; the first has `box`, `head` before it, and may be replaced as a whole by `whole`."""
    files = pictures(prefix="JPEGImages/")
    for at in range(12):
        own = box if at == 0 else "<xmin>4</xmin><ymin>4</ymin><xmax>30</xmax><ymax>30</ymax>"
        text = (
            f"{head if at == 0 else ''}<annotation><filename>{at}.png</filename>"
            f"<object><name>{'cup' if at % 2 else 'pan'}</name><bndbox>{own}</bndbox></object></annotation>"
        )
        files[f"Annotations/{at}.xml"] = text.encode()
    files |= {"Annotations/0.xml": first["whole"].encode()} if "whole" in first else {}
    return files


def yolo(first: str = "0 0.5 0.5 0.4 0.4", **changes: bytes) -> Files:
    labels = {f"labels/{at}.txt": (first if at == 0 else f"{at % 2} 0.5 0.5 0.4 0.4").encode() for at in range(12)}
    return {**pictures(), **labels, "classes.txt": b"cup\npan\n", **changes}


def masks(first: bytes | None = None, **changes: bytes) -> Files:
    """Images and masks of the classes 0 and 1."""
    rows = np.zeros((SIDE, SIDE), np.uint8)
    rows[10:30, 10:30] = 1
    plain = encoded(Image.fromarray(rows))
    files = {**pictures(), **{f"masks/{at}.png": plain for at in range(12)}, "classes.txt": b"ground\ncup\n"}
    return {**files, **({"masks/0.png": first} if first is not None else {}), **changes}


def mask(value: int = 1, side: int = SIDE, mode: str = "L") -> bytes:
    return encoded(Image.new(mode, (side, side), value))


def csv(*rows: str, header: str = "text,label") -> bytes:
    good = [f"a good text of number {at} {at * 7919},{'yes' if at % 2 else 'no'}" for at in range(12)]
    return "\n".join([header, *rows, *good]).encode()


def deep(levels: int) -> bytes:
    return b'{"images":' + b"[" * levels + b"]" * levels + b"}"


def without(files: Files, name: str) -> Files:
    return {other: content for other, content in files.items() if other != name}


BOMB_YAML = b"a: &a [x,x]\nb: &b [*a,*a]\nnames: [*b,*b]\n"
ENTITY = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
# case: (task, upload, code, what the places must name)
CASES: dict[str, tuple[Task, Files, str, str]] = {
    # COCO boxes
    "coco: not JSON": (DETECTION, with_coco(b'{"images": [,'), "bad_json", "annotations/instances.json line 1"),
    "coco: not UTF-8": (DETECTION, with_coco(b'{"images": "\xff\xfe"}'), "bad_json", "annotations/instances.json"),
    "coco: eleven levels": (DETECTION, with_coco(deep(11)), "bad_json", "annotations/instances.json"),
    "coco: a million levels": (DETECTION, with_coco(deep(100_000)), "bad_json", "annotations/instances.json"),
    "coco: a name twice": (DETECTION, with_coco(b'{"images":[],"images":[]}'), "bad_json", "instances.json"),
    "coco: lists missing": (DETECTION, with_coco({"images": []}), "bad_json", "annotations/instances.json"),
    "coco: outside": (DETECTION, with_coco(coco(bbox=[40, 4, 20, 20])), "bad_box", "annotation 100"),
    "coco: no area": (DETECTION, with_coco(coco(bbox=[4, 4, 0, 20])), "bad_box", "annotation 100"),
    "coco: negative": (DETECTION, with_coco(coco(bbox=[30, 30, -20, -20])), "bad_box", "annotation 100"),
    "coco: NaN": (DETECTION, with_coco(coco(bbox=[float("nan"), 4, 20, 20])), "bad_box", "annotation 100"),
    "coco: infinite": (DETECTION, with_coco(coco(bbox=[4, 4, float("inf"), 20])), "bad_box", "annotation 100"),
    "coco: huge integer": (DETECTION, with_coco(coco(bbox=[4, 4, 10**400, 20])), "bad_box", "annotation 100"),
    "coco: words": (DETECTION, with_coco(coco(bbox=["4", 4, 20, 20])), "bad_box", "annotation 100"),
    "coco: three numbers": (DETECTION, with_coco(coco(bbox=[4, 4, 20])), "bad_box", "annotation 100"),
    "coco: unknown class": (DETECTION, with_coco(coco(category_id=7)), "bad_class", "category_id 7"),
    "coco: unknown image": (DETECTION, with_coco(coco(image_id=77)), "missing_image", "image_id 77"),
    "coco: image not in zip": (DETECTION, without(with_coco(coco()), "images/3.png"), "missing_image", "3.png"),
    "coco: id twice": (DETECTION, with_coco(coco(id=101)), "duplicate_annotation", "annotation 101"),
    "coco: another size": (
        DETECTION,
        with_coco(coco(images=[{"id": at, "file_name": f"{at}.png", "width": 9, "height": 9} for at in range(12)])),
        "size_mismatch",
        "images/0.png",
    ),
    "coco: two classes of a name": (
        DETECTION,
        with_coco(coco(categories=[{"id": 0, "name": "cup"}, {"id": 1, "name": "cup"}])),
        "bad_class",
        "cup",
    ),
    "coco: a path outside": (
        DETECTION,
        with_coco(coco(images=[{"id": at, "file_name": f"../../etc/{at}.txt"} for at in range(12)])),
        "missing_image",
        "../../etc/0.txt",
    ),
    # Pascal VOC
    "voc: entities": (DETECTION, voc(head=ENTITY), "bad_xml", "Annotations/0.xml"),
    "voc: cut off": (DETECTION, voc(whole="<annotation><object>"), "bad_xml", "Annotations/0.xml"),
    "voc: deep": (DETECTION, voc(whole="<annotation>" * 5000 + "</annotation>" * 5000), "bad_xml", "Annotations/0.xml"),
    "voc: outside": (
        DETECTION,
        voc("<xmin>4</xmin><ymin>4</ymin><xmax>300</xmax><ymax>30</ymax>"),
        "bad_box",
        "Annotations/0.xml: object 1",
    ),
    "voc: turned around": (
        DETECTION,
        voc("<xmin>30</xmin><ymin>4</ymin><xmax>4</xmax><ymax>30</ymax>"),
        "bad_box",
        "Annotations/0.xml: object 1",
    ),
    "voc: nan": (
        DETECTION,
        voc("<xmin>nan</xmin><ymin>4</ymin><xmax>40</xmax><ymax>30</ymax>"),
        "bad_box",
        "Annotations/0.xml: object 1",
    ),
    "voc: no box": (DETECTION, voc("<xmin>4</xmin>"), "bad_box", "Annotations/0.xml: object 1"),
    "voc: no image": (DETECTION, without(voc(), "JPEGImages/5.png"), "missing_image", "Annotations/5.xml"),
    # YOLO
    "yolo: words": (DETECTION, yolo("cup 0.5 0.5 0.4 0.4"), "bad_line", "labels/0.txt line 1"),
    "yolo: four numbers": (DETECTION, yolo("0 0.5 0.5 0.4"), "bad_line", "labels/0.txt line 1"),
    "yolo: second line": (DETECTION, yolo("0 0.5 0.5 0.4 0.4\n0 1 2"), "bad_line", "labels/0.txt line 2"),
    "yolo: unknown class": (DETECTION, yolo("9 0.5 0.5 0.4 0.4"), "bad_class", "labels/0.txt line 1"),
    "yolo: pixels, not shares": (DETECTION, yolo("0 20 20 10 10"), "bad_box", "labels/0.txt line 1"),
    "yolo: nan": (DETECTION, yolo("0 nan 0.5 0.4 0.4"), "bad_box", "labels/0.txt line 1"),
    "yolo: no area": (DETECTION, yolo("0 0.5 0.5 0 0.4"), "bad_box", "labels/0.txt line 1"),
    "yolo: no classes": (DETECTION, without(yolo(), "classes.txt"), "no_classes", ""),
    "yolo: class twice": (DETECTION, yolo(**{"classes.txt": b"cup\ncup\n"}), "bad_class", "classes.txt: cup"),
    "yolo: aliases in YAML": (
        DETECTION,
        {**without(yolo(), "classes.txt"), "data.yaml": BOMB_YAML},
        "bad_yaml",
        "data.yaml",
    ),
    "yolo: no image": (DETECTION, without(yolo(), "images/4.png"), "missing_image", "labels/4.txt"),
    "two formats": (DETECTION, {**yolo(), "a.json": json.dumps(coco()).encode()}, "several_formats", "coco, yolo"),
    # Masks
    "mask: another size": (SEGMENTATION, masks(mask(side=40)), "mask_size", "masks/0.png"),
    "mask: unknown id": (SEGMENTATION, masks(mask(9)), "bad_class", "masks/0.png: 9"),
    "mask: JPEG": (
        SEGMENTATION,
        {**without(masks(), "masks/0.png"), "masks/0.jpg": encoded(picture(0, SIDE), "JPEG")},
        "mask_format",
        "masks/0.jpg",
    ),
    "mask: cut off": (SEGMENTATION, masks(mask()[:60]), "bad_mask", "masks/0.png"),
    "mask: missing": (SEGMENTATION, without(masks(), "masks/0.png"), "missing_mask", "images/0.png"),
    "image missing": (SEGMENTATION, without(masks(), "images/0.png"), "missing_image", "masks/0.png"),
    "mask: colors without a table": (
        SEGMENTATION,
        masks(encoded(Image.new("RGB", (SIDE, SIDE), (9, 8, 7)))),
        "colors_missing",
        "masks/0.png",
    ),
    "classes: id twice": (SEGMENTATION, masks(**{"classes.txt": b"0,a\n0,b\n"}), "bad_classes", "line 2"),
    "outlines: deep": (SEGMENTATION, with_coco(deep(11)), "bad_json", "annotations/instances.json"),
    "outlines: outside": (
        SEGMENTATION,
        with_coco(coco(segmentation=[[400, 400, 500, 400, 500, 500]])),
        "polygon_outside",
        "annotation 100",
    ),
    "outlines: two points": (
        SEGMENTATION,
        with_coco(coco(segmentation=[[4, 4, 20, 20]])),
        "bad_polygon",
        "annotation 100",
    ),
    "outlines: NaN": (
        SEGMENTATION,
        with_coco(coco(segmentation=[[float("nan"), 4, 20, 4, 20, 20]])),
        "bad_polygon",
        "annotation 100",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_zip_is_answered_with_what_where_and_what_to_do(tmp_path: Path, case: str) -> None:
    task, files, code, place = CASES[case]

    result = inspected(tmp_path, files, task=task)

    assert result["status"] == "invalid"
    found = {problem["code"]: problem for problem in result["problems"]}
    assert code in found, result["problems"]
    assert place in " ".join(found[code]["items"])
    assert found[code]["message"].endswith(".")
    assert found[code]["message"].count(".") >= 2 or ", " in found[code]["message"]  # what is wrong, and what to do


TEXTS: dict[str, tuple[bytes, str, str]] = {
    "csv: nothing": (b"", "empty_file", ""),
    "csv: no label column": (csv(header="text,mood"), "missing_columns", "mood"),
    "csv: too many cells": (csv("one,two,three"), "bad_row", "line 2"),
    "csv: open quote": (csv('"never closed,yes'), "bad_csv", "line 2"),
    "csv: another encoding": (csv().replace(b"good", "schön".encode("latin-1")), "encoding", "line 2"),
    "csv: no label": (csv("a text without,"), "unlabelled", "line 2"),
    "csv: unknown split": (csv("t,yes,exam", header="text,label,split"), "bad_row", "line 3"),
    "csv: a text under two labels": (csv("same text,yes", "same text,no"), "label_conflict", "line 2: yes, line 3: no"),
    "csv: many empty texts": (csv(",yes", ",no", " ,yes"), "empty_text", "line 2"),
    "csv: texts of 200,000 characters": (csv("x" * 200_000 + ",yes", "y" * 200_000 + ",no"), "text_too_long", "line 2"),
    "csv: a text of 11 MB": (csv("x" * 11_000_000 + ",yes"), "row_too_large", "line 2"),
    "csv: binary": (bytes(range(256)) * 40, "encoding", "line"),
    "jsonl: deep": (b'{"text": "a", "label": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "bad_json", "line 1"),
    "jsonl: one list": (b'[{"text": "a", "label": "b"}]', "not_json_lines", ""),
    "jsonl: cut off": (b'{"text": "a", "label": "b"}\n{"text": "a", "la', "bad_json", "line 2"),
    "jsonl: a key twice": (b'{"text": "a", "text": "b", "label": "c"}', "duplicate_key", "line 1"),
    "jsonl: NaN": (b'{"text": "a", "label": NaN}', "bad_json", "line 1"),
    "jsonl: a list for a text": (b'{"text": ["a"], "label": "b"}', "bad_text", "line 1"),
    "jsonl: half a surrogate": (b'{"text": "\\ud800", "label": "b"}', "bad_text", "line 1"),
    "a picture": (encoded(picture(1, SIDE)), "encoding", "line"),
    "another archive": (b"Rar!\x1a\x07\x00" + b"x" * 200, "file_type", ""),
}


@pytest.mark.parametrize("case", TEXTS)
def test_a_bad_table_is_answered_with_what_where_and_what_to_do(tmp_path: Path, case: str) -> None:
    content, code, place = TEXTS[case]

    result = inspected_bytes(tmp_path, content, task=TEXT)

    found = {problem["code"]: problem for problem in result["problems"]}
    assert code in found, result["problems"]
    assert place in " ".join(found[code]["items"])
    assert found[code]["message"].count(".") >= 2 or ": " in found[code]["message"]


def test_formulas_stay_text(tmp_path: Path) -> None:
    formulas = ('"=HYPERLINK(""http://evil"",""x"")",yes', "@SUM(1),no", "+1+cmd|' /C calc'!A0,yes", "-2+3,no")

    result = inspected_bytes(tmp_path, csv(*formulas), task=TEXT)

    assert result["status"] == "valid", result["problems"]
    texts = {item.text for item in items_of(tmp_path)}
    assert {'=HYPERLINK("http://evil","x")', "@SUM(1)", "+1+cmd|' /C calc'!A0", "-2+3"} <= texts


def test_an_annotation_file_beyond_its_limit_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in pictures().items():
            archive.writestr(name, content)
        archive.writestr("instances.json", b'{"images": [' + b" " * (49 << 20) + b"]}")

    result = inspected_bytes(tmp_path, file.getvalue(), task=DETECTION)

    (problem,) = result["problems"]
    assert (problem["code"], problem["items"]) == ("bad_json", ("instances.json",))
    assert "48 MiB" in problem["message"]


@pytest.mark.parametrize("task", [DETECTION, SEGMENTATION])
def test_class_folders_are_told_what_this_task_needs(tmp_path: Path, task: Task) -> None:
    result = inspected(tmp_path, {f"cats/{at}.png": encoded(picture(at, SIDE)) for at in range(8)}, task=task)

    (problem,) = result["problems"]
    assert problem["code"] in {"unlabelled", "unplaced"}
    assert "COCO" in problem["message"]
