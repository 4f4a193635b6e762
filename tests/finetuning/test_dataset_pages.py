"""What the pages of datasets say of each task's uploads, with reports of the real engine."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
import scenarios
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from engine_runs import EngineRun
from worlds import evaluated_run, recorded, uploaded

from finetuning.engine.spec import Task
from finetuning.models import Dataset
from marketplace.accounts.models import User

pytestmark = pytest.mark.django_db(transaction=True)
Made = dict[Task, EngineRun]


@pytest.fixture
def visitor(client: Client) -> Client:
    client.force_login(scenarios.person("bo"))
    return client


def page(client: Client, made: EngineRun, query: str = "") -> tuple[Dataset, str]:
    """Returns the dataset and its page as plain words and tags, white space joined."""
    user = User.objects.get(username="bo")
    dataset = Dataset.objects.filter(name=made.filename).first() or recorded(user, made)
    answer = client.get(f"/datasets/{dataset.uid}/{query}")
    assert answer.status_code == 200
    return dataset, html.unescape(re.sub(r"\s+", " ", answer.content.decode()))


def stat(shown: str, title: str) -> str:
    found = re.search(rf"<dt>{title}</dt> <dd class=\"stat-value\">([^<]*)</dd>", shown)
    assert found, title
    return found[1]


@pytest.mark.parametrize("task", list(Task))
def test_given_used_and_left_out_are_always_shown_and_add_up(visitor: Client, made: Made, task: Task) -> None:
    _, shown = page(visitor, made[task])

    nouns = {Task.TEXT_CLASSIFICATION: ["Texts"], Task.OBJECT_DETECTION: ["Images", "Boxes"]}.get(task, ["Images"])
    for noun in nouns:
        given, used, left_out = (int(stat(shown, f"{noun} {what}")) for what in ("given", "used", "left out"))
        assert given == used + left_out > 0
    report = made[task].inspection["report"]
    for row in report["classes"]:
        assert f">{row['label']}</th>" in shown
    for finding in report["findings"]:
        assert finding["title"] in shown


def test_boxes_are_drawn_at_their_place_and_found_by_class(visitor: Client, made: Made) -> None:
    dataset, shown = page(visitor, made[Task.OBJECT_DETECTION], "?class=0&split=train")

    items = made[Task.OBJECT_DETECTION].items()
    chosen = [item for item in items if item["split"] == "train" and any(box[0] == 0 for box in item["boxes"])]
    assert f"{len(chosen)} found" in shown
    for item in chosen[:24]:
        assert f"/datasets/{dataset.uid}/thumbnails/{item['index']}.jpg" in shown
        for _, left, top, right, bottom in item["boxes"]:
            assert f'x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"' in shown
    assert 'viewBox="0 0 128 64"' in shown
    other = next(item for item in items if item["split"] == "test")
    assert f"/thumbnails/{other['index']}.jpg" not in shown


def test_statistics_of_boxes_are_told_in_words(visitor: Client, made: Made) -> None:
    _, shown = page(visitor, made[Task.OBJECT_DETECTION])

    sizes = made[Task.OBJECT_DETECTION].inspection["report"]["boxes"]["size"]
    assert "small (below 32 × 32 pixels)</th>" in shown
    assert re.search(rf"small \(below 32 × 32 pixels\)</th>.*?<td class=\"num\">{sizes['small']}</td>", shown)
    assert "<dd>YOLO</dd>" in shown


def test_masks_lie_beside_their_images_in_the_colors_of_the_legend(visitor: Client, made: Made) -> None:
    run = made[Task.SEMANTIC_SEGMENTATION]
    dataset, shown = page(visitor, run)

    report = run.inspection["report"]
    assert all(f'fill="{color}"' in shown for color in report["palette"])
    assert f"{100 * report['classes'][0]['shares']['all']:.2f}%" in shown
    overlay = f"/datasets/{dataset.uid}/thumbnails/1-overlay.jpg"
    assert overlay in shown
    plain, masked = (visitor.get(f"/datasets/{dataset.uid}/thumbnails/1{suffix}.jpg") for suffix in ("", "-overlay"))
    assert (plain.status_code, masked.status_code) == (200, 200)
    assert plain.content != masked.content
    assert visitor.get(overlay.replace("1-o", "999-o")).status_code == 404


def test_images_with_masks_are_found_by_class(visitor: Client, made: Made) -> None:
    run = made[Task.SEMANTIC_SEGMENTATION]
    rarest = min(run.inspection["report"]["classes"], key=lambda row: row["images"])
    place = run.inspection["report"]["labels"].index(rarest["label"])

    _, shown = page(visitor, run, f"?class={place}")

    assert f"{rarest['images']} found" in shown
    assert 0 < rarest["images"] < len(run.items())
    samples = shown.partition('id="samples"')[2]
    assert all(f"/thumbnails/{item['index']}.jpg" in samples for item in run.items() if place in item["labels"])


def test_texts_are_read_searched_and_paged(visitor: Client, made: Made) -> None:
    run = made[Task.TEXT_CLASSIFICATION]
    _, shown = page(visitor, run)
    items = run.items()
    assert items[0]["text"] in shown
    assert "Page 1 of 10" in shown

    matching = [item for item in items if "gambit" in item["text"] and item["label"] == 0]
    _, found = page(visitor, run, "?class=0&q=GAMBIT")
    assert f"{len(matching)} found" in found
    assert all(item["text"] in found for item in matching[:25])
    assert items[0]["text"] not in found.partition('id="samples"')[2]

    _, nothing = page(visitor, run, "?q=no such words")
    assert "Nothing matches." in nothing


def test_conflicts_leaks_and_copies_are_shown_item_by_item(visitor: Client, made: Made) -> None:
    _, texts = page(visitor, made[Task.TEXT_CLASSIFICATION])
    assert "The same under different labels" in texts
    assert "line 242" in texts.partition('id="copies"')[2].partition('id="samples"')[0]

    _, images = page(visitor, made[Task.IMAGE_CLASSIFICATION])
    copies = images.partition('id="copies"')[2].partition('id="samples"')[0]
    assert f"<dt>Leaks into the test split</dt><dd>{len(made[Task.IMAGE_CLASSIFICATION].leaked)}</dd>" in copies
    assert "In two splits (exact copy)" in copies
    assert "test/square/leak.png" in copies


@pytest.mark.parametrize("task", [Task.IMAGE_CLASSIFICATION, Task.TEXT_CLASSIFICATION])
def test_labels_that_a_run_doubts_are_listed_with_the_item(visitor: Client, made: Made, task: Task) -> None:
    dataset, before = page(visitor, made[task])
    assert "Labels to look at again" not in before
    release = scenarios.published_release(scenarios.person("vera"))
    scenarios.licensed(dataset.created_by, release)
    evaluated_run(dataset.created_by, release, dataset, made[task])

    _, shown = page(visitor, made[task])

    suspect = made[task].training["label_audit"]["listed"][0]
    part = shown.partition('id="suspects"')[2].partition('id="samples"')[0]
    assert f"Labelled {suspect['given']}, looks like {suspect['suggested']}" in part


def test_a_search_that_makes_no_sense_shows_everything(visitor: Client, made: Made) -> None:
    run = made[Task.OBJECT_DETECTION]
    for query in ("?class=99", "?class=x", "?class=²", f"?class={'9' * 5000}", "?split=all", "?page=0&class=-1"):
        _, shown = page(visitor, run, query)
        assert f"{len(run.items())} in all" in shown


def test_no_query_is_asked_for_each_item(visitor: Client, made: Made) -> None:
    counts = []
    for query in ("?split=validation", ""):
        page(visitor, made[Task.TEXT_CLASSIFICATION], query)
        with CaptureQueriesContext(connection) as asked:
            page(visitor, made[Task.TEXT_CLASSIFICATION], query)
        counts.append(len(asked))

    assert counts[0] == counts[1]


def test_a_bad_file_is_named_with_its_line(visitor: Client) -> None:
    user = User.objects.get(username="bo")
    dataset = uploaded(user, b"text,label\nfine,a\n,b\n,b\nfine too,b\n", task=Task.TEXT_CLASSIFICATION)

    shown = visitor.get(f"/datasets/{dataset.uid}/").content.decode()

    assert dataset.status == "invalid"
    assert "line 3" in shown
    assert "Change what is listed and upload it again." in shown


def test_the_form_offers_every_task_and_says_what_it_takes(visitor: Client) -> None:
    shown = html.unescape(visitor.get("/datasets/new/").content.decode())

    for task in Task:
        assert f'value="{task}"' in shown
    for words in ("COCO JSON, Pascal VOC XML or YOLO", "PNG masks", "JSON Lines", "one folder a class"):
        assert words in shown


@pytest.mark.parametrize("task", list(Task))
def test_an_upload_of_each_task_is_taken_whatever_its_ending(visitor: Client, made: Made, task: Task) -> None:
    file: Any = SimpleUploadedFile(made[task].filename, made[task].upload)

    answer = visitor.post("/datasets/new/", {"name": "mine", "task": task.value, "file": file})

    dataset = Dataset.objects.get()
    assert (answer.status_code, answer.url) == (302, f"/datasets/{dataset.uid}/")
    assert (dataset.task, dataset.upload_name) == (task, made[task].filename)
