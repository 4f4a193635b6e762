"""Each task's results, from the real engine to predictions of the published derivative, by the services and the API: any
number of labels from the upload on, the others from what the engine made of a tiny upload. Their way from the upload on
goes through the running product (tests/flows/test_tasks_flow.py)."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import label_sets_factory
import mask_scenes
import pytest
import scenarios
from archives_factory import encoded, zip_of
from django.conf import settings
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from engine_runs import SIDE, EngineRun, boxed_scene
from PIL import Image
from shapes_factory import write_release
from worlds import evaluated_run, recorded

from finetuning import tasks
from finetuning.engine import spec as engine
from finetuning.engine.headlines import Measured, headline
from finetuning.engine.spec import Task
from finetuning.models import Dataset, Run
from finetuning.services import datasets, derivatives, runs
from marketplace import predictor, storage
from marketplace.accounts.models import User
from marketplace.accounts.services import people
from models_catalog import cards
from models_catalog.models import Release
from models_catalog.services import publishing

pytestmark = pytest.mark.django_db(transaction=True)
START_SECONDS = 60
TEXTS = {"task": "text-classification", "framework": "transformers", "architecture": "BertModel"}


@pytest.fixture(scope="module", autouse=True)
def _predictor() -> Iterator[None]:
    """The engine's `serve`, as `manage.py predictor` becomes it."""
    run_dir = Path(settings.PREDICTOR_DIR)
    for folder in (run_dir, Path(settings.SERVING_DIR)):
        folder.mkdir(parents=True, exist_ok=True)
    engine.write(engine.ServeSpec(socket=str(predictor.socket_path()), releases=str(settings.SERVING_DIR)), run_dir)
    command = [sys.executable, "-m", "finetuning.engine", "serve", str(run_dir)]
    with subprocess.Popen(command, cwd=settings.BASE_DIR) as process:
        deadline = time.monotonic() + START_SECONDS
        while not predictor.socket_path().exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield
        process.terminate()


def bought(vendor: User, directory: Path) -> Release:
    """A release whose files the real engine has verified."""
    draft = scenarios.draft_release(vendor)
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        name, blob = str(path.relative_to(directory)), storage.put_file(path)
        publishing.attach_artifact(user=vendor, release=draft, path=name, blob=blob)
    publishing.submit(user=vendor, release=draft)
    tasks.verify_release(draft.pk)
    draft.refresh_from_db()
    assert draft.status == "ready", draft.report
    return publishing.publish(user=vendor, release=draft, now=timezone.now())


def uploaded(user: User) -> Dataset:
    dataset = datasets.receive(
        user=user,
        owner=people.namespace_of(user),
        name="data",
        task=Task.IMAGE_CLASSIFICATION.value,
        source=io.BytesIO(zip_of(label_sets_factory.upload())),
        filename="upload",
    )
    tasks.inspect_dataset(dataset.pk)
    dataset.refresh_from_db()
    assert dataset.status == "valid", dataset.problems
    return dataset


def finished(user: User, release: Release, dataset: Dataset, order: dict[str, Any]) -> Run:
    run = runs.launch(user=user, release=release, dataset=dataset, now=timezone.now(), **{"hyper": {}, **order})
    tasks.fine_tune(run.pk)
    run.refresh_from_db()
    assert run.status == "succeeded", (run.failure_code, run.failure_message)
    return run


def test_label_sets_run_from_upload_to_predictions_of_the_derivative(
    client: Client, tmp_path: Path, settings: Any
) -> None:
    settings.ENGINE_THREADS = 1
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    directory = tmp_path / "bought"
    directory.mkdir()
    release = bought(vendor, write_release(directory))
    scenarios.licensed(buyer, release)
    dataset = uploaded(buyer)
    client.force_login(buyer)

    run = finished(buyer, release, dataset, {"preset": "quick"})
    receipt = json.loads(b"".join(client.get(f"/api/v1/runs/{run.uid}/receipt/").streaming_content))
    assert receipt["signature"]["algorithm"] == "Ed25519"
    assert receipt["receipt"]["metrics"] == run.evaluation["metrics"]

    _assert_published(client, run)
    _answers_with_label_sets(client)
    page = client.get(reverse("listing", args=[buyer.username, "tuned"])).content.decode()
    assert ", any number of them" in page
    rows = client.get(f"/models/compare/?model={buyer.username}/tuned&model={release.listing}").content.decode()
    assert "Image classification, any number of labels" in rows


@pytest.mark.parametrize("task", [Task.OBJECT_DETECTION, Task.SEMANTIC_SEGMENTATION, Task.TEXT_CLASSIFICATION])
def test_a_result_is_published_and_answers_with_and_without_its_release(
    client: Client, made: dict[Task, EngineRun], task: Task
) -> None:
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    release = scenarios.published_release(vendor, **(TEXTS if task is Task.TEXT_CLASSIFICATION else {}))
    scenarios.licensed(buyer, release)
    client.force_login(buyer)
    run = evaluated_run(buyer, release, recorded(buyer, made[task]), made[task])

    _assert_published(client, run)
    ANSWERS[task](client)


def _assert_published(client: Client, run: Run) -> None:
    assert run.created_by is not None
    derivative = derivatives.publish(
        user=run.created_by, run=run, namespace=run.owner, name="tuned", now=timezone.now()
    )
    tasks.verify_release(derivative.pk)
    derivative.refresh_from_db()
    listing = derivative.listing
    assert derivative.status == "published", derivative.report
    assert (listing.task, listing.framework) == (run.task, run.release.listing.framework)
    measured = headline(run.task, run.evaluation["metrics"])
    assert measured is not None
    assert listing.accuracy == measured.value
    assert derivative.labels == run.evaluation["labels"]
    _assert_shown(client, run.task, derivative, measured)


def _assert_shown(client: Client, task: Task, derivative: Release, measured: Measured) -> None:
    """The card and the model's page name the headline metric."""
    key, title = measured.key, measured.title
    files = {file.path: file.sha256 for file in derivative.artifacts.all()}
    assert {"receipt.json", engine.SIGNED_RECEIPT_FILE, "golden.safetensors"} <= set(files)
    assert ("vocab.txt" in files) is (task is Task.TEXT_CLASSIFICATION)
    with storage.open_blob(files["README.md"]) as file:
        card = file.read().decode()
    assert cards.front_matter(card)["metrics"] == [key]
    assert f"| {title} | 95% interval |" in card
    page = client.get("/models/bo/tuned/").content.decode()
    assert f"<dt>{title}</dt>" in page
    derivative.listing.refresh_from_db()
    assert derivative.listing.accuracy_metric == f"{title} on its held-out test split"


def asked(client: Client, given: Any, **how: Any) -> dict[str, Any]:
    """Returns what the derivative answers, and the run's result without a release."""
    found = []
    for address in ("predict/bo/tuned/", f"runs/{Run.objects.get().uid}/predict/"):
        for file in given.values() if isinstance(given, dict) else ():
            file.seek(0)
        answer = client.post(f"/api/v1/{address}", given, **how)
        assert answer.status_code == 200, answer.content
        found.append({key: value for key, value in answer.json().items() if key not in ("milliseconds", "warm")})
    assert found[0] == found[1]
    document: dict[str, Any] = found[0]
    return document


def tried(client: Client, **fields: Any) -> str:
    """The page as it answers without a script."""
    answer = client.post("/models/bo/tuned/try/", fields)
    assert answer.status_code == 200
    return str(answer.content.decode())


def upload_of(image: Image.Image) -> io.BytesIO:
    file = io.BytesIO(encoded(image))
    file.name = "picture.png"
    return file


def _answers_with_label_sets(client: Client) -> None:
    image, _ = label_sets_factory.scene(3)
    answers = asked(client, encoded(image), content_type="image/png")["predictions"]
    assert {found["label"] for found in answers} == {"disc", "square", "stripe"}
    assert all(found["is_found"] is (found["confidence"] >= found["threshold"]) for found in answers)

    page = tried(client, image=upload_of(image))
    assert "Its labels" in page
    assert page.count("or more</span>") == sum(found["is_found"] for found in answers)


def _answers_with_boxes(client: Client) -> None:
    width, height = 2 * SIDE, SIDE
    image, _ = boxed_scene(3)
    document = asked(client, encoded(image), content_type="image/png")
    assert (document["width"], document["height"]) == (width, height)
    assert {found["label"] for found in document["predictions"]} <= {"disc", "square"}
    assert all(0 <= found["box"]["left"] < found["box"]["right"] <= width for found in document["predictions"])

    page = tried(client, image=upload_of(image))
    assert page.count('<rect class="overlay-box"') == page.count('<li class="meter" data-score') > 0
    hidden = sum(found["confidence"] < document["threshold"] for found in document["predictions"])
    assert page.count(" data-below>") == 2 * hidden
    assert 'src="data:image/png;base64,' in page


def _answers_with_a_mask(client: Client) -> None:
    image, _ = mask_scenes.scene(3, SIDE)
    document = asked(client, {"image": upload_of(image)})
    mask = Image.open(io.BytesIO(base64.b64decode(document["mask"]["png"])))
    assert (mask.mode, mask.size) == ("P", (SIDE, SIDE))
    seen = [entry for entry in document["classes"] if entry["share"]]
    assert sum(entry["share"] for entry in seen) == pytest.approx(1)

    page = tried(client, image=upload_of(image))
    assert document["mask"]["png"] in page
    assert all(f'fill="{entry["color"]}"' in page for entry in seen)
    assert page.count('class="swatch"') == len(seen)


def _answers_with_classes(client: Client) -> None:
    document = asked(client, json.dumps({"text": "salt and butter"}), content_type="application/json")
    assert sum(found["confidence"] for found in document["predictions"]) == pytest.approx(1, abs=1e-4)

    page = tried(client, text="salt & butter")
    assert "salt &amp; butter</textarea>" in page
    assert all(f"<span>{found['label']}</span>" in page for found in document["predictions"])
    fragment = client.post("/models/bo/tuned/try/", {"text": " "}, headers={"HX-Request": "true"})
    assert fragment.status_code == 422
    assert "<html" not in fragment.content.decode()
    assert 'role="alert"' in fragment.content.decode()


ANSWERS: dict[Task, Callable[[Client], None]] = {
    Task.OBJECT_DETECTION: _answers_with_boxes,
    Task.SEMANTIC_SEGMENTATION: _answers_with_a_mask,
    Task.TEXT_CLASSIFICATION: _answers_with_classes,
}
