"""Uploads of labelled texts: what is accepted, what is refused and how it is said."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives_factory import items_of, zip_of
from texts_factory import LABELS, csv_of, inspected_texts, sentences, tagged, tagged_csv

from finetuning.engine import near_texts
from finetuning.engine.packs import PackReader
from finetuning.engine.spec import ArchiveLimits, Split

ROWS = sentences(20)


def lines_of(rows: list[tuple[str, str]], **extra: Any) -> bytes:
    return "\n".join(json.dumps({"text": text, "label": label, **extra}) for text, label in rows).encode()


def codes(result: dict[str, Any]) -> list[str]:
    return [problem["code"] for problem in result["problems"]]


def tsv_of(rows: list[tuple[str, str]]) -> bytes:
    return "\n".join(["label\tsentence", *(f"{label}\t{text}" for text, label in rows)]).encode()


GOOD = {
    "csv": csv_of(ROWS),
    "csv with a byte order mark": b"\xef\xbb\xbf" + csv_of(ROWS),
    "csv in utf-16": csv_of(ROWS).decode().encode("utf-16"),
    "csv with carriage returns": csv_of(ROWS).replace(b"\n", b"\r\n"),
    "csv with semicolons": csv_of(ROWS).replace(b'",', b'";').replace(b"text,label", b"review;sentiment"),
    "tsv": tsv_of(ROWS),
    "tsv without a header": b"\n".join(f"{text}\t{label}".encode() for text, label in ROWS),
    "csv without a header": b"\n".join(f'"{text}",{label}'.encode() for text, label in ROWS),
    "json lines": lines_of(ROWS),
    "json lines with numbers for labels": b"\n".join(
        json.dumps({"text": text, "label": LABELS.index(label)}).encode() for text, label in ROWS
    ),
    "csv in a zip": zip_of({"data/texts.csv": csv_of(ROWS), "README.md": b"hello"}),
    "json lines in a zip": zip_of({"texts.jsonl": lines_of(ROWS)}),
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD.keys())
def test_every_usual_format_is_accepted(tmp_path: Path, content: bytes) -> None:
    result = inspected_texts(tmp_path, content)

    assert result["status"] == "valid", result["problems"]
    report = result["report"]
    assert report["texts"] == len(ROWS)
    assert len(report["labels"]) == len(LABELS)
    assert [item.text for item in items_of(tmp_path)] == [text for text, _ in ROWS]
    assert sum(entry["texts"] for entry in report["classes"]) == len(ROWS)
    assert report["rows"] == {"read": len(ROWS), "used": len(ROWS), "left_out": 0}
    assert {file.name for file in (tmp_path / "outputs").iterdir()} == {
        "train.pack",
        "test.pack",
        "thumbnails.pack",
        "index.jsonl",
    }
    packs = {name: PackReader(tmp_path / f"outputs/{name}.pack").items for name in ("train", "test", "thumbnails")}
    assert len(packs["train"]) + len(packs["test"]) == len(ROWS)
    assert packs["thumbnails"] == []
    assert all(item.split is Split.TEST for item in packs["test"])


LISTS = "\n".join(json.dumps({"text": text, "labels": shown}) for text, shown in map(tagged, range(60))).encode()


@pytest.mark.parametrize(
    "content",
    [tagged_csv(60), tagged_csv(60, separator="|", delimiter="\t"), LISTS, LISTS.replace(b"labels", b"label")],
    ids=["csv", "tsv with bars", "json lists", "json lists as label"],
)
def test_texts_of_any_number_of_labels_are_read_and_counted(tmp_path: Path, content: bytes) -> None:
    result = inspected_texts(tmp_path, content)

    assert result["status"] == "valid", result["problems"]
    report, given = result["report"], [shown for _, shown in map(tagged, range(60))]
    counts = Counter(label for shown in given for label in shown)
    assert report["multi_label"] is True
    assert {row["label"]: row["texts"] for row in report["classes"]} == counts
    sets = report["label_sets"]
    assert sets["labels_given"] == counts.total()
    assert sets["texts_without_labels"] == sum(not shown for shown in given) > 0
    assert sum(row["texts"] for row in sets["per_text"]["histogram"]) == 60
    assert report["lengths"]["words"]["max"] <= 22
    assert {"without_labels", "no_leakage"} <= {finding["code"] for finding in report["findings"]}
    items = items_of(tmp_path)
    assert [{report["labels"][place] for place in item.labels} for item in items] == [set(shown) for shown in given]
    assert {item.label for item in items} == {-1}
    assert {place for item in items if item.split is Split.TEST for place in item.labels} == {0, 1, 2}


def row(number: int, text: bytes) -> bytes:
    """The CSV with its data row of this number replaced."""
    rows = csv_of(ROWS).split(b"\n")
    rows[number] = text
    return b"\n".join(rows)


DEEP = b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b', "label": "x"}'
BAD = {
    "empty": (b"  \n", "empty_file", ""),
    "invalid utf-8": (row(4, b'"caf\xe9 soup",cooking'), "encoding", "line 5"),
    "no label column": (csv_of(ROWS, header="text,other"), "missing_columns", "other"),
    "no columns known": (csv_of(ROWS, header="phrase,verdict"), "missing_columns", "phrase"),
    "no text": (row(2, b'"",cooking') + b'\n"",cooking\n " ",chess', "empty_text", "line 3"),
    "no label": (row(2, b'"salt",'), "unlabelled", "line 3"),
    "a comma outside quotation marks": (row(2, b"salt, and oven,cooking"), "bad_row", "line 3"),
    "a quotation mark left open": (row(2, b'"salt,cooking'), "bad_csv", "line 3"),
    "an unknown split": (csv_of(ROWS, "text,label,split").replace(b"cooking", b"cooking,trian"), "bad_row", "line 3"),
    "one class": (csv_of([(text, "all") for text, _ in ROWS]), "too_few_classes", "all"),
    "one text of a class": (csv_of([*ROWS, ("a single one", "rare")]), "too_few_per_class", "rare: 1"),
    "a broken json line": (lines_of(ROWS) + b'\n{"text": ', "bad_json", "line 61"),
    "deep json": (lines_of(ROWS) + b"\n" + DEEP, "bad_json", "line 61"),
    "a key twice": (lines_of(ROWS) + b'\n{"text": "a", "text": "b", "label": "c"}', "duplicate_key", "line 61"),
    "a list of labels beside single ones": (
        lines_of(ROWS) + b'\n{"text": "a", "labels": ["chess"]}',
        "bad_labels",
        "line 1: 'cooking' is no list",
    ),
    "an empty label": (
        csv_of([*ROWS, ("a", "chess;;sailing")], "text,labels"),
        "empty_label",
        "line 62: chess;;sailing",
    ),
    "an empty label in a list": (b'{"text": "a", "labels": ["chess", null]}', "empty_label", "line 1: chess;"),
    "a label twice": (csv_of([*ROWS, ("a", "chess|chess")], "text,labels"), "repeated_label", "line 62: chess"),
    "labels parted by a comma": (csv_of([*ROWS, ("a", '"b,c"')], "text,labels"), "bad_separator", "line 62: b,c"),
    "513 labels": (
        csv_of([(f"text {at}", ";".join(f"label {number}" for number in range(513))) for at in (1, 2)], "text,labels"),
        "too_many_classes",
        "label 0",
    ),
    "a text under other label sets": (
        csv_of([*ROWS, ("salt", "chess"), ("Salt", "chess;sailing"), ("salt ", "")], "text,labels"),
        "label_conflict",
        "line 62: chess, line 63: chess;sailing, line 64: ",
    ),
    "a list for a text": (lines_of(ROWS) + b'\n{"text": ["a"], "label": "chess"}', "bad_text", "line 61"),
    "half a surrogate pair": (lines_of(ROWS) + b'\n{"text": "\\ud800", "label": "chess"}', "bad_text", "line 61"),
    "a json list": (b'[{"text": "a", "label": "b"}]', "not_json_lines", ""),
    "a label of 101 characters": (csv_of([*ROWS, ("a", "x" * 101), ("b", "x" * 101)]), "label_too_long", ""),
    "two tables": (zip_of({"a.csv": csv_of(ROWS), "b.csv": csv_of(ROWS)}), "several_tables", "a.csv"),
    "a zip of images": (zip_of({"a/1.png": b"\x89PNG"}), "file_type", "a/1.png"),
    "gzip": (b"\x1f\x8b\x08\x00rest", "file_type", ""),
}


@pytest.mark.parametrize(("content", "code", "item"), BAD.values(), ids=BAD.keys())
def test_bad_uploads_are_rejected_with_their_place(tmp_path: Path, content: bytes, code: str, item: str) -> None:
    result = inspected_texts(tmp_path, content)

    assert code in codes(result)
    items = [entry for problem in result["problems"] if problem["code"] == code for entry in problem["items"]]
    assert not item or any(item in entry for entry in items)


def test_split_words_are_checked(tmp_path: Path) -> None:
    rows = [f'"{text}",{label},{"train" if at % 2 else "test"}' for at, (text, label) in enumerate(ROWS)]
    rows[5] = rows[5].replace("train", "trian")

    result = inspected_texts(tmp_path, "\n".join(["text,label,split", *rows]).encode())

    assert codes(result) == ["bad_split"]
    assert result["problems"][0]["items"] == ("line 7: trian",)


def test_limits_on_texts_and_rows_hold(tmp_path: Path) -> None:
    long = [*ROWS, ("salt " * 300, "cooking"), ("oven " * 300, "cooking")]

    texts = inspected_texts(tmp_path / "a", csv_of(long), limits=ArchiveLimits(max_text_characters=1000))
    rows = inspected_texts(tmp_path / "b", csv_of(long), limits=ArchiveLimits(max_row_bytes=1000))
    lines = inspected_texts(tmp_path / "c", lines_of(long), limits=ArchiveLimits(max_row_bytes=1000))
    many = inspected_texts(tmp_path / "d", csv_of(ROWS), limits=ArchiveLimits(max_texts=50))

    assert codes(texts) == ["text_too_long"]
    assert codes(rows) == codes(lines) == ["row_too_large"]
    assert codes(many) == ["too_many_rows"]


def test_one_bad_row_in_many_is_left_out_and_counted(tmp_path: Path) -> None:
    report = inspected_texts(tmp_path, row(2, b'" ",cooking'))["report"]

    assert report["rows"] == {"read": 60, "used": 59, "left_out": 1}
    assert report["left_out"][0]["name"] == "line 3"
    assert report["findings"][0]["code"] in {"left_out", "few_texts"}


def test_formulas_are_data(tmp_path: Path) -> None:
    inspected_texts(tmp_path, csv_of([*ROWS, ("=cmd|' /C calc'!A0", "chess"), ("+1 @here", "chess")]))

    assert [item.text for item in items_of(tmp_path)[-2:]] == ["=cmd|' /C calc'!A0", "+1 @here"]


def test_a_text_may_hold_lines_and_its_row_is_named_by_its_first(tmp_path: Path) -> None:
    content = csv_of(ROWS) + b'\n"first\nsecond",chess\n"a last one",chess'

    inspected_texts(tmp_path, content)

    assert [item.name for item in items_of(tmp_path)[-2:]] == ["line 62", "line 64"]


def test_tables_named_after_splits_are_those_splits(tmp_path: Path) -> None:
    files = {"train.csv": csv_of(ROWS), "test.jsonl": lines_of([(f"{text} today", label) for text, label in ROWS[:9]])}

    report = inspected_texts(tmp_path, zip_of(files))["report"]

    assert report["split_source"] == "uploaded"
    assert report["splits"]["test"] == 9
    assert {item.name for item in items_of(tmp_path) if item.split is Split.TEST} == {
        f"test.jsonl line {line}" for line in range(1, 10)
    }


def test_leakage_across_uploaded_splits_is_reported(tmp_path: Path) -> None:
    rows = [f'"{text}",{label},train' for text, label in ROWS]
    rows += [f'"{text.upper()}  ",{label},test' for text, label in ROWS[:3]]
    rows += [f'"{text} indeed it was so here",{label},test' for text, label in sentences(23)[60:]]

    report = inspected_texts(tmp_path, "\n".join(["text,label,split", *rows]).encode())["report"]

    assert [(leak["train"], leak["test"], leak["kind"]) for leak in report["leakage"]] == [
        (at, 60 + at, "exact") for at in (1, 2, 3)
    ]
    assert any(finding["code"] == "leakage" for finding in report["findings"])


def test_groups_and_duplicates_never_cross_a_split(tmp_path: Path) -> None:
    rows = [f'"{text}",{label},g{at // 6}' for at, (text, label) in enumerate(ROWS)]
    rows += [f'"{text}.",{label},' for text, label in ROWS]

    report = inspected_texts(tmp_path, "\n".join(["text,label,group", *rows]).encode())["report"]

    split_of: dict[str, set[Split]] = {}
    for item in items_of(tmp_path):
        assert item.group
        split_of.setdefault(item.group, set()).add(item.split)
    assert all(len(splits) == 1 for splits in split_of.values())
    assert len(report["duplicates"]["near"]) == len(ROWS)


def test_conflicts_are_reported_and_refused_only_where_they_are_many(tmp_path: Path) -> None:
    many = sentences(80)
    conflict = (many[0][0], "chess")

    few = inspected_texts(tmp_path / "a", csv_of([*many, conflict]))
    refused = inspected_texts(tmp_path / "b", csv_of([*ROWS, (ROWS[0][0], "chess")]))

    assert few["report"]["conflicts"] == [[1, len(many) + 1]]
    assert codes(refused) == ["label_conflict"]
    assert "line 2: cooking" in refused["problems"][0]["items"][0]


def test_splits_are_sticky_and_the_digest_is_of_the_content(tmp_path: Path) -> None:
    first = inspected_texts(tmp_path / "a", csv_of(ROWS), salt="s")["report"]
    other = inspected_texts(tmp_path / "b", lines_of(ROWS), salt="s")["report"]

    assert first["digest"] == other["digest"]
    before = {item.text: item.split for item in items_of(tmp_path / "a")}
    assert before == {item.text: item.split for item in items_of(tmp_path / "b")}


def distinct(count: int, words: int = 14) -> list[str]:
    rng = np.random.default_rng(0)
    vocabulary = ["".join(chr(97 + letter) for letter in rng.integers(0, 26, 6)) for _ in range(4000)]
    return [" ".join(vocabulary[at] for at in rng.integers(0, len(vocabulary), words)) for _ in range(count)]


def test_planted_near_duplicates_are_found_and_nothing_else() -> None:
    texts = distinct(2000)
    rng = np.random.default_rng(1)
    planted = rng.permutation(2000)[:300].tolist()
    for at in planted:
        text = texts[at]
        place = int(rng.integers(len(text)))
        texts.append(text[:place] + "x" + text[place + 1 :])  # one character: 5 of about 95 shingles change

    pairs = near_texts.near_pairs(texts)

    wanted = {(at, 2000 + number) for number, at in enumerate(planted)}
    assert set(pairs) <= wanted  # no false pair
    assert len(set(pairs)) >= 0.99 * len(wanted)  # recall


def test_a_thousand_copies_of_a_form_letter_are_one_group_in_little_time() -> None:
    letter = " ".join(distinct(3))
    texts = [f"{letter} number {number}" for number in range(1000)]
    started = time.perf_counter()

    pairs = near_texts.near_pairs(texts)

    assert len(pairs) == 999
    assert time.perf_counter() - started < 10


def test_short_and_empty_texts_do_no_harm() -> None:
    assert near_texts.near_pairs(["", "a", "b", "abcd", "abcde"]) == []
    assert near_texts.near_pairs(["one"]) == []


def test_identities_ignore_case_width_and_spaces() -> None:
    assert near_texts.identity("Ｈｅｌｌｏ  World\n") == near_texts.identity("hello world")
    assert near_texts.identity("hello world") != near_texts.identity("hello, world")


def test_a_spreadsheet_is_told_what_to_save(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")

    result = inspected_texts(tmp_path, buffer.getvalue())

    assert codes(result) == ["zip_empty"]
    assert "CSV" in result["problems"][0]["message"]
