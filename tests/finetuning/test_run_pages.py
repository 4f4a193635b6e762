"""What a run's page says of its evaluation, for each task, with results of the real engine."""

from __future__ import annotations

import html
import io
import json
import re
import zipfile
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import scenarios
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from engine_runs import EngineRun
from worlds import evaluated_run, recorded

from finetuning.engine import serve
from finetuning.engine.metric_names import title_of
from finetuning.engine.spec import Task
from finetuning.models import Dataset, DatasetVersion, Run
from finetuning.services import derivatives
from finetuning.web import evaluations, metrics
from marketplace import predictor
from marketplace.accounts.models import User
from models_catalog.models import Grant, Release
from models_catalog.services import grants

pytestmark = pytest.mark.django_db(transaction=True)
Made = dict[Task, EngineRun]
HEADLINES = {Task.OBJECT_DETECTION: "map", Task.SEMANTIC_SEGMENTATION: "miou"}


@pytest.fixture
def release() -> Release:
    return scenarios.published_release(scenarios.person("vera"))


@pytest.fixture
def buyer(client: Client, release: Release) -> User:
    user = scenarios.person("bo")
    scenarios.licensed(user, release)
    client.force_login(user)
    return user


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def finished(buyer: User, release: Release, made: EngineRun) -> Run:
    return evaluated_run(buyer, release, recorded(buyer, made), made)


def shown(client: Client, run: Run) -> str:
    """Returns the page as plain words and tags, white space joined."""
    answer = client.get(f"/runs/{run.uid}/")
    assert answer.status_code == 200
    return html.unescape(re.sub(r"\s+", " ", answer.content.decode()))


def part(page: str, name: str) -> str:
    """Returns what stands between the section's id and the next section."""
    return page.partition(f'id="{name}"')[2].partition("<section")[0]


@pytest.mark.parametrize("task", list(Task))
def test_the_verdict_every_metric_and_every_class_are_shown_with_intervals(
    client: Client, buyer: User, release: Release, made: Made, task: Task
) -> None:
    page = shown(client, finished(buyer, release, made[task]))

    evaluation = made[task].evaluation
    name = HEADLINES.get(task, "accuracy")
    headline, baseline = evaluation["metrics"][name], evaluation["baseline"][name]
    assert evaluation["verdict"] in page
    assert f'data-headline="{name}"' in page
    for estimate in (headline, baseline):
        assert f"{percent(estimate['low'])} to {percent(estimate['high'])}" in part(page, "evaluation")
    every = part(page, "metrics")
    for key, estimate in evaluation["metrics"].items():
        assert title_of(key) in every
        assert metrics.METRICS[key].meaning in every
        assert metrics.figure(key, estimate).low in every
    for row in evaluation["per_class"]:
        assert f">{row['label']}</th>" in part(page, "classes")


def test_no_metric_of_the_engine_is_without_its_words(made: Made) -> None:
    measured = {name for run in made.values() for name in run.evaluation["metrics"]}

    assert measured <= set(metrics.METRICS)


def test_texts_are_compared_with_every_baseline_and_read_in_the_mistakes(
    client: Client, buyer: User, release: Release, made: Made
) -> None:
    run = made[Task.TEXT_CLASSIFICATION]
    page = shown(client, finished(buyer, release, run))

    for row in run.evaluation["other_baselines"]:
        assert row["title"] in part(page, "baselines")
        assert percent(row["accuracy"]["value"]) in part(page, "baselines")
    for mistake in run.evaluation["worst"]:
        assert mistake["text"] in part(page, "mistakes")
    assert "held-out test texts" in page


def test_confidence_before_and_after_the_temperature_is_drawn_and_tabled(
    client: Client, buyer: User, release: Release, made: Made
) -> None:
    run = made[Task.TEXT_CLASSIFICATION]
    reliability = part(shown(client, finished(buyer, release, run)), "reliability")

    calibration = run.evaluation["calibration"]
    assert f"Temperature {calibration['temperature']:.2f}" in reliability
    assert reliability.count("Reliability diagram: ") == 2
    bins = [row for name in ("before", "after") for row in calibration["reliability"][name]]
    assert reliability.count('class="plot-bar"') == len(bins) > 0
    for row in bins:
        assert f'y="{round(100 - 100 * row["accuracy"], 2)}"' in reliability
        assert f'<td class="num">{percent(row["confidence"])}</td>' in reliability


def test_how_often_the_test_items_were_looked_at_is_counted_and_told(
    client: Client, buyer: User, release: Release, made: Made
) -> None:
    texts = made[Task.TEXT_CLASSIFICATION]
    dataset = recorded(buyer, texts)
    first = shown(client, evaluated_run(buyer, release, dataset, texts))
    second = shown(client, evaluated_run(buyer, release, dataset, texts))

    assert dataset.versions.get().evaluations == 2
    assert "runs have been scored" not in first
    assert "2 runs have been scored on these test texts" in second


def test_folds_weak_spots_and_leaks_are_told(client: Client, buyer: User, release: Release, made: Made) -> None:
    run = made[Task.IMAGE_CLASSIFICATION]
    page = shown(client, finished(buyer, release, run))

    folds = run.training["cross_validation"]
    estimates = part(page, "estimates")
    assert f"{folds['k']}-fold cross-validation" in estimates
    assert percent(folds["mean"]["value"]) in estimates
    assert percent(run.training["leave_one_out"]["accuracy"]["low"]) in estimates
    leaked = run.evaluation["without_leaked"]
    assert "Some test images are also among the training ones" in page
    assert f"on the other {leaked['remaining']} {percent(leaked['rest']['value'])}" in page
    for row in run.evaluation["slices"]["listed"]:
        assert f"{percent(row['accuracy']['low'])} to {percent(row['accuracy']['high'])}" in part(page, "slices")
    assert "No class has enough test images" in page


def test_the_weakest_class_is_named(client: Client, buyer: User, release: Release, made: Made) -> None:
    run = made[Task.TEXT_CLASSIFICATION]
    worst = run.evaluation["slices"]["worst"]

    page = shown(client, finished(buyer, release, run))

    assert f"Weakest: the class <b>{worst['name']}</b>, {percent(worst['accuracy']['value'])}" in page


def test_a_detector_has_curves_kinds_of_mistakes_and_the_true_boxes(
    client: Client, buyer: User, release: Release, made: Made
) -> None:
    run = made[Task.OBJECT_DETECTION]
    page = shown(client, finished(buyer, release, run))

    rows = run.evaluation["per_class"]
    curves = part(page, "curves")
    assert "Precision over recall: Mean of the classes" in curves
    for row in rows:
        assert f"Precision over recall: {row['label']}" in curves
        first = row["curve"]["precision"][0]
        assert f'points="0.0,{100 - 100 * first:.1f} ' in curves
        assert f'<td class="num">{100 * first:.0f}%</td>' in curves
    errors = run.evaluation["errors"]
    assert re.search(rf"Missed: no box comes near</th>.*?>{errors['missed']}</td>", part(page, "errors"))
    assert '<th scope="row">Large</th><td class="num">–</td>' in part(page, "by-size")
    worst, mistakes = run.evaluation["worst"][0], part(page, "mistakes")
    assert f"{worst['right']} right, {worst['wrong']} wrong, {worst['missed']} missed" in mistakes
    item = next(item for item in run.items() if item["index"] == worst["index"])
    assert f'x="{item["boxes"][0][1]}" y="{item["boxes"][0][2]}"' in mistakes
    boxes_of = {item["index"]: item["boxes"] for item in run.items()}
    found = next(box for row in run.evaluation["worst"] for box in row["found"])
    label = run.evaluation["labels"][found["label"]]
    assert f">{label} {found['score']:.0%}<" in mistakes
    assert mistakes.count("<g data-series") == sum(
        len(row["found"]) + len(boxes_of[row["index"]]) for row in run.evaluation["worst"]
    )
    assert mistakes.count("data-found>") == 1 + sum(len(row["found"]) for row in run.evaluation["worst"])
    assert "found ones dashed, with their confidence" in mistakes


def test_a_segmenter_has_shares_of_pixels_and_drawings_of_its_mistakes(
    client: Client, buyer: User, release: Release, made: Made
) -> None:
    run, made_run = finished(buyer, release, made[Task.SEMANTIC_SEGMENTATION]), made[Task.SEMANTIC_SEGMENTATION]
    page = shown(client, run)

    evaluation = made_run.evaluation
    assert evaluation["palette"][0] in part(page, "classes")
    matrix = evaluation["confusion"]
    assert f"<span>{100 * matrix[0][0] / sum(matrix[0]):.0f}%</span>" in part(page, "confusion")
    drawing = evaluation["worst"][0]["file"]
    address = f"/runs/{run.uid}/evaluation/{drawing}"
    assert address in part(page, "mistakes")
    answer = client.get(address)
    assert (answer.status_code, answer["Content-Type"]) == (200, "image/png")
    assert answer.content == made_run.outputs("evaluate")[drawing].read_bytes()


def test_files_of_an_evaluation_are_its_readers_alone_and_only_its_own(
    client: Client, buyer: User, release: Release, made: Made
) -> None:
    run = finished(buyer, release, made[Task.SEMANTIC_SEGMENTATION])

    assert "evaluation/receipt.json" in shown(client, run)
    receipt = client.get(f"/runs/{run.uid}/evaluation/receipt.json")
    assert json.loads(receipt.content)["receipt"]["inputs"]["test_items"] == run.evaluation["items"]
    for name in ("overlays/999999.png", "../release/model.safetensors", "release/model.safetensors"):
        assert client.get(f"/runs/{run.uid}/evaluation/{name}").status_code == 404
    client.force_login(scenarios.person("cy"))
    assert client.get(f"/runs/{run.uid}/evaluation/receipt.json").status_code == 404


def as_before(evaluation: dict[str, Any]) -> dict[str, Any]:
    """An evaluation as the engine wrote it before it knew groups, calibration and slices."""
    kept = ("split", "items", "labels", "per_class", "confusion", "worst", "baseline", "verdict", "verdict_code")
    comparison = {key: evaluation["comparison"][key] for key in ("test", "better", "worse", "p_value")}
    measured = {name: evaluation["metrics"][name] for name in ("accuracy", "macro_f1")}
    return {**{key: evaluation[key] for key in kept}, "comparison": comparison, "metrics": measured}


def test_a_run_of_an_earlier_engine_still_has_its_page(
    client: Client, buyer: User, release: Release, made: Made
) -> None:
    run = finished(buyer, release, made[Task.IMAGE_CLASSIFICATION])
    old = as_before(run.evaluation)
    Run.objects.filter(pk=run.pk).update(evaluation=old, result={"device": "cpu", "threads": 1}, artifacts={})

    page = shown(client, run)

    assert old["verdict"] in page
    assert percent(old["metrics"]["macro_f1"]["value"]) in part(page, "metrics")
    for missing in ("reliability", "slices", "estimates", "baselines", "receipt.json"):
        assert missing not in page


@pytest.mark.parametrize("task", list(Task))
def test_a_live_page_has_a_chart_for_every_curve_of_the_engine(
    client: Client, buyer: User, release: Release, made: Made, task: Task
) -> None:
    run = finished(buyer, release, made[task])
    lines = (made[task].directory / "train/events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]

    page = shown(client, run)

    for name in {event["name"] for event in events if event["kind"] == "metric"}:
        assert f'data-chart="{name}"' in page
    assert 'data-chart="loss" hidden' not in page
    assert re.search(r'data-chart="probe_loss" hidden', page)


def test_every_curve_has_one_chart() -> None:
    for task in Task:
        names = [name for name, _, _ in evaluations.curves(DatasetVersion(dataset=Dataset(task=task), report={}))]
        assert len(names) == len(set(names))


def test_the_number_of_queries_does_not_grow_with_the_mistakes(
    client: Client, buyer: User, release: Release, made: Made
) -> None:
    run = finished(buyer, release, made[Task.OBJECT_DETECTION])
    counts = []
    for worst in (run.evaluation["worst"], run.evaluation["worst"][:1]):
        Run.objects.filter(pk=run.pk).update(evaluation={**run.evaluation, "worst": worst})
        shown(client, run)
        with CaptureQueriesContext(connection) as asked:
            shown(client, run)
        counts.append(len(asked))

    assert counts[0] == counts[1]


def test_a_result_is_taken_along_unpublished_with_what_its_license_asks_for(
    client: Client, buyer: User, release: Release, made: Made
) -> None:
    run = finished(buyer, release, made[Task.TEXT_CLASSIFICATION])
    assert f'href="/runs/{run.uid}/try/"' in shown(client, run)

    answer = client.get(f"/api/v1/runs/{run.uid}/result.zip")
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content))) as archive:
        names = set(archive.namelist())
        weights = made[Task.TEXT_CLASSIFICATION].outputs("train")["release/model.safetensors"].read_bytes()
        assert archive.read("model.safetensors") == weights
        assert f"license: {release.terms.value.license_id}" in archive.read("README.md").decode()
    assert {"receipt.json", "OBLIGATIONS/NOTICE.txt", "OBLIGATIONS/ml-bom.cdx.json"} <= names
    page = client.get(f"/runs/{run.uid}/result.zip")
    assert page["Content-Disposition"].startswith("attachment")


def test_a_text_is_asked_of_a_result_and_of_the_derivative_that_it_became(
    client: Client, settings: Any, tmp_path: Path, made: Made
) -> None:
    settings.SERVING_DIR, settings.PREDICTOR_DIR = tmp_path / "serving", tmp_path
    kind = {"task": "text-classification", "framework": "transformers", "architecture": "BertModel"}
    release, buyer = scenarios.published_release(scenarios.person("vera"), **kind), scenarios.person("bo")
    scenarios.licensed(buyer, release)
    client.force_login(buyer)
    run = finished(buyer, release, made[Task.TEXT_CLASSIFICATION])
    derivative = derivatives.publish(user=buyer, run=run, namespace=run.owner, name="tuned", now=timezone.now())
    scenarios.verify(buyer, derivative)

    with serve._Server(str(predictor.socket_path()), serve.Models(settings.SERVING_DIR, 1)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        answers = [
            client.post(f"/api/v1/{path}/", {"text": "salt and butter"}, content_type="application/json")
            for path in (f"runs/{run.uid}/predict", "predict/bo/tuned")
        ]
        server.shutdown()

    assert [answer.status_code for answer in answers] == [200, 200], [answer.content for answer in answers]
    by_run, by_derivative = (answer.json()["predictions"] for answer in answers)
    assert by_run == by_derivative
    assert {row["label"] for row in by_run} == set(run.evaluation["labels"])


def test_a_result_is_used_only_while_its_model_is_licensed(
    client: Client, buyer: User, release: Release, made: Made
) -> None:
    run = finished(buyer, release, made[Task.TEXT_CLASSIFICATION])
    grants.revoke(grant=Grant.objects.get(), actor=release.listing.namespace.user, reason="Resold", now=timezone.now())

    asked = client.post(f"/api/v1/runs/{run.uid}/predict/", {"text": "salt"}, content_type="application/json")
    assert (asked.status_code, asked.json()["code"]) == (403, "no_license")
    assert client.get(f"/api/v1/runs/{run.uid}/result.zip").json()["code"] == "no_license"
    assert f'href="/runs/{run.uid}/try/"' not in shown(client, run)
    assert "See the model's license" in html.unescape(client.get(f"/runs/{run.uid}/try/").content.decode())
    client.force_login(scenarios.person("stranger"))
    assert client.get(f"/api/v1/runs/{run.uid}/result.zip").status_code == 404
    assert client.get(f"/runs/{run.uid}/try/").status_code == 404


def test_a_run_that_has_made_nothing_has_no_result(client: Client, buyer: User, release: Release, made: Made) -> None:
    run = finished(buyer, release, made[Task.TEXT_CLASSIFICATION])
    Run.objects.filter(pk=run.pk).update(status="failed")

    answer = client.get(f"/api/v1/runs/{run.uid}/result.zip")

    assert (answer.status_code, answer.json()["code"]) == (409, "no_result")
