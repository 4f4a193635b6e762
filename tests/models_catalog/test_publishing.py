"""From a draft to what a listing offers, and back."""

from __future__ import annotations

from typing import Any

import pytest
import scenarios
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from marketplace.accounts.models import AuditEvent, User
from marketplace.errors import Conflict, Denied, Invalid
from models_catalog.models import AccessRequest, Download, Listing, Release
from models_catalog.presets import APPROVAL_TEMPLATE
from models_catalog.services import access, publishing

pytestmark = pytest.mark.django_db
FILES = {f"release/{path}": {"sha256": "a" * 64, "bytes": 1} for path in ("config.json", "model.safetensors")}
FETCHED: dict[str, Any] = {"status": "accepted", "report": {"labels": ["a"], "parameters": 7}}


def remote_release(vendor: User) -> Release:
    """Published, but its weights are elsewhere."""
    release = scenarios.draft_release(vendor)
    url = "https://weights.example/net.pth"
    return publishing.publish_remote(user=vendor, release=release, now=timezone.now(), remote_url=url)


def fetched(release: Release, *, result: dict[str, Any] = FETCHED, files: dict[str, Any] = FILES) -> Listing:
    publishing.record_fetch(release_id=release.pk, result=result, files=files, problem="it failed")
    return Listing.objects.get(pk=release.listing_id)


def first_read(queries: CaptureQueriesContext) -> str:
    """What the first transaction of a service begins with."""
    statements = [query["sql"] for query in queries]
    return statements[next(n for n, sql in enumerate(statements) if sql.startswith("SAVEPOINT")) + 1]


# Files


@pytest.mark.parametrize(
    ("missing", "code"),
    [("config.json", "files_missing"), ("model.safetensors", "files_missing"), ("README.md", "card_missing")],
)
def test_what_is_submitted_can_be_published(missing: str, code: str) -> None:
    vendor = scenarios.person("vera")
    release = scenarios.draft_release(vendor)
    publishing.remove_artifact(user=vendor, release=release, path=missing)

    with pytest.raises(Invalid) as caught:
        publishing.submit(user=vendor, release=release)

    assert caught.value.code == code
    assert Release.objects.get().status == "draft"


def test_a_keras_release_is_submitted_with_its_own_file() -> None:
    vendor = scenarios.person("vera")
    release = scenarios.draft_release(vendor)
    Listing.objects.update(framework="keras")
    release.refresh_from_db()

    with pytest.raises(Invalid) as caught:
        publishing.submit(user=vendor, release=Release.objects.get())
    publishing.attach_texts(user=vendor, release=release, texts=[("model.keras", "a zip")])
    publishing.submit(user=vendor, release=Release.objects.get())

    assert (caught.value.code, caught.value.items) == ("files_missing", ["model.keras"])
    assert Release.objects.get().status == "verifying"


def test_a_file_is_not_taken_out_of_a_release_that_was_submitted_meanwhile() -> None:
    vendor = scenarios.person("vera")
    release = scenarios.draft_release(vendor)
    publishing.submit(user=vendor, release=Release.objects.get())

    with pytest.raises(Conflict) as caught:
        publishing.remove_artifact(user=vendor, release=release, path="README.md")

    assert caught.value.code == "release_frozen"
    assert release.artifacts.count() == 3


def test_a_file_of_a_draft_that_its_vendor_has_looked_at_can_be_taken_out() -> None:
    vendor = scenarios.person("vera")
    release = scenarios.draft_release(vendor)
    artifact = release.artifacts.get(path="config.json")
    scenarios.downloaded(vendor, artifact)

    publishing.remove_artifact(user=vendor, release=release, path="config.json")

    assert not Download.objects.exists()


@pytest.mark.parametrize("path", ["a\0.json", "a\n.json", "a\x1b[31m.json", "a\u202e.json"])
def test_paths_with_control_characters_are_refused(path: str) -> None:
    with pytest.raises(Invalid) as caught:
        publishing.check_path(path)

    assert caught.value.code == "bad_path"


# Verification


@pytest.mark.parametrize("label", ["a\0b", "x" * 201, "\ud800", 7, None])
def test_labels_that_cannot_be_kept_are_a_refusal(label: object) -> None:
    vendor = scenarios.person("vera")
    release = scenarios.draft_release(vendor)
    publishing.submit(user=vendor, release=release)

    result = {"status": "accepted", "report": {"labels": ["ok", label], "input": {"size": 64}}}
    publishing.record_verification(release_id=release.pk, result=result, golden=None)

    release.refresh_from_db()
    assert (release.status, release.labels) == ("rejected", [])
    assert [problem["code"] for problem in release.report["problems"]] == ["config_invalid"]
    assert "\0" not in str(release.report)


def test_a_long_label_within_the_bound_and_hostile_words_of_a_refusal_are_stored() -> None:
    vendor = scenarios.person("vera")
    assert scenarios.published_release(vendor)
    release = scenarios.draft_release(vendor, version="2.0")
    publishing.submit(user=vendor, release=release)
    problem = {"code": "config_invalid", "message": "no", "items": ["\0\ud800", {"a\0": "b"}]}

    publishing.record_verification(
        release_id=release.pk, result={"status": "rejected", "problems": [problem]}, golden=None
    )

    release.refresh_from_db()
    assert release.report["problems"][0]["items"] == ["\ufffd?", {"a\ufffd": "b"}]


# What the listing offers


def test_a_release_is_published_and_withdrawn_by_the_api(client: Client) -> None:
    vendor = scenarios.person("vera")
    scenarios.ready_release(vendor)
    client.force_login(vendor)
    url = "/api/v1/listings/vera/net/releases/1.0/"

    published = client.post(f"{url}publish/").json()
    yanked = client.post(f"{url}yank/", {"reason": "Wrong weights."}, content_type="application/json").json()

    assert [published["status"], yanked["status"]] == ["published", "yanked"]
    assert len(published["manifest_sha256"]) == 64


def test_publishing_and_withdrawing_take_turns_on_the_listing() -> None:
    vendor = scenarios.person("vera")
    first, second = scenarios.published_release(vendor), scenarios.ready_release(vendor, version="2.0")

    with CaptureQueriesContext(connection) as publish:
        publishing.publish(user=vendor, release=second, now=timezone.now())
    with CaptureQueriesContext(connection) as yank:
        publishing.yank(user=vendor, release=second, reason="worse", now=timezone.now())

    for queries in (publish, yank):  # PostgreSQL locks the row that it reads; SQLite the whole file
        assert 'FROM "models_catalog_listing"' in first_read(queries)
    assert Listing.objects.get().latest_release == first


def test_a_stale_page_does_not_withdraw_or_publish_twice() -> None:
    vendor = scenarios.person("vera")
    ready = scenarios.ready_release(vendor)
    stale_ready = Release.objects.get()
    publishing.publish(user=vendor, release=ready, now=timezone.now())
    with pytest.raises(Conflict):
        publishing.publish(user=vendor, release=stale_ready, now=timezone.now())

    stale = Release.objects.get()
    publishing.yank(user=vendor, release=ready, reason="x", now=timezone.now())
    with pytest.raises(Conflict):
        publishing.yank(user=vendor, release=stale, reason="x", now=timezone.now())

    assert Listing.objects.get().latest_release is None


# Figures


@pytest.mark.parametrize(
    "claim",
    ["Measured by this site", "as this server measured", "measured HERE, on test", "this marketplace's evaluation"],
)
def test_nobody_says_in_the_site_s_name_what_it_measured(claim: str) -> None:
    vendor = scenarios.person("vera")
    listing = scenarios.published_release(vendor).listing

    with pytest.raises(Invalid) as edited:
        publishing.edit_listing(user=vendor, listing=listing, accuracy=0.99, accuracy_source=claim)
    with pytest.raises(Invalid) as created:
        publishing.create_listing(
            user=vendor, namespace=listing.namespace, name="other", title="x", accuracy_source=claim
        )

    assert edited.value.code == created.value.code == "measured_here"
    assert Listing.objects.get().accuracy is None


def test_a_vendor_states_figures_of_their_own_models_with_their_source(client: Client) -> None:
    vendor = scenarios.person("vera")
    scenarios.published_release(vendor)
    client.force_login(vendor)

    stated = {"accuracy": 0.9, "accuracy_metric": "top-1", "accuracy_source": "our paper, table 2"}
    answer = client.patch("/api/v1/listings/vera/net/", stated, content_type="application/json").json()

    assert {name: answer[name] for name in stated} == stated
    assert answer["measured_here"] is False


# Weights fetched on demand


def test_only_staff_have_weights_fetched_and_it_is_on_record(client: Client) -> None:
    vendor = scenarios.person("vera")
    release = remote_release(vendor)
    url = "/models/vera/net/fetch/"
    client.force_login(vendor)
    assert client.post(url).status_code == 403
    staff = scenarios.person("stan")
    staff.is_staff = True
    staff.save()
    client.force_login(staff)

    assert client.post(url).status_code == 302

    event = AuditEvent.objects.get(action="release.request_fetch")
    assert (event.actor, event.subject) == (staff, str(release))


@pytest.mark.parametrize(("state", "code"), [("here", "on_server"), ("yanked", "not_published")])
def test_what_need_not_be_fetched_is_not(state: str, code: str) -> None:
    vendor = scenarios.person("vera")
    vendor.is_staff = True
    release = scenarios.published_release(vendor) if state == "here" else remote_release(vendor)
    if state == "yanked":
        publishing.yank(user=vendor, release=release, reason="x", now=timezone.now())
        release.refresh_from_db()

    with pytest.raises(Denied) as caught:
        publishing.request_fetch(user=vendor, release=release)

    assert caught.value.code == code


def test_fetched_weights_take_the_place_of_the_remote_release_once() -> None:
    release = remote_release(scenarios.person("vera"))

    first, again = fetched(release), fetched(release)

    assert first.latest_release == again.latest_release
    local = first.latest_release
    assert (local.version, local.is_remote, local.labels) == ("1.0-local", False, ["a"])
    assert set(local.artifacts.values_list("path", flat=True)) == {"README.md", "config.json", "model.safetensors"}
    assert AuditEvent.objects.filter(action="release.fetch").count() == 1


def test_weights_that_arrive_late_do_not_bring_back_what_was_withdrawn_or_replaced() -> None:
    vendor = scenarios.person("vera")
    release = remote_release(vendor)
    newer = scenarios.published_release(vendor, version="2.0")
    assert fetched(release).latest_release == newer

    publishing.yank(user=vendor, release=newer, reason="x", now=timezone.now())
    publishing.yank(user=vendor, release=release, reason="x", now=timezone.now())

    assert fetched(release).latest_release is None
    assert not Release.objects.filter(version__contains="local").exists()


def test_weights_fetched_again_after_a_withdrawal_get_a_free_version() -> None:
    vendor = scenarios.person("vera")
    release = remote_release(vendor)
    publishing.yank(user=vendor, release=fetched(release).latest_release, reason="x", now=timezone.now())

    assert fetched(release).latest_release.version == "1.0-local.2"


@pytest.mark.parametrize(
    ("given", "problem"),
    [({"files": {}}, "it failed"), ({"result": {"report": {"labels": ["\0"]}}}, "A label is text")],
)
def test_a_fetch_that_failed_says_why(given: dict[str, Any], problem: str) -> None:
    release = remote_release(scenarios.person("vera"))

    listing = fetched(release, **given)

    assert listing.latest_release == release
    assert listing.latest_release.report["fetch_problem"].startswith(problem)


# The vendor's desk


def test_a_request_is_decided_without_reading_the_desk(client: Client) -> None:
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    release = scenarios.published_release(vendor, terms=APPROVAL_TEMPLATE)
    request = access.request_access(user=buyer, release=release, reason="x", now=timezone.now())
    client.force_login(scenarios.person("sam"))
    assert client.post(f"/vendor/requests/{request.pk}/", {"decision": "approve"}).status_code == 404
    client.force_login(vendor)

    with CaptureQueriesContext(connection) as queries:
        assert client.post(f"/vendor/requests/{request.pk}/", {"decision": "approve"}).status_code == 302

    assert AccessRequest.objects.get().status == "approved"
    assert not any("models_catalog_download" in query["sql"] for query in queries)
