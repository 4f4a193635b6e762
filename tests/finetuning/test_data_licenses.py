"""Licenses that bind a run besides the model's: those of its data, and those that end while it waits or runs."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
import scenarios
from django.test import Client
from django.utils import timezone
from test_derivatives import code_of, finished_run, launched, licensed_buyer, published, verified
from worlds import dataset_of, received

from finetuning import policies
from finetuning.models import Dataset, Run
from finetuning.services import datasets, derivative_terms, runs
from marketplace.accounts.models import AuditEvent, User
from marketplace.accounts.services import people
from marketplace.errors import Denied
from models_catalog.models import Grant
from models_catalog.presets import PRESETS
from models_catalog.services import lineage
from models_catalog.terms import Right

pytestmark = pytest.mark.django_db


def data_under(user: User, key: str) -> Dataset:
    dataset = dataset_of(people.namespace_of(user))
    return datasets.set_license(user=user, dataset=dataset, license=key)


# Data


def test_a_model_of_noncommercial_data_is_not_sold() -> None:
    buyer, release = licensed_buyer()
    data_under(buyer, "cc-by-nc-4.0")
    run = finished_run(buyer, release)

    with pytest.raises(Denied) as caught:
        published(buyer, run, price_minor=500)

    assert caught.value.code == "price_not_allowed"
    assert {reason["parent"] for reason in caught.value.extra["reasons"]} == {
        "the data “data for image-classification”"
    }
    child = published(buyer, run)
    terms = child.terms.value
    assert not terms.permits(Right.COMMERCIAL_USE)
    assert "Trained on data under Creative Commons Attribution-NonCommercial 4.0." in terms.attribution_text
    assert child.parent_edges.get(relation="trained_on").terms.value == PRESETS["cc-by-nc-4.0"]


def test_whoever_goes_on_from_it_is_bound_by_the_data_too() -> None:
    buyer, release = licensed_buyer(terms=PRESETS["mit"])
    data_under(buyer, "cc-by-sa-4.0")
    child = verified(published(buyer, finished_run(buyer, release)))
    assert child.is_live
    other = scenarios.person("cy")
    scenarios.licensed(other, child)

    terms = derivative_terms.widest(finished_run(other, child))

    assert terms.license_id == "cc-by-sa-4.0"
    draft = scenarios.draft_release(other, name="own", terms=PRESETS["mit"])
    declared = {"user": other, "release": draft, "parent": child, "relation": "finetune", "now": timezone.now()}
    assert code_of(lambda: lineage.declare(**declared)) == "terms_too_wide"


@pytest.mark.parametrize(("key", "code"), [("unknown", "use_not_granted"), ("cc-by-nd-4.0", ""), ("own-data", "")])
def test_data_whose_license_forbids_it_are_not_trained_on(key: str, code: str) -> None:
    buyer, release = licensed_buyer()
    dataset = data_under(buyer, key)

    assert code_of(lambda: launched(buyer, release)) == code
    assert policies.may_train_on(dataset.name, dataset.terms).code == code


def test_data_without_derivatives_make_a_model_of_one_s_own_only() -> None:
    buyer, release = licensed_buyer()
    data_under(buyer, "cc-by-nd-4.0")
    run = finished_run(buyer, release)

    decision = policies.may_publish_derivative(buyer, run, now=timezone.now())

    assert decision.code == "use_not_granted"
    assert "share what was trained on it" in decision.why


def test_a_license_that_is_stated_anew_holds_from_the_next_run_on() -> None:
    buyer, release = licensed_buyer()
    dataset = data_under(buyer, "cc-by-nc-4.0")
    earlier = finished_run(buyer, release)

    datasets.set_license(user=buyer, dataset=dataset, license="cc0-1.0")
    later = finished_run(buyer, release)

    assert not derivative_terms.widest(earlier).permits(Right.COMMERCIAL_USE)
    assert derivative_terms.widest(later).permits(Right.COMMERCIAL_USE)
    assert [version.number for version in dataset.versions.all()] == [3, 2, 1]
    assert AuditEvent.objects.filter(action="dataset.set_license").count() == 2


def test_uploads_state_their_license_on_page_and_api(client: Client) -> None:
    user = scenarios.person("bo")
    client.force_login(user)
    csv = scenarios.upload("t.csv", b"text,label\na,b\n")

    answer = client.post(
        "/api/v1/datasets/", {"name": "one", "task": "text-classification", "file": csv, "license": "cc-by-4.0"}
    )
    page = client.post(
        "/datasets/new/",
        {
            "name": "two",
            "task": "text-classification",
            "file": scenarios.upload("t.csv", b"text,label\na,c\n"),
            "license": "cc0-1.0",
        },
    )
    default = received(user, b"x", name="three")

    assert answer.status_code == 201, answer.content
    assert answer.json()["license"] == "cc-by-4.0"
    assert page.status_code == 302
    stated = {dataset.name: datasets.license_key(dataset) for dataset in Dataset.objects.all()}
    assert stated == {"one": "cc-by-4.0", "two": "cc0-1.0", "three": "own-data"}
    url = f"/api/v1/datasets/{default.uid}/"
    changed = client.patch(url, {"license": "mit"}, content_type="application/json")
    assert changed.json()["license"] == "mit"
    assert client.patch(url, {"license": "own"}, content_type="application/json").status_code == 400
    client.post(f"/datasets/{default.uid}/license/", {"license": "cc0-1.0"})
    assert "Creative Commons Zero" in client.get(f"/datasets/{default.uid}/").content.decode()


# Licenses that end


def end_license() -> None:
    Grant.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


def test_an_expired_license_refuses_the_launch() -> None:
    buyer, release = licensed_buyer()
    end_license()

    assert code_of(lambda: launched(buyer, release)) == "no_license"
    assert not Run.objects.exists()


def test_a_license_that_ends_while_its_run_is_queued_refuses_the_run_with_the_reason() -> None:
    buyer, release = licensed_buyer()
    run = launched(buyer, release)
    end_license()

    assert runs.claim(run.pk) is None

    run.refresh_from_db()
    assert (run.status, run.failure_code) == ("failed", "user:not_allowed_any_more")
    assert run.failure_message == "License vera/net first."


def test_data_whose_license_is_stated_anew_do_not_stop_a_queued_run() -> None:
    buyer, release = licensed_buyer()
    dataset = data_under(buyer, "cc-by-4.0")
    run = launched(buyer, release)

    datasets.set_license(user=buyer, dataset=dataset, license="unknown")

    assert runs.claim(run.pk) is not None


def test_a_license_that_ends_while_its_run_goes_on_leaves_the_result_and_publishing_asks_anew() -> None:
    buyer, release = licensed_buyer(terms=dataclasses.replace(PRESETS["mit"], license_id="other", term_days=30))
    run = finished_run(buyer, release, while_it_runs=end_license)

    assert run.status == "succeeded"
    assert run.artifacts
    assert code_of(lambda: published(buyer, run)) == "no_license"
    scenarios.licensed(buyer, release)
    assert published(buyer, Run.objects.get(pk=run.pk)).parent_edges.filter(parent=release).exists()
