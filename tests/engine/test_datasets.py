"""Layouts, labels and splits of an upload, through the whole verb."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from archives_factory import class_folders, encoded, inspected, items_of, picture
from hypothesis import given
from hypothesis import strategies as st

from finetuning.engine import splits
from finetuning.engine.events import EventTail, Kind
from finetuning.engine.packs import PackReader
from finetuning.engine.spec import ArchiveLimits, Split

RECIPE = splits.Recipe(salt="salt", test=0.15, validation=0.15)


def codes(result: dict[str, Any]) -> list[str]:
    return [problem["code"] for problem in result["problems"]]


@pytest.mark.parametrize("prefix", ["", "pets/", "a/b/"])
def test_class_folders_are_found_below_a_wrapper(tmp_path: Path, prefix: str) -> None:
    files = {**class_folders(prefix=prefix), f"{prefix}README.md": b"about"}

    result = inspected(tmp_path, files)

    assert result["problems"] == []
    assert result["report"]["labels"] == ["cats", "dogs"]
    assert result["report"]["images"] == 16
    assert result["report"]["split_source"] == "ours"


def test_split_folders_are_kept_as_uploaded(tmp_path: Path) -> None:
    parts = {"train": ("red", 0), "valid": ("green", 1), "test": ("blue", 2)}
    files = {
        f"data/{folder}/{label}/{number}.png": encoded(picture(100 * at + 10 * ord(label[0]) + number))
        for folder, (_, at) in parts.items()
        for label in ("cats", "dogs")
        for number in range(3)
    }

    result = inspected(tmp_path, files)

    assert result["report"]["split_source"] == "uploaded"
    assert result["report"]["splits"] == {"train": 6, "validation": 6, "test": 6}
    folder_of = {Split.TRAIN: "train", Split.VALIDATION: "valid", Split.TEST: "test"}
    assert all(folder_of[item.split] in item.name for item in items_of(tmp_path))


def test_missing_test_folder_is_carved_out_of_training(tmp_path: Path) -> None:
    files = {**class_folders(images=12, prefix="train/")}
    files |= {
        f"val/{label}/{n}.png": encoded(picture(n + 7000 + 50 * len(label)))
        for label in ("cats", "dogs")
        for n in (1, 2)
    }
    files["val/dogs/3.png"] = encoded(picture(9000))
    files["val/dogs/1.png"], files["val/dogs/2.png"] = encoded(picture(9001)), encoded(picture(9002))

    report = inspected(tmp_path, files)["report"]

    assert report["splits"]["validation"] == 5
    assert all(entry["test"] >= 1 for entry in report["classes"])
    assert all(item.name.startswith("train/") for item in items_of(tmp_path) if item.split is Split.TEST)


def test_classes_without_training_images_are_refused(tmp_path: Path) -> None:
    files = {**class_folders(prefix="train/"), **class_folders(("birds",), 3, prefix="test/")}

    assert codes(inspected(tmp_path, files)) == ["class_not_in_train"]


TABLE = [
    ("img/1.png", "cat"),
    ("img/2.png", "cat"),
    ("img/3.png", "\u732b\U0001f63a"),
    ("img/4.png", "\u732b\U0001f63a"),
]
IMAGES = {name: encoded(picture(number)) for number, (name, _) in enumerate(TABLE)}


def table(header: str, delimiter: str, newline: str, encoding: str) -> bytes:
    lines = [header.replace(",", delimiter), *(delimiter.join(row) for row in TABLE)]
    return newline.join(lines).encode(encoding)


@pytest.mark.parametrize("header", ["file,label", "Filename,CLASS", "image,target", " path , label "])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("newline", "encoding"),
    [("\n", "utf-8"), ("\r\n", "utf-8-sig"), ("\n", "utf-16"), ("\r\n", "utf-16-le"), ("\n", "utf-16-be")],
)
def test_tables_of_every_spreadsheet_are_read(
    tmp_path: Path, header: str, delimiter: str, newline: str, encoding: str
) -> None:
    content = table(header, delimiter, newline, encoding)

    result = inspected(tmp_path, {**IMAGES, "labels.csv": content})

    assert result["problems"] == []
    assert result["report"]["labels"] == ["cat", "\u732b\U0001f63a"]


def test_table_may_give_splits_and_bare_or_windows_names(tmp_path: Path) -> None:
    rows = ["file,label,split", "1,a,train", "2.png,b,Train", "img\\3.png,a,valid", "./img/4.png,b,test"]

    report = inspected(tmp_path, {**IMAGES, "x.csv": "\n".join(rows).encode()})["report"]

    assert report["split_source"] == "uploaded"
    assert report["splits"] == {"train": 2, "validation": 1, "test": 1}


def metadata(**labels: str | int) -> bytes:
    """An image folder's metadata.jsonl: `file_name` and `label` in each line."""
    rows = [{"file_name": f"{name}.png", "label": label, "caption": "x"} for name, label in labels.items()]
    return "\n".join(json.dumps(row) for row in rows).encode()


def test_an_image_folder_with_metadata_is_read(tmp_path: Path) -> None:
    content = metadata(**{"img/1": "cat", "img/2": "cat", "img/3": 7, "img/4": 7})

    report = inspected(tmp_path, {**IMAGES, "metadata.jsonl": content})["report"]

    assert report["labels"] == ["7", "cat"]
    assert report["split_source"] == "ours"


@pytest.mark.parametrize("wrapper", ["", "data/"])
def test_metadata_in_each_splits_folder_says_the_split(tmp_path: Path, wrapper: str) -> None:
    files: dict[str, bytes] = {}
    for seed, split in enumerate(("train", "validation", "test")):
        files |= {f"{wrapper}{split}/{at}.png": encoded(picture(100 * seed + at)) for at in range(4)}
        files[f"{wrapper}{split}/metadata.jsonl"] = metadata(**{str(at): "ab"[at % 2] for at in range(4)})

    result = inspected(tmp_path, files)

    assert result["problems"] == []
    assert result["report"]["split_source"] == "uploaded"
    assert result["report"]["splits"] == {"train": 4, "validation": 4, "test": 4}


BAD_METADATA = {
    "no such image": (metadata(**{"img/1": "a", "img/9": "b"}), "missing_image", "line 2: img/9.png"),
    "an image that no line names": (metadata(**{"img/1": "a", "img/2": "b"}), "unlabelled", "img/3.png"),
    "no label": (metadata(**{"img/1": "a", "img/2": ""}), "unlabelled", "line 2: img/2.png"),
    "two labels": (metadata(**{"img/1": "a"}) + b"\n" + metadata(**{"img/1": "b"}), "label_conflict", "line 2"),
    "an object for a label": (b'{"file_name": "img/1.png", "label": {"a": 1}}', "unlabelled", "line 1: img/1.png"),
    "cut off": (metadata(**{"img/1": "a"}) + b'\n{"file_na', "bad_json", "metadata.jsonl line 2"),
    "a name twice": (b'{"file_name": "a", "file_name": "b", "label": 1}', "bad_json", "metadata.jsonl line 1: a name"),
    "deep": (b'{"label": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "bad_json", "metadata.jsonl line 1"),
    "latin-1": ('{"label": "\u00e9"}'.encode("latin-1"), "encoding", "metadata.jsonl: line 1"),
    "a path outside": (b'{"file_name": "../../etc/passwd", "label": "a"}', "missing_image", "../../etc/passwd"),
}


@pytest.mark.parametrize("case", BAD_METADATA)
def test_bad_metadata_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    content, code, place = BAD_METADATA[case]

    result = inspected(tmp_path, {**IMAGES, "metadata.jsonl": content})

    assert codes(result) == [code]
    assert any(place in item for item in result["problems"][0]["items"]), result["problems"]


def test_metadata_beside_a_table_is_one_too_many(tmp_path: Path) -> None:
    files = {**IMAGES, "metadata.jsonl": metadata(**{"img/1": "a"}), "labels.csv": b"file,label\nimg/1.png,a"}

    assert codes(inspected(tmp_path, files)) == ["several_tables"]


def test_counts_say_what_went_in_and_what_was_left_out(tmp_path: Path) -> None:
    files = {**class_folders(images=60), "cats/broken.png": b"\x89PNG\r\n\x1a\nbroken"}

    assert inspected(tmp_path, files)["report"]["counts"] == {"given": 121, "used": 120, "left_out": 1}


BAD_TABLES = {
    "missing image": ("file,label\nimg/1.png,a\nimg/9.png,b", "missing_image"),
    "image not named": ("file,label\nimg/1.png,a\nimg/2.png,b", "unlabelled"),
    "blank label": ("file,label\nimg/1.png,a\nimg/2.png,\n", "unlabelled"),
    "no rows": ("file,label\n", "unlabelled"),
    "bad split": ("file,label,split\nimg/1.png,a,sometimes", "bad_split"),
    "two labels": ("file,label\nimg/1.png,a\nimg/1.png,b", "label_conflict"),
    "open quote": ('file,label\n"img/1.png,a', "bad_csv"),
    "nul": ("file,label\nimg/1.png,a\0b", None),
    "no columns": ("name,kind\nimg/1.png,a", "too_few_classes"),
}


@pytest.mark.parametrize(("text", "code"), BAD_TABLES.values(), ids=BAD_TABLES.keys())
def test_bad_table_is_refused_with_its_code(tmp_path: Path, text: str, code: str | None) -> None:
    result = inspected(tmp_path, {**IMAGES, "labels.csv": text.encode()})

    assert result["status"] == "invalid"
    assert code is None or codes(result)[0] == code


def test_invalid_utf8_names_its_line(tmp_path: Path) -> None:
    problem = inspected(tmp_path, {**IMAGES, "labels.csv": b"file,label\nimg/1.png,\xff\xfa"})["problems"][0]

    assert problem["code"] == "encoding"
    assert "line 2" in problem["message"]


def test_two_tables_are_refused(tmp_path: Path) -> None:
    content = table("file,label", ",", "\n", "utf-8")

    assert codes(inspected(tmp_path, {**IMAGES, "a.csv": content, "b.csv": content})) == ["several_tables"]


@pytest.mark.parametrize(
    ("label", "code"),
    [(".hidden", "bad_label"), ("/etc", "bad_label"), ("\\x", "bad_label"), ("x" * 300, "label_too_long")],
)
def test_labels_that_cannot_be_classes_are_refused(tmp_path: Path, label: str, code: str) -> None:
    rows = ["file,label", *(f"{name},{label if at < 2 else 'good'}" for at, (name, _) in enumerate(TABLE))]

    assert codes(inspected(tmp_path, {**IMAGES, "t.csv": "\n".join(rows).encode()})) == [code]


def test_a_label_of_a_hundred_characters_is_accepted(tmp_path: Path) -> None:
    long = "\u732b" * 100
    rows = [
        "file,label",
        *(f"{name},{long if at < 2 else 'x'}" for at, (name, _) in enumerate(TABLE)),
    ]

    assert codes(inspected(tmp_path, {**IMAGES, "t.csv": "\n".join(rows).encode()})) == []


def test_too_small_sets_are_refused_with_advice(tmp_path: Path) -> None:
    one_class = inspected(tmp_path, class_folders(("cats",)))
    one_image = inspected(tmp_path, {**class_folders(), "birds/1.png": encoded(picture(5))})
    loose = inspected(tmp_path, {**class_folders(), "1.png": encoded(picture(5))})

    assert codes(one_class) == ["too_few_classes"]
    assert codes(one_image) == ["too_few_per_class"]
    assert one_image["problems"][0]["items"] == ("birds: 1",)
    assert codes(loose) == ["unlabelled"]
    assert "folder" in loose["problems"][0]["message"]


def test_one_bad_image_is_skipped_and_listed_but_two_of_sixteen_are_not(tmp_path: Path) -> None:
    one = {**class_folders(), "cats/bad.png": b"no image"}
    two = {**one, "dogs/bad.jpg": encoded(picture(1), "BMP")}

    skipped, refused = inspected(tmp_path, one), inspected(tmp_path, two)

    assert [entry["name"] for entry in skipped["report"]["corrupt"]] == ["cats/bad.png"]
    assert skipped["report"]["images"] == 16
    assert codes(refused) == ["bad_image", "type_mismatch"]


def test_a_class_left_with_one_readable_image_is_refused(tmp_path: Path) -> None:
    files = {**class_folders(images=60), "birds/1.png": encoded(picture(5)), "birds/2.png": b"no image"}

    assert codes(inspected(tmp_path, files)) == ["too_few_per_class"]


def test_packs_hold_what_the_index_says(tmp_path: Path) -> None:
    inspected(tmp_path, class_folders(images=10))
    packs = {name: PackReader(tmp_path / f"outputs/{name}.pack") for name in ("train", "test", "thumbnails")}
    items = items_of(tmp_path)

    assert [item.split for item in packs["test"].items] == [Split.TEST] * len(packs["test"])
    assert Split.TEST not in {item.split for item in packs["train"].items}
    assert sorted(item.index for name in ("train", "test") for item in packs[name].items) == list(range(1, 21))
    assert [item.file for item in packs["thumbnails"].items] == [f"{n:06d}.jpg" for n in range(1, 21)]
    first = packs["train"].items[0]
    original = class_folders(images=10)[first.name]
    assert packs["train"].content(first)[:4] == original[:4]
    assert packs["train"].image(first).size == (first.width, first.height) == (48, 48)
    assert first == items[first.index - 1]


def test_events_tell_stages_and_end_with_full_progress(tmp_path: Path) -> None:
    result = inspected(tmp_path, class_folders())
    events = EventTail(tmp_path / "events.jsonl").read()

    assert [event.payload["name"] for event in events if event.kind is Kind.STAGE] == [
        "archive",
        "images",
        "duplicates",
        "packs",
    ]
    progress = [event.payload for event in events if event.kind is Kind.PROGRESS]
    assert (progress[-1]["done"], progress[-1]["total"]) == (16, 16)
    assert json.dumps(result)


def test_large_images_are_stored_smaller_and_noted(tmp_path: Path) -> None:
    wide, large = picture(77, side=1500).crop((0, 0, 1500, 1200)), picture(78, side=2400).crop((0, 0, 2400, 2000))
    files = {
        **class_folders(images=3),
        "cats/large.png": encoded(wide),
        "dogs/large.jpg": encoded(large, "JPEG"),
        "dogs/wide.jpg": encoded(wide.rotate(180), "JPEG"),
    }

    report = inspected(tmp_path, files)["report"]

    items = {item.name: item for item in items_of(tmp_path)}
    assert items["cats/large.png"].size == (1280, 1024)
    assert items["dogs/large.jpg"].size == (1229, 1024)
    assert items["dogs/wide.jpg"].size == (1500, 1200)
    assert report["sizes"]["width"]["max"] == 2400
    shrunk = next(finding for finding in report["findings"] if finding["code"] == "shrunk")
    assert shrunk["count"] == 2


def test_limits_come_from_the_spec(tmp_path: Path) -> None:
    result = inspected(tmp_path, class_folders(), limits=ArchiveLimits(max_pixels=1000))

    assert codes(result) == ["image_too_large", "too_few_per_class"]


identities = st.lists(st.text("abcdef0123456789", min_size=6, max_size=6), min_size=1, max_size=60, unique=True)


@given(identities, st.integers(1, 4))
def test_every_class_with_three_groups_reaches_every_split(groups: list[str], classes: int) -> None:
    labels = [str(at % classes) for at in range(len(groups))]

    chosen = splits.assign(groups, labels, RECIPE)

    for label in set(labels):
        own = [split for split, of in zip(chosen, labels, strict=True) if of == label]
        assert set(own) >= set([Split.TRAIN, Split.TEST, Split.VALIDATION][: len(own)])


def test_an_item_keeps_its_split_when_the_data_grow() -> None:
    rng = random.Random(1)
    groups = [f"{rng.getrandbits(64):016x}" for _ in range(3000)]
    labels = [str(at % 10) for at in range(3000)]

    before = splits.assign(groups[:1500], labels[:1500], RECIPE)
    after = splits.assign(groups, labels, RECIPE)

    assert after[:1500] == before
    shares = Counter(after)
    assert 0.12 < shares[Split.TEST] / 3000 < 0.18
    assert 0.12 < shares[Split.VALIDATION] / 3000 < 0.18


def test_split_does_not_depend_on_names_or_order_but_on_the_salt(tmp_path: Path) -> None:
    files = class_folders(images=20)
    renamed = {name.replace("/", "/new"): content for name, content in reversed(files.items())}

    inspected(tmp_path / "a", files, salt="x")
    inspected(tmp_path / "b", renamed, salt="x")
    inspected(tmp_path / "c", files, salt="y")

    places = [{item.pixel_sha256: item.split for item in items_of(tmp_path / run)} for run in "abc"]
    assert places[0] == places[1]
    assert places[0] != places[2]


def test_duplicates_share_a_group_and_so_a_split() -> None:
    groups = splits.group_ids(["d", "a", "d", "c", "b"], [(0, 3), (3, 1)])

    assert groups == ["a", "a", "a", "a", "b"]
