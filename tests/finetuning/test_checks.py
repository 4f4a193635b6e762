"""Inspections and verifications that the server fails at: tried again, then said to be its own fault."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import scenarios
from django.db import connection
from django.test import Client
from django.utils import timezone
from test_derivatives import finished_run
from worlds import World, received, shapes, uploaded

from finetuning import tasks
from finetuning.models import Attempt, Dataset
from finetuning.services import datasets, derivatives, leases, reaping, verifications
from marketplace import storage
from marketplace.accounts.models import Namespace, User
from marketplace.errors import Conflict, Denied
from models_catalog.models import Release
from models_catalog.presets import PRESETS
from models_catalog.services import licensing, publishing

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def lost_blob(sha256: str) -> Iterator[None]:
    """The disk does not give the file out; afterwards it does again."""
    path = storage.path_of(sha256)
    path.rename(path.with_suffix(".away"))
    try:
        yield
    finally:
        path.with_suffix(".away").rename(path)


def submitted(vendor: User, *, extra: tuple[str, ...] = ()) -> Release:
    """A release that waits for its verification."""
    listing = publishing.create_listing(
        user=vendor,
        namespace=Namespace.objects.get(user=vendor),
        name="net",
        title="net",
        task="image-classification",
        framework="timm",
        architecture="test_efficientnet",
    )
    terms = licensing.terms_row(PRESETS["apache-2.0"])
    release = publishing.draft(user=vendor, listing=listing, version="1.0", terms=terms)
    files = {"README.md": "# A net", "config.json": "{}", "model.safetensors": "of a test", **dict.fromkeys(extra, "x")}
    publishing.attach_texts(user=vendor, release=release, texts=list(files.items()))
    publishing.submit(user=vendor, release=release)
    return release


def outcomes(**subject: Dataset | Release) -> list[str]:
    return list(Attempt.objects.filter(**subject).order_by("number").values_list("outcome", flat=True))


def test_an_inspection_that_the_server_fails_at_is_tried_again_and_can_be_asked_for() -> None:
    user = scenarios.person("bo")
    dataset = received(user, shapes())
    with lost_blob(dataset.upload_sha256):
        for _ in range(leases.MAX_FAILURES - 1):
            tasks.inspect_dataset(dataset.pk)
            dataset.refresh_from_db()
            assert dataset.status == "checking"
        tasks.inspect_dataset(dataset.pk)

    dataset.refresh_from_db()
    assert (dataset.status, dataset.problems[0]["code"]) == ("invalid", "check_failed")
    assert "no fault of your upload" in dataset.problems[0]["message"]

    datasets.recheck(user=user, dataset=dataset)
    tasks.inspect_dataset(dataset.pk)
    dataset.refresh_from_db()
    assert (dataset.status, dataset.problems) == ("valid", [])
    assert outcomes(dataset=dataset) == ["app:disk", "app:disk", "gave up: app:disk", "valid"]


def test_a_failed_check_begins_with_a_fresh_count_when_it_is_asked_for_again(client: Client) -> None:
    user = scenarios.person("bo")
    client.force_login(user)
    dataset = received(user, shapes())
    with lost_blob(dataset.upload_sha256):
        for _ in range(leases.MAX_FAILURES):
            tasks.inspect_dataset(dataset.pk)
        dataset.refresh_from_db()
        assert client.post(f"/api/v1/datasets/{dataset.uid}/recheck/").json()["status"] == "checking"
        tasks.inspect_dataset(dataset.pk)

    dataset.refresh_from_db()
    assert dataset.status == "checking"


def test_only_the_owner_rechecks_and_only_what_the_server_failed_at(client: Client) -> None:
    user, stranger = scenarios.person("bo"), scenarios.person("cy")
    dataset = uploaded(user, b"<html>not a zip</html>")

    with pytest.raises(Denied):
        datasets.recheck(user=stranger, dataset=dataset)
    with pytest.raises(Conflict) as caught:
        datasets.recheck(user=user, dataset=dataset)
    assert caught.value.code == "not_recheckable"

    client.force_login(user)
    answer = client.post(f"/api/v1/datasets/{dataset.uid}/recheck/")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_recheckable")


def test_an_inspection_that_always_takes_its_worker_along_ends_too() -> None:
    dataset = received(scenarios.person("bo"), shapes())
    waiting = Dataset.objects.filter(status="checking")
    for _ in range(leases.MAX_INTERRUPTIONS):
        claimed = leases.acquire(waiting, dataset.pk, now=timezone.now())
        assert claimed is not None
        assert reaping.reap(now=claimed[1].leased_until + timedelta(seconds=1)) == 1
    tasks.inspect_dataset(dataset.pk)

    dataset.refresh_from_db()
    assert (dataset.status, dataset.problems[0]["code"]) == ("invalid", "check_failed")
    assert "interrupted too often" in dataset.problems[0]["message"]


def test_a_verification_that_the_server_fails_at_is_tried_again_and_then_a_draft() -> None:
    vendor = scenarios.person("vera")
    release = submitted(vendor)
    with lost_blob(release.artifacts.get(path="config.json").sha256):
        for _ in range(leases.MAX_FAILURES - 1):
            tasks.verify_release(release.pk)
            release.refresh_from_db()
            assert release.status == "verifying"
        tasks.verify_release(release.pk)

    release.refresh_from_db()
    assert (release.status, release.report["problems"][0]["code"]) == ("draft", "check_failed")
    publishing.submit(user=vendor, release=release)
    tasks.verify_release(release.pk)
    release.refresh_from_db()
    assert (release.status, release.report["problems"][0]["code"]) == ("rejected", "config_invalid")


def test_files_that_no_engine_reads_cannot_break_a_verification() -> None:
    """A folder named like a file that the engine reads, and a name of ours."""
    release = submitted(scenarios.person("vera"), extra=("config.json/notes.md", "weights.json"))
    tasks.verify_release(release.pk)

    release.refresh_from_db()
    assert (release.status, release.report["problems"][0]["code"]) == ("rejected", "config_invalid")


def test_a_verification_ends_together_with_its_attempt_or_not_at_all() -> None:
    release = submitted(scenarios.person("vera"))
    claimed = leases.acquire(Release.objects.filter(status="verifying"), release.pk, now=timezone.now())
    assert claimed is not None
    result = {"status": "accepted", "report": {"parameters": "not a number"}}

    with pytest.raises(ValueError, match="not a number"):
        verifications.record(attempt=claimed[1], release=release, result=result, golden=None, exit_code=0)

    assert not connection.in_atomic_block
    assert leases.is_held(claimed[1])


def test_a_run_whose_derivative_the_engine_refuses_can_be_published_again(world: World) -> None:
    run = finished_run(world["buyer"], world["release"])
    namespace = Namespace.objects.get(user=world["buyer"])
    release = derivatives.publish(user=world["buyer"], run=run, namespace=namespace, name="tuned", now=timezone.now())

    tasks.verify_release(release.pk)

    release.refresh_from_db()
    run.refresh_from_db()
    assert (release.status, run.derivative) == ("rejected", None)


def test_a_derivative_that_the_server_could_not_verify_stays_the_runs_and_is_submitted_again(world: World) -> None:
    run, buyer = finished_run(world["buyer"], world["release"]), world["buyer"]
    release = derivatives.publish(
        user=buyer, run=run, namespace=Namespace.objects.get(user=buyer), name="tuned", now=timezone.now()
    )
    with lost_blob(release.artifacts.get(path="config.json").sha256):
        for _ in range(leases.MAX_FAILURES):
            tasks.verify_release(release.pk)

    release.refresh_from_db()
    run.refresh_from_db()
    assert (release.status, run.derivative) == ("draft", release)
    publishing.submit(user=buyer, release=release)


def test_a_lost_lease_leaves_the_directory_to_its_new_holder(settings: pytest.FixtureRequest) -> None:
    dataset = received(scenarios.person("bo"), shapes())
    claimed = leases.acquire(Dataset.objects.filter(status="checking"), dataset.pk, now=timezone.now())
    assert claimed is not None
    tasks.inspect_dataset(dataset.pk)  # a doubled message meanwhile

    assert outcomes(dataset=dataset) == [""]
    assert not (settings.RUNS_DIR / f"dataset-{dataset.pk}").exists()
