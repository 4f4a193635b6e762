"""The lineage page and its API: the whole tree, once each, and of what is private the digest alone."""

from __future__ import annotations

import dataclasses

import pytest
import scenarios
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from marketplace import storage
from marketplace.accounts.models import User
from models_catalog.family import MAX_NODES, family
from models_catalog.models import Artifact, LineageEdge, Release
from models_catalog.models.lineage import Relation
from models_catalog.presets import PRESETS
from models_catalog.services import lineage, publishing
from models_catalog.terms import Answer, Right

pytestmark = pytest.mark.django_db
TERMS = PRESETS["apache-2.0"]
API = "/api/v1/listings/vera/{}/releases/1.0/lineage/"


def derived(maker: User, name: str, *parents: Release) -> Release:
    draft = scenarios.draft_release(maker, name=name, terms=TERMS)
    for parent in parents:
        lineage.declare(user=maker, release=draft, parent=parent, relation=Relation.MERGE, now=timezone.now())
    return publishing.publish(user=maker, release=scenarios.verify(maker, draft), now=timezone.now())


@pytest.fixture
def vera() -> User:
    return scenarios.person("vera")


@pytest.fixture
def diamond(vera: User) -> dict[str, Release]:
    """bottom was made from left and right, which were both made from top; leaf from bottom. All vera's."""
    top = scenarios.published_release(vera, name="top")
    left, right = (derived(vera, name, top) for name in ("left", "right"))
    bottom = derived(vera, "bottom", left, right)
    return {"top": top, "left": left, "right": right, "bottom": bottom, "leaf": derived(vera, "leaf", bottom)}


def titles(page: str) -> list[str]:
    return [name for name in ("top", "left", "right", "bottom", "leaf") if f"<b>vera/{name}@1.0</b>" in page]


@pytest.mark.usefixtures("diamond")
def test_a_diamond_is_shown_by_generation_and_each_release_once(client: Client) -> None:
    page = client.get("/models/vera/bottom/lineage/").content.decode()

    order = [page.index(f"<b>vera/{name}@1.0</b>") for name in ("top", "left", "right", "bottom", "leaf")]
    assert order == sorted(order)
    assert page.count("<b>vera/top@1.0</b>") == 1
    assert [page.count(title) for title in ("2 steps up", "Made from this release")] == [1, 1]


def test_the_api_tells_nodes_and_links(diamond: dict[str, Release], client: Client) -> None:
    answer = client.get(API.format("bottom")).json()

    nodes = {node["release"]: node for node in answer["nodes"]}
    keys = {node["key"]: node["release"].split("/")[1].split("@")[0] for node in answer["nodes"]}
    assert {name: nodes[f"vera/{name}@1.0"]["generation"] for name in diamond} == {
        "top": -2,
        "left": -1,
        "right": -1,
        "bottom": 0,
        "leaf": 1,
    }
    assert {(keys[link["child"]], keys[link["parent"]]) for link in answer["links"]} == {
        ("left", "top"),
        ("right", "top"),
        ("bottom", "left"),
        ("bottom", "right"),
        ("leaf", "bottom"),
    }
    assert nodes["vera/top@1.0"]["terms"] == "Apache License 2.0"
    assert answer["is_whole"] is True


def test_of_a_private_node_nothing_but_its_digest_is_told(diamond: dict[str, Release], client: Client) -> None:
    vendor = scenarios.vendor_of(diamond["top"])
    LineageEdge.objects.create(
        child=diamond["left"], relation=Relation.TRAINED_ON, dataset_sha256="d" * 64, dataset_name="tomatoes"
    )
    publishing.yank(user=vendor, release=diamond["left"], reason="codename", now=timezone.now())

    page = client.get("/models/vera/bottom/lineage/").content.decode()
    answer = client.get(API.format("bottom")).json()
    [private] = [node for node in answer["nodes"] if node["kind"] == "private_model"]

    assert "vera/left" not in page
    assert "vera/left" not in str(answer)
    assert "tomatoes" not in page + str(answer)
    assert private["sha256"] == diamond["left"].manifest_sha256
    assert {private[name] for name in ("release", "status", "terms_hash", "receipt")} == {None}
    assert private["terms"] == ""
    assert titles(page) == ["top", "right", "bottom", "leaf"]
    client.force_login(vendor)
    assert "vera/left@1.0" in client.get("/models/vera/bottom/lineage/").content.decode()


def test_others_drafts_are_not_even_a_digest(diamond: dict[str, Release], client: Client) -> None:
    mo = scenarios.person("mo")
    scenarios.licensed(mo, diamond["leaf"])
    draft = scenarios.draft_release(mo, name="secret", terms=TERMS)
    lineage.declare(user=mo, release=draft, parent=diamond["leaf"], relation=Relation.MERGE, now=timezone.now())

    assert len(client.get(API.format("leaf")).json()["nodes"]) == len(diamond)
    client.force_login(mo)
    assert "mo/secret@1.0" in client.get("/models/vera/leaf/lineage/").content.decode()


def test_a_node_says_its_state_its_flags_and_has_its_receipt(diamond: dict[str, Release], client: Client) -> None:
    blob = storage.put_bytes(b"{}")
    Artifact.objects.create(
        release=diamond["leaf"], path="evaluation-receipt.json", sha256=blob.sha256, bytes=blob.bytes
    )
    publishing.yank(
        user=scenarios.vendor_of(diamond["top"]), release=diamond["right"], reason="drift", now=timezone.now()
    )
    client.force_login(scenarios.vendor_of(diamond["top"]))

    page = client.get("/models/vera/bottom/lineage/").content.decode()
    nodes = {node["release"]: node for node in client.get(API.format("bottom")).json()["nodes"]}

    assert page.count("an ancestor was withdrawn or quarantined") == 2
    assert nodes["vera/right@1.0"]["status"] == "yanked"
    assert (nodes["vera/leaf@1.0"]["is_flagged"], nodes["vera/top@1.0"]["is_flagged"]) == (True, False)
    assert nodes["vera/leaf@1.0"]["receipt"] == "evaluation-receipt.json"
    assert "Evaluation receipt" in page


@pytest.mark.parametrize("hidden", [False, True])
def test_each_clause_of_the_terms_says_which_ancestor_decided_it(client: Client, *, hidden: bool) -> None:
    """mo's own narrower choice beside what vera's license decided; a hidden ancestor is not named."""
    vera, mo = scenarios.person("vera"), scenarios.person("mo")
    parent = scenarios.published_release(vera, name="top", terms=PRESETS["cc-by-nc-4.0"])
    scenarios.licensed(mo, parent)
    narrow = dataclasses.replace(
        PRESETS["cc-by-nc-4.0"],
        rights={**PRESETS["cc-by-nc-4.0"].rights, Right.PUBLISH_BENCHMARKS: Answer.DENY},
        prohibited_uses=("surveillance",),
    )
    draft = scenarios.draft_release(mo, name="child", terms=narrow)
    lineage.declare(user=mo, release=draft, parent=parent, relation=Relation.FINETUNE, now=timezone.now())
    publishing.publish(user=mo, release=scenarios.verify(mo, draft), now=timezone.now())
    if hidden:
        publishing.yank(user=vera, release=parent, reason="x", now=timezone.now())

    page = client.get("/models/mo/child/lineage/").content.decode()
    told = client.get("/api/v1/listings/mo/child/releases/1.0/lineage/").json()["clauses"]
    found = {clause["clause"]: (clause["answer"], clause["origin"]) for clause in told}

    name = "a private model" if hidden else "vera/top@1.0"
    assert found["rights.commercial_use"] == ("not allowed", name)
    assert found["rights.publish_benchmarks"] == ("not allowed", "")
    assert found["rights.fine_tune"] == ("allowed", "")
    assert found["prohibited_uses.surveillance"] == ("", "")
    assert found["derivative_terms"][1] == name
    assert (f'<a href="#r-{parent.pk}">vera/top@1.0</a>' in page) == (not hidden)
    assert ("vera" in page) == (not hidden)


def test_a_broad_lineage_takes_no_more_queries_than_a_narrow_one(vera: User, client: Client) -> None:
    top = scenarios.published_release(vera, name="top")
    derived(vera, "one", top)
    with CaptureQueriesContext(connection) as few:
        client.get("/models/vera/top/lineage/")
    for number in range(12):
        derived(vera, f"more{number}", top)
    with CaptureQueriesContext(connection) as many:
        page = client.get("/models/vera/top/lineage/").content.decode()

    assert page.count("lineage-node") == 14
    assert len(many) == len(few)


def test_a_lineage_that_is_too_large_is_told_in_part(vera: User) -> None:
    top = scenarios.published_release(vera, name="top")
    listing = top.listing
    children = Release.objects.bulk_create(
        Release(listing=listing, version=f"v{number}", status="published", terms=top.terms, manifest_sha256=f"{number}")
        for number in range(MAX_NODES)
    )
    LineageEdge.objects.bulk_create(LineageEdge(child=row, parent=top, relation="finetune") for row in children)

    found = family(top, vera)

    assert (found.is_whole, [node.title for node in found.nodes]) == (False, ["vera/top@1.0"])


def test_the_lineage_of_another_version_is_its_own(diamond: dict[str, Release], client: Client) -> None:
    assert diamond["top"].version == "1.0"

    assert client.get("/models/vera/top/versions/1.0/lineage/").status_code == 200
    assert client.get("/models/vera/top/versions/2.0/lineage/").status_code == 404
    assert client.get("/api/v1/listings/vera/top/releases/2.0/lineage/").status_code == 404
