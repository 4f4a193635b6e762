"""Uploads whose images have any number of labels: read, counted, split, and refused in words."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from archives_factory import inspected, items_of
from label_sets_factory import scene, upload
from shapes_factory import LABELS

from finetuning.engine.packs import PackReader
from finetuning.engine.spec import Split

Files = dict[str, bytes]


def problems(run_dir: Path, files: Files) -> dict[str, tuple[str, ...]]:
    result = inspected(run_dir, files)
    assert result["status"] == "invalid"
    return {problem["code"]: problem["items"] for problem in result["problems"]}


def as_jsonl(files: Files) -> Files:
    rows = [line.split(",") for line in files["labels.csv"].decode().splitlines()[1:]]
    lines = [json.dumps({"file_name": name, "labels": [part for part in own.split(";") if part]}) for name, own in rows]
    images = {name.removeprefix("images/"): content for name, content in files.items() if name != "labels.csv"}
    return {**images, "metadata.jsonl": "\n".join(lines).encode()}


@pytest.mark.parametrize(
    "files", [upload(), upload(separator="|"), as_jsonl(upload())], ids=["semicolon", "bar", "json"]
)
def test_label_sets_are_read_and_counted(tmp_path: Path, files: Files) -> None:
    result = inspected(tmp_path, files, salt="s")

    report = result["report"]
    assert result["problems"] == []
    assert report["multi_label"] is True
    assert report["labels"] == sorted(LABELS)
    shown = [scene(number)[1] for number in range(60)]
    counts = Counter(label for own in shown for label in own)
    assert {row["label"]: row["images"] for row in report["classes"]} == counts
    assert report["label_sets"]["images_without_labels"] == sum(not own for own in shown) > 0
    assert report["label_sets"]["labels_given"] == counts.total()
    assert sum(row["images"] for row in report["label_sets"]["per_image"]["histogram"]) == 60
    assert "without_labels" in {finding["code"] for finding in report["findings"]}
    items = items_of(tmp_path)
    assert {item.label for item in items} == {-1}
    by_name = {int(item.name[-7:-4]): {report["labels"][at] for at in item.labels} for item in items}
    assert by_name == {number: set(own) for number, own in enumerate(shown)}
    assert sum(len(PackReader(tmp_path / "outputs" / name)) for name in ("train.pack", "test.pack")) == 60


def test_every_label_reaches_every_split_and_splits_are_sticky(tmp_path: Path) -> None:
    for name, count in (("few", 60), ("more", 90)):
        (tmp_path / name).mkdir()
        inspected(tmp_path / name, upload(count), salt="s")

    few, more = ({item.name: item for item in items_of(tmp_path / name)} for name in ("few", "more"))
    for split in Split:
        assert {at for item in few.values() if item.split is split for at in item.labels} == {0, 1, 2}
    moved = [name for name, item in few.items() if more[name].split is not item.split]
    assert len(moved) <= 2  # only what was lent to a split that a label missed


def changed(line: str) -> Files:
    """Returns an upload whose fourth row (line 5) is another."""
    files = upload(30)
    lines = files["labels.csv"].decode().splitlines()
    lines[4] = line
    return {**files, "labels.csv": "\n".join(lines).encode()}


BAD: dict[str, tuple[Files, str, str]] = {
    "empty label": (changed("003.png,disc;;square"), "empty_label", "line 5: disc;;square"),
    "trailing separator": (changed("003.png,disc;"), "empty_label", "line 5: disc;"),
    "twice": (changed("003.png,disc;square;disc"), "repeated_label", "line 5: disc"),
    "comma": (changed('003.png,"disc,square"'), "bad_separator", "line 5: disc,square"),
    "further cells": (changed("003.png,disc,square"), "bad_separator", "line 5: disc"),
    "the other separator": (changed("003.png,disc|square"), "bad_separator", "line 5: disc|square"),
    "no image": (changed("999.png,disc"), "missing_image", "line 5: 999.png"),
    "again": (changed("002.png,square"), "label_conflict", "line 5: 002.png"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, case: str) -> None:
    files, code, place = BAD[case]

    assert problems(tmp_path, files)[code] == (place,)


def test_a_label_beside_lists_is_refused(tmp_path: Path) -> None:
    files = as_jsonl(upload(30))
    lines = files["metadata.jsonl"].decode().splitlines()
    lines[4] = json.dumps({"file_name": "004.png", "labels": "disc"})

    found = problems(tmp_path, {**files, "metadata.jsonl": "\n".join(lines).encode()})

    assert found == {"bad_labels": ("line 5: 'disc' is no list",)}


def table(rows: list[str]) -> Files:
    images = {name: content for name, content in upload(len(rows)).items() if name != "labels.csv"}
    lines = [f"{number:03d}.png,{row}" for number, row in enumerate(rows)]
    return {**images, "labels.csv": "\n".join(["file,labels", *lines]).encode()}


def test_a_table_without_any_label_or_with_one_class_is_refused(tmp_path: Path) -> None:
    assert "unlabelled" in problems(tmp_path, table([""] * 8))
    assert "too_few_classes" in problems(tmp_path, table(["cat"] * 4 + [""] * 4))


def test_more_than_512_labels_are_refused(tmp_path: Path) -> None:
    many = ";".join(f"label {number}" for number in range(513))

    found = problems(tmp_path, table([many] * 8))

    assert "too_many_classes" in found


def test_a_column_label_still_means_one_class_each(tmp_path: Path) -> None:
    files = table(["cat;dog", "cat;dog", "cat", "cat"] * 3)
    files["labels.csv"] = files["labels.csv"].replace(b"file,labels", b"file,label")

    report: dict[str, Any] = inspected(tmp_path, files)["report"]

    assert report["labels"] == ["cat", "cat;dog"]
    assert "multi_label" not in report
