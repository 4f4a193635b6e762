"""A review that cites a run shows the figure, and nothing of the data."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import scenarios
import worlds
from django.test import Client
from django.utils import timezone

from finetuning.models import DatasetVersion, Run
from finetuning.models.runs import RunStatus
from marketplace.accounts.models import Namespace, User
from models_catalog.models import CitedEvaluation, Release, Review

pytestmark = pytest.mark.django_db
EVALUATION = {
    "items": 360,
    "metrics": {"accuracy": {"value": 0.941, "low": 0.912, "high": 0.962}},
    "baseline": {"accuracy": {"value": 0.8, "low": 0.75, "high": 0.84}},
    "per_class": [{"name": "secret class"}],
}


def finished(user: User, release: Release, **changes: Any) -> Run:
    owner = Namespace.objects.get(user=user)
    version = DatasetVersion.objects.filter(dataset__owner=owner).first() or worlds.dataset_of(owner).versions.get()
    given = {
        "owner": owner,
        "created_by": user,
        "release": release,
        "terms": release.terms,
        "dataset_version": version,
        "strategy": "head",
        "spec_sha256": uuid.uuid4().hex * 2,
        "status": RunStatus.SUCCEEDED,
        "evaluation": EVALUATION,
        "poked_at": timezone.now(),
        "finished_at": timezone.now(),
        **changes,
    }
    return Run.objects.create(**given)


def world() -> tuple[User, Release]:
    release = scenarios.published_release(scenarios.person("vera"))
    buyer = scenarios.person("bo")
    scenarios.licensed(buyer, release)
    return buyer, release


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def test_a_review_cites_the_authors_run_and_everybody_sees_the_figure_alone() -> None:
    buyer, release = world()
    run = finished(buyer, release)
    form = signed_in(buyer).get("/models/vera/net/review/").content.decode()
    signed_in(buyer).post("/models/vera/net/review/", {"rating": "5", "text": "Good.", "run": str(run.uid)})

    cited = CitedEvaluation.objects.get()
    page = Client().get("/models/vera/net/reviews/").content.decode()
    receipt = Client().get(f"/evaluations/{cited.uid}/").content.decode()

    assert "Accuracy 94.1% on 360 test items" in form
    assert "Accuracy 94.1% on 360 test items" in page
    assert "91.2%" in receipt
    for hidden in ("secret class", "data for image-classification", str(run.uid)):
        assert hidden not in page + receipt


def test_a_figure_stays_public_only_while_a_shown_review_cites_it() -> None:
    buyer, release = world()
    run = finished(buyer, release)
    client = signed_in(buyer)
    client.post("/models/vera/net/review/", {"rating": "5", "text": "Good.", "run": str(run.uid)})
    address = f"/evaluations/{CitedEvaluation.objects.get().uid}/"
    client.post("/models/vera/net/review/", {"rating": "5", "text": "Good.", "run": ""})

    assert Client().get(address).status_code == 404
    assert client.get(address).status_code == 200

    client.post("/models/vera/net/review/", {"rating": "5", "text": "Good.", "run": str(run.uid)})
    assert Client().get(address).status_code == 200
    Review.objects.update(hidden_at=timezone.now(), hidden_reason="Insults.")
    assert Client().get(address).status_code == 404


def test_runs_of_others_of_another_model_and_unfinished_ones_are_not_cited() -> None:
    buyer, release = world()
    other = scenarios.person("cy")
    another = scenarios.published_release(scenarios.person("vic"), name="other")
    scenarios.licensed(other, release)
    runs = [
        finished(other, release),
        finished(buyer, another),
        finished(buyer, release, status=RunStatus.FAILED, evaluation={}),
    ]
    client = signed_in(buyer)

    for run in runs:
        given = {"rating": 5, "text": "Good.", "run": str(run.uid)}
        answer = client.post("/api/v1/listings/vera/net/reviews/", given, content_type="application/json")
        assert answer.status_code == 404
        assert "Select a valid choice" in client.post("/models/vera/net/review/", given).content.decode()

    assert not Review.objects.exists()
