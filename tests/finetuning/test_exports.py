"""A run that is asked for an ONNX file too: the file travels with the result, and its failure fails nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import scenarios
from django.utils import timezone
from engine_runs import image_folders
from shapes_factory import write_release
from worlds import World, launch, uploaded

from finetuning import tasks
from finetuning.engine import spec as engine
from finetuning.models import Run
from finetuning.models.runs import RunStatus
from finetuning.services import derivatives, workspaces
from marketplace import storage
from models_catalog.services import publishing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def trainable(tmp_path: Path) -> World:
    """A buyer with a grant on weights that can be trained, and a dataset of shapes."""
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    draft = scenarios.draft_release(vendor)
    for file in write_release(tmp_path / "release").iterdir():
        publishing.attach_artifact(user=vendor, release=draft, path=file.name, blob=storage.put_file(file))
    release = publishing.publish(user=vendor, release=scenarios.verify(vendor, draft), now=timezone.now())
    scenarios.licensed(buyer, release)
    return {"vendor": vendor, "buyer": buyer, "release": release, "dataset": uploaded(buyer, image_folders(12))}


def finished(world: World, *, block: bool = False) -> Run:
    run = launch(world, hyper={"export_onnx": True})
    if block:  # no directory can be made where a file stands
        path = workspaces.directory("run", run.pk, engine.Verb.EXPORT)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("in the way")
    tasks.fine_tune(run.pk)
    run.refresh_from_db()
    assert run.status == RunStatus.SUCCEEDED, run.failure_message
    return run


def test_the_onnx_file_is_published_with_the_result_and_its_card_says_how_near_it_comes(trainable: World) -> None:
    run = finished(trainable)

    export = run.result["export"]
    assert export["status"] == "exported"
    assert export["parity"]["agreement"] == 1.0
    assert run.artifacts["release/model.onnx"]["sha256"] == export["file"]["sha256"]
    release = derivatives.publish(
        user=trainable["buyer"], run=run, namespace=run.owner, name="tuned", now=timezone.now()
    )
    files = {file.path: file.sha256 for file in release.artifacts.all()}
    assert files["model.onnx"] == export["file"]["sha256"]
    card = storage.open_blob(files["README.md"]).read().decode()
    assert f"On {export['parity']['items']} test\nitems it agrees with the weights in 100.00%" in card


def test_an_export_that_fails_is_told_and_the_run_succeeds(trainable: World) -> None:
    run = finished(trainable, block=True)

    assert run.result["export"]["status"] == "failed"
    assert run.result["export"]["code"] == "app:disk"
    assert "release/model.onnx" not in run.artifacts
    assert run.evaluation["items"] > 0
