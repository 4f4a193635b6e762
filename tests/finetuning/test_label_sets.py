"""Images and texts of any number of labels on the pages and at launch, with results of the real engine."""

from __future__ import annotations

import html
import re
from typing import Any

import engine_runs
import label_sets_factory
import pytest
import scenarios
import texts_factory
from archives_factory import zip_of
from django.test import Client
from engine_runs import EngineRun
from worlds import World, evaluated_run, launch, recorded, uploaded

from finetuning import policies
from finetuning.engine.metric_names import title_of
from finetuning.engine.spec import Task
from finetuning.web import dataset_reports, metrics
from marketplace.errors import Invalid
from models_catalog.models import Listing

pytestmark = pytest.mark.django_db(transaction=True)


UPLOADS = {
    Task.IMAGE_CLASSIFICATION: lambda: zip_of(label_sets_factory.upload(70)),
    Task.TEXT_CLASSIFICATION: lambda: texts_factory.tagged_csv(160),
}


@pytest.fixture(scope="module", params=UPLOADS)
def made_sets(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EngineRun:
    directory = tmp_path_factory.mktemp("sets")
    return engine_runs.made(request.param, directory, content=UPLOADS[request.param]())


def words(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return html.unescape(re.sub(r"\s+", " ", answer.content.decode()))


def percent(value: float) -> str:
    return f"{100 * value:.1f}%"


def test_the_dataset_page_counts_label_sets_and_finds_images_by_label(client: Client, made_sets: EngineRun) -> None:
    user = scenarios.person("bo")
    client.force_login(user)
    dataset = recorded(user, made_sets)
    report, noun = made_sets.inspection["report"], dataset_reports.noun(made_sets.task)

    shown = words(client, f"/datasets/{dataset.uid}/")
    assert "any number of labels" in shown
    without = report["label_sets"][f"{noun}_without_labels"]
    assert f"<dt>{noun.capitalize()} without any label</dt><dd>{without}</dd>" in shown
    for row in report["label_sets"]["most_common"]:
        assert f"{', '.join(row['labels']) or 'no label'}</th>" in shown

    found = words(client, f"/datasets/{dataset.uid}/?class=1")
    assert f"{report['classes'][1][noun]} found" in found
    item = next(item for item in made_sets.items() if item["labels"] == [0, 1])
    assert ", ".join(report["labels"][place] for place in item["labels"]) in found


def test_the_run_page_says_what_label_sets_are_judged_by(client: Client, made_sets: EngineRun) -> None:
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    release = scenarios.published_release(vendor)
    scenarios.licensed(buyer, release)
    client.force_login(buyer)
    run = evaluated_run(buyer, release, recorded(buyer, made_sets), made_sets)
    evaluation = made_sets.evaluation

    shown = words(client, f"/runs/{run.uid}/")

    assert 'data-headline="macro_average_precision"' in shown
    assert evaluation["verdict"] in shown
    for key, estimate in evaluation["metrics"].items():
        assert title_of(key) in shown
        assert metrics.figure(key, estimate).low in shown
    for row in evaluation["per_class"]:
        cells = [percent(row["average_precision"]), *(percent(row[name]) for name in ("f1", "precision", "recall"))]
        assert "".join(f'<td class="num">{cell}</td>' for cell in cells) in shown
    for mistake in evaluation["worst"]:
        assert f"Is: {mistake['truth']}" in shown
        assert f"Guess: {mistake['predicted']}<" in shown
    for row in evaluation["other_baselines"]:
        assert row["title"] in shown
    assert "mAP over labels" in shown
    for part in ("slices", "reliability", "estimates"):
        assert f'id="{part}"' in shown
    assert '<th scope="col">Whole sets right</th>' in shown
    folds = made_sets.training["cross_validation"]
    assert f"{folds['k']}-fold cross-validation, mean of the folds" in shown
    assert ", ".join(percent(share) for share in folds["macro_average_precision"]) in shown
    noun = dataset_reports.noun(made_sets.task)
    assert f"{noun} come out better than with the baseline" in shown
    assert f"Compared by paired bootstrap of {noun}" in shown


@pytest.fixture
def sets_world(world: World) -> dict[str, Any]:
    content = zip_of(label_sets_factory.upload(40))
    return {**world, "dataset": uploaded(world["buyer"], content, name="sets")}


def test_a_loss_that_does_not_suit_the_labels_is_refused_at_launch(world: World, sets_world: World) -> None:
    for given, loss in ((sets_world, "focal"), (world, "binary_weighted")):
        with pytest.raises(Invalid) as refused:
            launch(given, hyper={"loss": loss})

        assert (refused.value.code, refused.value.field) == ("bad_hyper", "loss")
    assert launch(sets_world, hyper={"loss": "binary"}).hyper["loss"] == "binary"


def test_a_keras_model_is_not_tuned_to_label_sets(sets_world: World) -> None:
    release = sets_world["release"]
    Listing.objects.filter(pk=release.listing.pk).update(framework="keras")
    release.listing.refresh_from_db()

    decision = policies.may_use_dataset(sets_world["buyer"], sets_world["dataset"], release)

    assert (decision.allowed, decision.code) == (False, "multi_label_unsupported")
