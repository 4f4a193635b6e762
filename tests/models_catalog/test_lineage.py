"""What a release comes from: who must say so, who may say so, and who is shown it."""

from __future__ import annotations

import dataclasses

import pytest
import scenarios
from django.test import Client
from django.utils import timezone

from marketplace.accounts.models import AuditEvent, Namespace, Role, User
from marketplace.errors import Denied, DomainError, Invalid
from models_catalog import policies, selectors
from models_catalog.models import Grant, LineageEdge, Release
from models_catalog.models.lineage import Relation
from models_catalog.presets import COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import lineage, publishing, seats
from models_catalog.terms import Answer, Right

pytestmark = pytest.mark.django_db
BYTES = "the very same weights"
# What Apache-2.0 asks of a derivative under other terms.
NOTICED = dataclasses.replace(PRESETS["mit"], license_id="other", name="Ours", state_changes=True)


def declared(user: User, release: Release, parent: Release, relation: str = Relation.QUANTIZED) -> LineageEdge:
    return lineage.declare(user=user, release=release, parent=parent, relation=relation, now=timezone.now())


def publish(user: User, release: Release) -> Release:
    return publishing.publish(user=user, release=scenarios.verify(user, release), now=timezone.now())


def told(user: User, release: Release) -> list[str]:
    """The releases that `submit` finds undeclared."""
    try:
        publishing.submit(user=user, release=release)
    except Invalid as error:
        return error.items if error.code == "lineage_undeclared" else [error.code]
    return []


# Known weights


def test_another_vendor_s_weights_are_not_submitted_without_saying_whose_they_are() -> None:
    scenarios.published_release(scenarios.person("vera"), weights=BYTES)
    thief = scenarios.person("theo")

    draft = scenarios.draft_release(thief, name="mine", terms=PRESETS["mit"], weights=BYTES)

    assert told(thief, draft) == ["vera/net@1.0"]
    assert Release.objects.get(pk=draft.pk).status == "draft"


def test_withdrawn_weights_are_known_too_and_others_drafts_are_not() -> None:
    vendor, other = scenarios.person("vera"), scenarios.person("otto")
    scenarios.draft_release(vendor, name="draft", weights="still secret")
    release = scenarios.published_release(vendor, weights=BYTES)
    publishing.yank(user=vendor, release=release, reason="x", now=timezone.now())

    assert told(other, scenarios.draft_release(other, name="a", weights="still secret")) == []
    assert told(other, scenarios.draft_release(other, name="b", weights=BYTES)) == [selectors.PRIVATE_MODEL]


def test_a_vendor_republishes_their_own_weights_in_all_their_namespaces() -> None:
    vendor = scenarios.person("vera")
    scenarios.published_release(vendor, weights=BYTES)
    org = scenarios.organization(vendor, "acme")

    assert told(vendor, scenarios.draft_release(vendor, version="2.0", weights=BYTES)) == []
    assert told(vendor, scenarios.draft_release(vendor, name="b", weights=BYTES)) == []
    assert told(vendor, scenarios.draft_release(vendor, namespace=org, weights=BYTES)) == []


def test_a_copy_is_declared_under_a_license_that_lets_pass_on_the_weights() -> None:
    origin = scenarios.published_release(scenarios.person("vera"), weights=BYTES)
    mirror = scenarios.person("mira")
    draft = scenarios.draft_release(mirror, weights=BYTES)
    with pytest.raises(Denied) as caught:
        declared(mirror, draft, origin, Relation.COPY)
    assert caught.value.code == "no_license"

    scenarios.licensed(mirror, origin)
    edge = declared(mirror, draft, origin, Relation.COPY)

    assert edge.grant is not None
    assert edge.terms == origin.terms
    assert edge.parent_manifest_sha256 == origin.manifest_sha256
    draft.refresh_from_db()
    assert "Based on a model under Apache License 2.0." in draft.terms.value.attribution_text
    assert told(mirror, draft) == []
    assert AuditEvent.objects.filter(action="lineage.declare").count() == 1


def test_the_same_bytes_are_no_fine_tune() -> None:
    """A license to share derivatives is none to pass on the original."""
    origin = scenarios.published_release(scenarios.person("vera"), terms=COMMERCIAL_TEMPLATE, weights=BYTES)
    buyer = scenarios.person("bo")
    scenarios.licensed(buyer, origin)
    terms = dataclasses.replace(COMMERCIAL_TEMPLATE, name="Cheaper", price_minor=1)
    draft = scenarios.draft_release(buyer, terms=terms, weights=BYTES)

    with pytest.raises(Denied) as caught:
        declared(buyer, draft, origin, Relation.COPY)
    assert caught.value.code == "use_not_granted"
    declared(buyer, draft, origin, Relation.FINETUNE)
    assert told(buyer, draft) == ["vera/net@1.0"]


def test_of_copies_of_copies_only_the_first_is_asked_for() -> None:
    origin = scenarios.published_release(scenarios.person("vera"), weights=BYTES)
    for name in ("mira", "max"):
        mirror = scenarios.person(name)
        scenarios.licensed(mirror, origin)
        draft = scenarios.draft_release(mirror, weights=BYTES)
        assert told(mirror, draft) == ["vera/net@1.0"]
        declared(mirror, draft, origin, Relation.COPY)
        publish(mirror, draft)


def test_a_copy_under_one_s_own_name_stays_under_the_license_that_it_came_with() -> None:
    mit = PRESETS["mit"]
    denied = (Right.FINE_TUNE, Right.SHARE_DERIVATIVES, Right.SELL_DERIVATIVES)
    rights = {**mit.rights, **dict.fromkeys(denied, Answer.DENY)}
    passing = dataclasses.replace(mit, name="Pass it on", license_id="other", spdx_id="", rights=rights, seats=1)
    origin = scenarios.published_release(scenarios.person("vera"), terms=passing, weights=BYTES)
    olga, now = scenarios.person("olga"), timezone.now()
    acme = scenarios.organization(olga, "acme")
    wim = scenarios.member(acme, "wim", Role.WRITER)
    scenarios.licensed(olga, origin, licensee=acme)
    draft = scenarios.draft_release(olga, namespace=acme, name="mirror", terms=passing, weights=BYTES)
    lineage.declare(user=olga, release=draft, parent=origin, relation=Relation.COPY, now=now)
    draft.refresh_from_db()

    assert policies.may_download(olga, draft, now=now).code == ""
    seats.use(user=olga, release=draft, now=now)
    assert policies.may_download(wim, draft, now=now).code == "no_seat"
    Release.objects.filter(pk=draft.pk).update(status="published", manifest_sha256="0" * 64, published_at=now)
    draft = Release.objects.select_related("listing__namespace", "terms").get(pk=draft.pk)
    assert policies.may_fine_tune(olga, draft, now=now, holder=acme).code == "use_not_granted"

    Grant.objects.update(revoked_at=now)
    assert policies.may_download(olga, draft, now=now).code == "no_license"


# Declared parents


def test_a_declared_parent_binds_the_draft_s_terms() -> None:
    parent = scenarios.published_release(scenarios.person("vera"), terms=PRESETS["cc-by-nc-4.0"])
    maker = scenarios.person("mo")
    scenarios.licensed(maker, parent)
    draft = scenarios.draft_release(maker, terms=PRESETS["mit"])

    with pytest.raises(Denied) as caught:
        declared(maker, draft, parent)

    assert caught.value.code == "terms_too_wide"
    assert not LineageEdge.objects.exists()


def test_further_versions_come_from_the_same_parents() -> None:
    parent = scenarios.published_release(scenarios.person("vera"))
    maker = scenarios.person("mo")
    scenarios.licensed(maker, parent)
    first = scenarios.draft_release(maker, terms=NOTICED)
    declared(maker, first, parent)

    second = scenarios.draft_release(maker, version="2.0", terms=NOTICED)

    edge = second.parent_edges.get()
    assert (edge.parent, edge.relation, edge.terms) == (parent, Relation.QUANTIZED, parent.terms)
    with pytest.raises(Denied):
        scenarios.draft_release(maker, version="3.0", terms=PRESETS["mit"])
    assert not Release.objects.filter(version="3.0").exists()


@pytest.mark.parametrize(
    ("state", "code"), [("draft", "not_published"), ("submitted", "release_frozen"), ("stranger", "not_the_vendor")]
)
def test_parents_are_declared_of_drafts_by_their_vendor_and_are_published(state: str, code: str) -> None:
    vendor, maker = scenarios.person("vera"), scenarios.person("mo")
    make = scenarios.draft_release if state == "draft" else scenarios.published_release
    parent = make(vendor)
    if state != "draft":
        scenarios.licensed(maker, parent)
    child = (scenarios.ready_release if state == "submitted" else scenarios.draft_release)(maker, terms=NOTICED)

    with pytest.raises(DomainError) as caught:
        declared(scenarios.person("sam") if state == "stranger" else maker, child, parent)

    assert caught.value.code == code


def test_parents_are_declared_over_the_api(client: Client) -> None:
    parent = scenarios.published_release(scenarios.person("vera"))
    maker = scenarios.person("mo")
    scenarios.licensed(maker, parent)
    scenarios.draft_release(maker, name="small", terms=NOTICED)
    client.force_login(maker)

    answer = client.post(
        "/api/v1/listings/mo/small/releases/1.0/parents/",
        {"listing": "vera/net", "relation": "quantized"},
        content_type="application/json",
    )

    assert answer.status_code == 201, answer.content
    assert [item["release"] for item in answer.json()["parents"]] == ["vera/net@1.0"]


# Who is shown it


@pytest.fixture
def child_of_hidden() -> Release:
    """A public release whose parent has been withdrawn."""
    vendor, maker = scenarios.person("vera"), scenarios.person("mo")
    parent = scenarios.published_release(vendor, name="codename")
    scenarios.licensed(maker, parent)
    draft = scenarios.draft_release(maker, name="small", terms=NOTICED)
    declared(maker, draft, parent)
    child = publish(maker, draft)
    publishing.yank(user=vendor, release=parent, reason="secret now", now=timezone.now())
    return child


@pytest.mark.usefixtures("child_of_hidden")
@pytest.mark.parametrize(("reader", "shown"), [("", False), ("sam", False), ("vera", True), ("mo", True)])
def test_a_parent_is_named_only_to_those_for_whom_it_exists(reader: str, *, shown: bool, client: Client) -> None:
    if reader:
        client.force_login(User.objects.filter(username=reader).first() or scenarios.person(reader))

    page = client.get("/models/mo/small/").content.decode()
    answer = client.get("/api/v1/listings/mo/small/").json()
    [parent] = answer["release"]["parents"]

    assert ("codename" in page) == shown
    assert ("codename" in str(answer)) == shown
    assert parent["release"] == ("vera/codename@1.0" if shown else None)
    assert parent["is_private_model"] == (not shown)
    assert parent["manifest_sha256"] == LineageEdge.objects.get().parent_manifest_sha256
    [listed] = client.get("/api/v1/listings/mo/small/releases/").json()["results"]
    assert listed["parents"] == [parent]


def test_a_hidden_parent_is_a_private_model_with_its_digest(child_of_hidden: Release) -> None:
    node = selectors.lineage(child_of_hidden, scenarios.person("sam"))[0]

    assert (node.release, node.title, node.is_private_model) == (None, "a private model", True)
    assert node.digest == Release.objects.get(listing__name="codename").manifest_sha256
    assert selectors.lineage(child_of_hidden, Namespace.objects.get(name="vera").user)[0].release is not None
