"""Whose a result is, what it may carry, and that a run has one derivative."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest
import scenarios
from django.db import connection
from django.utils import timezone
from worlds import dataset_of

from finetuning import policies
from finetuning.models import Dataset, Run
from finetuning.services import derivatives, runs
from marketplace.accounts.models import AuditEvent, Namespace, Role, User
from marketplace.accounts.services import people
from marketplace.errors import Conflict, Denied, DomainError, Invalid
from models_catalog.models import Grant, Listing, Release, WeightsOrigin
from models_catalog.presets import COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import offers, publishing
from models_catalog.verdict import derive

pytestmark = pytest.mark.django_db
ACCURACY = {"value": 0.9, "low": 0.8, "high": 0.95}
EVALUATION = {
    "split": "test",
    "items": 20,
    "metrics": {"accuracy": ACCURACY},
    "baseline": {"title": "Always guessing", "accuracy": ACCURACY},
    "verdict": "Better.",
}


def launched(user: User, release: Release, *, owner: Namespace | None = None) -> Run:
    owner = owner or people.namespace_of(user)
    dataset = Dataset.objects.filter(owner=owner).first() or dataset_of(owner)
    return runs.launch(user=user, release=release, dataset=dataset, strategy="head", hyper={}, now=timezone.now())


def finished_run(
    user: User,
    release: Release,
    *,
    owner: Namespace | None = None,
    weights: str = "",
    while_it_runs: Callable[[], None] = lambda: None,
) -> Run:
    """A run that was claimed and has succeeded, with weights of its own."""
    claimed = runs.claim(launched(user, release, owner=owner).pk)
    assert claimed is not None
    run, attempt = claimed
    while_it_runs()
    files = {"model.safetensors": (weights or f"tuned by {run.uid}").encode(), "config.json": b"{}"}
    blobs = {f"release/{path}": scenarios.blob(content) for path, content in files.items()}
    artifacts = {path: {"sha256": blob.sha256, "bytes": blob.bytes} for path, blob in blobs.items()}
    assert runs.finish(run=run, attempt=attempt, result={}, evaluation=EVALUATION, artifacts=artifacts)
    return Run.objects.get(pk=run.pk)


def published(
    user: User, run: Run, *, namespace: Namespace | None = None, name: str = "tuned", **given: Any
) -> Release:
    return derivatives.publish(
        user=user, run=run, namespace=namespace or run.owner, name=name, now=timezone.now(), **given
    )


def verified(release: Release, *, labels: tuple[str, ...] = ("a", "b")) -> Release:
    result = {"status": "accepted", "report": {"labels": list(labels), "parameters": 1}}
    publishing.record_verification(release_id=release.pk, result=result, golden=None)
    release.refresh_from_db()
    return release


def rejected(release: Release) -> Release:
    publishing.record_verification(release_id=release.pk, result={"status": "rejected", "problems": []}, golden=None)
    assert derivatives.release_rejected(release_id=release.pk)
    release.refresh_from_db()
    return release


def licensed_buyer(terms: Any = None) -> tuple[User, Release]:
    buyer = scenarios.person("bo")
    release = scenarios.published_release(scenarios.person("vera"), terms=terms)
    scenarios.licensed(buyer, release)
    return buyer, release


def code_of(act: Any) -> str:
    try:
        act()
    except DomainError as error:
        return error.code
    return ""


# The license of a run


def test_a_run_remembers_the_grant_and_the_terms_that_it_was_launched_under() -> None:
    buyer, release = licensed_buyer()

    run = launched(buyer, release)

    assert run.grant == Grant.objects.get()
    assert run.terms == release.terms


def test_the_vendor_s_own_run_needs_no_grant() -> None:
    vendor = scenarios.person("vera")

    run = launched(vendor, scenarios.published_release(vendor))

    assert run.grant is None


def test_a_member_does_not_use_an_organisation_s_grant_for_themselves() -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    acme = scenarios.organization(scenarios.person("olga"), "acme")
    writer = scenarios.member(acme, "wim", Role.WRITER)
    scenarios.licensed(writer, release, licensee=acme)

    assert code_of(lambda: launched(writer, release)) == "no_license"

    run = finished_run(writer, release, owner=acme)  # claimed, too: the license is asked again there
    assert (run.owner, run.grant) == (acme, Grant.objects.get())


def test_a_person_s_grant_does_not_pay_for_an_organisation_s_run() -> None:
    buyer, release = licensed_buyer()
    acme = scenarios.organization(buyer, "acme")

    assert code_of(lambda: launched(buyer, release, owner=acme)) == "no_license"


def test_drafts_are_not_fine_tuned_even_by_their_vendor() -> None:
    vendor = scenarios.person("vera")

    assert code_of(lambda: launched(vendor, scenarios.ready_release(vendor))) == "not_published"


# What the derivative carries


def test_a_derivative_carries_the_terms_of_training_whatever_was_licensed_since() -> None:
    buyer, first = licensed_buyer(terms=PRESETS["cc-by-nc-4.0"])
    run = finished_run(buyer, first)
    second = scenarios.published_release(scenarios.vendor_of(first), version="2.0", terms=PRESETS["mit"])
    scenarios.licensed(buyer, second)

    release = published(buyer, run)

    assert release.terms.value == derive(PRESETS["cc-by-nc-4.0"])
    edge = release.parent_edges.get(parent=first)
    assert (edge.terms, edge.grant) == (run.terms, run.grant)
    assert release.parent_edges.get(parent=None).dataset_sha256 == "d" * 64
    assert code_of(lambda: published(buyer, finished_run(buyer, first), name="b", price_minor=1)) == "price_not_allowed"


def test_figures_of_a_derivative_come_from_its_metrics_when_it_is_published() -> None:
    buyer, parent = licensed_buyer()
    release = published(buyer, finished_run(buyer, parent))
    assert release.listing.accuracy is None

    verified(release)

    listing = Listing.objects.get(pk=release.listing_id)
    assert (listing.latest_release, listing.accuracy, listing.accuracy_source) == (release, 0.9, "")


# Where it may be published


def test_what_was_made_for_an_organisation_stays_there() -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    acme = scenarios.organization(scenarios.person("olga"), "acme")
    writer = scenarios.member(acme, "wim", Role.WRITER)
    scenarios.licensed(writer, release, licensee=acme)
    scenarios.licensed(writer, release)
    run = finished_run(writer, release, owner=acme)

    own, other = people.namespace_of(writer), scenarios.organization(writer, "other")
    assert code_of(lambda: published(writer, run, namespace=own)) == "not_the_owner"
    assert code_of(lambda: published(writer, run, namespace=other)) == "not_the_owner"
    assert published(writer, run).listing.namespace == acme


def test_one_s_own_result_goes_to_an_organisation_that_holds_the_license_itself() -> None:
    buyer, release = licensed_buyer()
    acme = scenarios.organization(buyer, "acme")
    run = finished_run(buyer, release)
    assert code_of(lambda: published(buyer, run, namespace=acme)) == "no_license"

    scenarios.licensed(buyer, release, licensee=acme)

    release_of_acme = published(buyer, run, namespace=acme)
    assert release_of_acme.listing.namespace == acme
    # It lives and ends with the organisation's license, not with the member's.
    edge = release_of_acme.parent_edges.get(parent=release)
    assert edge.grant is not None
    assert edge.grant.licensee == acme
    assert policies.may_publish_derivative(buyer, run, now=timezone.now()).allowed


# Once


def test_a_run_whose_state_was_read_earlier_is_not_published_twice() -> None:
    buyer, parent = licensed_buyer()
    run = finished_run(buyer, parent)
    stale = Run.objects.get(pk=run.pk)
    published(buyer, run)

    with pytest.raises(Conflict) as caught:
        published(buyer, stale, name="again")

    assert caught.value.code == "already_published"
    assert Listing.objects.filter(namespace=run.owner).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_requests_at_once_give_one_derivative() -> None:
    buyer, parent = licensed_buyer()
    run = finished_run(buyer, parent)
    ready, told = threading.Barrier(2), []

    def request(name: str) -> None:
        mine = Run.objects.get(pk=run.pk)
        ready.wait(10)
        told.append(code_of(lambda: published(buyer, mine, name=name)))
        connection.close()

    threads = [threading.Thread(target=request, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(told) == ["", "already_published"]
    assert Release.objects.exclude(pk=parent.pk).count() == 1


def test_two_people_s_runs_that_come_to_the_same_bytes_are_two_derivatives() -> None:
    buyer, parent = licensed_buyer()
    other = scenarios.person("cy")
    scenarios.licensed(other, parent)
    for user in (buyer, other):
        release = published(user, finished_run(user, parent, weights="of the same data, settings and seed"))
        assert verified(release).is_live


# Refused


def test_a_refused_derivative_can_be_published_again_under_its_name() -> None:
    buyer, parent = licensed_buyer()
    run = finished_run(buyer, parent)
    first = rejected(published(buyer, run))
    run.refresh_from_db()
    assert run.derivative is None
    assert AuditEvent.objects.filter(action="derivative.reject").exists()

    second = published(buyer, run, version="1.1")

    assert second.listing == first.listing
    assert second.parent_edges.count() == 2
    assert verified(second).is_live


def test_only_a_refusal_frees_the_run() -> None:
    buyer, parent = licensed_buyer()
    run = finished_run(buyer, parent)
    release = verified(published(buyer, run))

    assert not derivatives.release_rejected(release_id=release.pk)
    assert not derivatives.release_rejected(release_id=parent.pk)

    run.refresh_from_db()
    assert run.derivative == release


def test_labels_that_cannot_be_stored_refuse_the_derivative_and_free_the_run() -> None:
    buyer, parent = licensed_buyer()
    release = verified(published(buyer, finished_run(buyer, parent)), labels=("a\0",))

    assert release.status == "rejected"
    assert derivatives.release_rejected(release_id=release.pk)


# Frozen, and known wherever it turns up


def test_the_files_of_a_derivative_are_never_its_owner_s_to_change() -> None:
    buyer, parent = licensed_buyer()
    release = rejected(published(buyer, finished_run(buyer, parent)))

    for path in ("model.safetensors", "config.json", "notes.md"):
        attach = {"user": buyer, "release": release, "path": path, "blob": scenarios.blob(b"other")}
        assert code_of(lambda given=attach: publishing.attach_artifact(**given)) == "derivative_frozen"
    assert (
        code_of(lambda: publishing.remove_artifact(user=buyer, release=release, path="README.md"))
        == "derivative_frozen"
    )
    assert code_of(lambda: publishing.submit(user=buyer, release=release)) == "derivative_frozen"
    publishing.attach_texts(user=buyer, release=release, texts=[("README.md", "# A better card")])


def test_nobody_restates_the_figures_of_a_derivative() -> None:
    buyer, parent = licensed_buyer()
    listing = verified(published(buyer, finished_run(buyer, parent))).listing

    for fields in ({"accuracy": 1.0}, {"accuracy_source": "our paper"}, {"accuracy_metric": "top-5"}):
        with pytest.raises(Denied) as caught:
            publishing.edit_listing(user=buyer, listing=listing, **fields)
        assert caught.value.code == "measured_here"
    assert publishing.edit_listing(user=buyer, listing=listing, title="Ours").title == "Ours"


def test_figures_do_not_pass_to_a_version_that_was_not_measured() -> None:
    buyer, parent = licensed_buyer()
    first = verified(published(buyer, finished_run(buyer, parent)))
    terms = dataclasses.replace(first.terms.value, attribution_text="")
    second = scenarios.published_release(buyer, name="tuned", version="2.0", terms=terms)

    listing = Listing.objects.get(pk=first.listing_id)
    assert (listing.latest_release, listing.accuracy) == (second, None)

    publishing.yank(user=buyer, release=second, reason="worse", now=timezone.now())
    listing.refresh_from_db()
    assert (listing.latest_release, listing.accuracy) == (first, 0.9)


def test_a_further_version_of_a_derivative_has_its_parents_and_no_wider_terms() -> None:
    buyer, parent = licensed_buyer(terms=PRESETS["cc-by-nc-4.0"])
    first = verified(published(buyer, finished_run(buyer, parent)))

    with pytest.raises(Denied) as caught:
        scenarios.draft_release(buyer, name="tuned", version="2.0", terms=PRESETS["mit"])
    assert caught.value.code == "terms_too_wide"
    second = scenarios.draft_release(buyer, name="tuned", version="2.0", terms=PRESETS["cc-by-nc-4.0"])

    told = [
        list(release.parent_edges.values_list("parent", "relation", "terms", "grant", "dataset_sha256"))
        for release in (first, second)
    ]
    assert told[0] == told[1]
    assert second.terms.value.attribution_text == first.terms.value.attribution_text != ""


def test_trained_weights_are_known_where_nothing_of_them_was_published() -> None:
    buyer, parent = licensed_buyer(terms=COMMERCIAL_TEMPLATE)
    run = finished_run(buyer, parent)
    assert WeightsOrigin.objects.get().parent == parent

    laundered = scenarios.draft_release(buyer, name="mine", terms=PRESETS["mit"], weights=f"tuned by {run.uid}")

    with pytest.raises(Invalid) as caught:
        publishing.submit(user=buyer, release=laundered)
    assert caught.value.code == "lineage_undeclared"
    assert caught.value.items == ["vera/net@1.0"]
    assert Release.objects.get(pk=laundered.pk).status == "draft"


def test_a_derivative_s_weights_take_their_parents_along_to_another_listing() -> None:
    buyer, parent = licensed_buyer(terms=PRESETS["cc-by-nc-4.0"])
    run = finished_run(buyer, parent)
    verified(published(buyer, run))
    WeightsOrigin.objects.all().delete()  # trained before origins were kept: the other release tells

    laundered = scenarios.draft_release(buyer, name="mine", terms=PRESETS["mit"], weights=f"tuned by {run.uid}")

    assert code_of(lambda: publishing.submit(user=buyer, release=laundered)) == "lineage_undeclared"


def test_the_text_of_a_derivative_says_its_own_price_and_not_its_parents() -> None:
    clauses = {"name": "House terms", "price_minor": 0, "royalty_floor_minor": 150}
    buyer, release = licensed_buyer(offers.compose(clauses))
    assert "Costs nothing" in release.terms.value.text

    derivative = published(buyer, finished_run(buyer, release), price_minor=500)

    text = derivative.terms.value.text
    assert text.startswith("House terms")
    assert "€5.00" in text
    assert "Costs nothing" not in text
    assert "Pay for each sale" not in text  # to the derivative's vendor: they are owed nothing, the parent is


def test_a_derivative_keeps_the_text_of_a_share_alike_license() -> None:
    buyer, release = licensed_buyer(
        offers.compose({"name": "House terms", "price_minor": 0, "derivative_terms": "same"})
    )

    derivative = published(buyer, finished_run(buyer, release))

    assert derivative.terms.value.text == release.terms.value.text
