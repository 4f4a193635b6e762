"""The example data sets: the same bytes every time, and uploads that the engine accepts."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from archives_factory import inspected_bytes, items_of
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from texts_factory import run_verb

from finetuning.engine import example_texts, examples
from finetuning.engine.spec import ExamplesSpec, Task

COUNT = 40
WORDS = {"de": "Bitte wählen Sie", "fr": "Veuillez choisir", "it": "Per favore scegliere"}


def _message(number: int) -> str:
    """Unlike every other one: what is nearly the same shares a group."""
    letters = random.Random(number)
    return " ".join("".join(letters.choices("abcdefghij", k=6)) for _ in range(5))


def _catalogs(folder: Path) -> None:
    for language, words in WORDS.items():
        catalog = Catalog(locale=language)
        for number in range(COUNT):
            message = _message(number)
            catalog.add(message, f"{words} {message[::-1]}")
        catalog.add("Same everywhere here", "Same everywhere here")
        (folder / language).mkdir(parents=True)
        with (folder / language / "core.mo").open("wb") as file:
            write_mo(file, catalog)


def _built(run_dir: Path) -> dict[str, Any]:
    _catalogs(run_dir / "inputs/catalogs")
    return run_verb(examples, ExamplesSpec(scenes=60), run_dir)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    run_dir = tmp_path_factory.mktemp("examples")
    return run_dir / "outputs", _built(run_dir)


def test_the_same_packages_give_the_same_bytes(tmp_path: Path, built: tuple[Path, dict[str, Any]]) -> None:
    outputs, report = built
    again = _built(tmp_path)

    assert again == report
    for example in report["examples"]:
        assert (tmp_path / "outputs" / example["file"]).read_bytes() == (outputs / example["file"]).read_bytes()


def test_every_task_has_an_example_that_inspection_accepts(tmp_path: Path, built: tuple[Path, dict[str, Any]]) -> None:
    outputs, report = built
    assert {example["task"] for example in report["examples"]} == set(Task)

    for example in report["examples"]:
        run_dir = tmp_path / example["name"]
        content = (outputs / example["file"]).read_bytes()
        result = inspected_bytes(run_dir, content, task=Task(example["task"]), salt="x")

        assert result["status"] == "valid", (example["name"], result["problems"])
        checked = result["report"]
        assert sum(checked["splits"].values()) == example["items"]
        assert len(checked["labels"]) == example["classes"]
        assert checked["leakage"] == []


def test_translations_of_one_message_stay_in_one_split(tmp_path: Path, built: tuple[Path, dict[str, Any]]) -> None:
    content = (built[0] / "languages.csv").read_bytes()
    inspected_bytes(tmp_path, content, task=Task.TEXT_CLASSIFICATION, salt="x")

    assert len({item.split for item in items_of(tmp_path)}) == 3
    groups = defaultdict(set)
    for item in items_of(tmp_path):
        groups[item.group].add(item.split)
    assert all(len(of_group) == 1 for of_group in groups.values())
    assert len(groups) == COUNT


def test_no_text_is_said_alike_in_two_languages(built: tuple[Path, dict[str, Any]]) -> None:
    text = (built[0] / "languages.csv").read_text(encoding="utf-8")

    assert "Same everywhere here" not in text


def test_mixed_texts_name_all_their_languages_and_share_no_message_between_splits(
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "catalogs"
    _catalogs(run_dir)
    rows = example_texts.languages(run_dir)

    mixed = example_texts.language_mixes(rows, 400)

    splits = defaultdict(set)
    for text, labels, split in mixed:
        inside = [(language, group) for sentence, language, group in rows if sentence in text]
        assert sorted({language for language, _ in inside}) == labels.split(";")
        for _, group in inside:
            splits[group].add(split)
    assert {len(labels.split(";")) for _, labels, _ in mixed} == {1, 2, 3}
    assert all(len(of_group) == 1 for of_group in splits.values())
    assert {split for _, _, split in mixed} == {"train", "validation", "test"}


def test_what_lacks_its_source_is_left_out_and_said(built: tuple[Path, dict[str, Any]]) -> None:
    outputs, report = built

    assert report["missing"] == [{"name": "film-snippets", "needs": "inputs/snippets.tar.gz"}]
    assert not (outputs / "film-snippets.csv").exists()
