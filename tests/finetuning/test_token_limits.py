"""A token that is limited to some things acts on those alone, and never does more than its owner can now."""

from __future__ import annotations

from typing import Any

import pytest
import scenarios
from django.test import Client
from worlds import dataset_of

from marketplace.accounts.models import Role, Scope, User
from marketplace.accounts.services import people, tokens
from marketplace.errors import Invalid

pytestmark = pytest.mark.django_db


def limited(user: User, *resources: str) -> dict[str, str]:
    _, secret = tokens.issue(user=user, name="limited", scopes=Scope.values, resources=resources)
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def world() -> dict[str, Any]:
    """A vendor with two drafts of her own and one of her organisation's, and two data sets."""
    vera = scenarios.person("vera")
    acme = scenarios.organization(vera, "acme")
    return {
        "vera": vera,
        "acme": acme,
        "net": scenarios.draft_release(vera, name="net"),
        "other": scenarios.draft_release(vera, name="other"),
        "theirs": scenarios.draft_release(vera, name="theirs", namespace=acme),
        "public": scenarios.published_release(scenarios.person("stranger"), name="open"),
        "mine": dataset_of(people.namespace_of(vera)),
        "group": dataset_of(acme),
    }


def statuses(client: Client, headers: dict[str, str], *paths: str) -> list[int]:
    return [client.get(f"/api/v1/{path}", headers=headers).status_code for path in paths]


DRAFTS = ("listings/vera/net/releases/1.0/", "listings/vera/other/releases/1.0/", "listings/acme/theirs/releases/1.0/")


@pytest.mark.parametrize(
    ("resources", "found"),
    [
        ([], [200, 200, 200]),
        (["vera/net"], [200, 404, 404]),
        (["VERA/Net"], [200, 404, 404]),
        (["vera"], [200, 200, 404]),
        (["acme", "vera/other"], [404, 200, 200]),
        (["datasets/00000000-0000-0000-0000-000000000000"], [404, 404, 404]),
    ],
)
def test_what_a_token_is_not_for_does_not_exist_for_it(
    client: Client, world: dict[str, Any], resources: list[str], found: list[int]
) -> None:
    headers = limited(world["vera"], *resources)

    assert statuses(client, headers, *DRAFTS) == found


def test_what_anybody_may_read_it_reads_as_anybody(client: Client, world: dict[str, Any]) -> None:
    headers = limited(world["vera"], "vera/net")

    assert statuses(client, headers, "listings/", "listings/stranger/open/", "terms/") == [200, 200, 200]
    assert client.get("/api/models/stranger/open", headers=headers).status_code == 200
    config = client.get("/stranger/open/resolve/main/config.json", headers=headers)
    assert (config.status_code, config["X-Error-Code"]) == (403, "GatedRepo")


def test_it_writes_where_it_is_for_and_nowhere_else(client: Client, world: dict[str, Any]) -> None:
    headers = limited(world["vera"], "vera/net", "acme")

    def edited(path: str) -> int:
        return client.patch(
            f"/api/v1/listings/{path}/", {"summary": "New"}, content_type="application/json", headers=headers
        ).status_code

    def created(namespace: str) -> int:
        fields = {"namespace": namespace, "name": "fresh", "title": "F", "task": "image-classification"}
        more = {"framework": "timm", "architecture": "test_efficientnet"}
        return client.post(
            "/api/v1/listings/", {**fields, **more}, content_type="application/json", headers=headers
        ).status_code

    assert [edited("vera/net"), edited("acme/theirs"), edited("vera/other"), edited("stranger/open")] == [
        200,
        200,
        404,
        404,
    ]
    assert [created("acme"), created("vera")] == [201, 404]
    assert client.post("/api/v1/listings/vera/other/releases/1.0/submit/", headers=headers).status_code == 404


def test_the_hub_protocol_keeps_to_the_same_limits(client: Client, world: dict[str, Any]) -> None:
    headers = limited(world["vera"], "vera/net")

    def made(name: str) -> int:
        return client.post(
            "/api/repos/create", {"name": name, "type": "model"}, content_type="application/json", headers=headers
        ).status_code

    assert client.get("/api/models/vera/net", headers=headers).status_code == 200
    assert client.get("/api/models/vera/other", headers=headers).status_code == 404
    form = {"data": "paths=README.md", "content_type": "application/x-www-form-urlencoded", "headers": headers}
    assert client.post("/api/models/vera/net/paths-info/main", **form).status_code == 200
    assert client.post("/api/models/vera/other/paths-info/main", **form).status_code == 404
    preupload = {"files": [{"path": "README.md", "size": 1}]}
    answers = [
        client.post(
            f"/api/models/vera/{name}/preupload/main", preupload, content_type="application/json", headers=headers
        ).status_code
        for name in ("net", "other")
    ]
    assert answers == [200, 404]
    assert made("fresh") == 404
    deletion = client.delete(
        "/api/repos/delete", {"name": "other", "type": "model"}, content_type="application/json", headers=headers
    )
    assert deletion.status_code == 404
    assert client.get("/api/whoami-v2", headers=headers).json()["name"] == "vera"


def test_of_data_sets_it_knows_those_that_it_is_for(client: Client, world: dict[str, Any]) -> None:
    mine, group = world["mine"], world["group"]
    by_id, by_owner = limited(world["vera"], f"datasets/{mine.uid}"), limited(world["vera"], "Acme")

    def listed(headers: dict[str, str]) -> list[str]:
        return [row["id"] for row in client.get("/api/v1/datasets/", headers=headers).json()["results"]]

    assert (listed(by_id), listed(by_owner)) == ([str(mine.uid)], [str(group.uid)])
    assert statuses(client, by_id, f"datasets/{mine.uid}/", f"datasets/{group.uid}/", "runs/") == [200, 404, 200]
    assert client.delete(f"/api/v1/datasets/{group.uid}/", headers=by_id).status_code == 404
    upload = {"name": "x", "task": "image-classification", "file": scenarios.upload("x.zip", b"x")}
    assert client.post("/api/v1/datasets/", upload, headers=by_id).status_code == 404


def test_a_run_needs_both_its_model_and_its_data_set_within(client: Client, world: dict[str, Any]) -> None:
    mine = world["mine"]
    scenarios.licensed(world["vera"], world["public"])

    def launched(*resources: str) -> int:
        fields = {"listing": "stranger/open", "dataset": str(mine.uid)}
        headers = limited(world["vera"], *resources)
        return client.post("/api/v1/runs/", fields, content_type="application/json", headers=headers).status_code

    assert launched(f"datasets/{mine.uid}") == 404
    assert launched("stranger/open") == 404
    assert launched(f"datasets/{mine.uid}", "stranger/open") == 201
    seen = client.get("/api/v1/runs/", headers=limited(world["vera"], f"datasets/{mine.uid}")).json()["results"]
    assert len(seen) == 1
    assert client.get("/api/v1/runs/", headers=limited(world["vera"], "acme")).json()["results"] == []


@pytest.mark.parametrize(
    "path", ["orders/", "grants/", "payouts/", "webhooks/", "audit/", "tokens/", "notifications/", "vendor/listings/"]
)
def test_calls_that_reach_further_than_one_thing_are_refused(client: Client, world: dict[str, Any], path: str) -> None:
    answer = client.get(f"/api/v1/{path}", headers=limited(world["vera"], "vera"))

    assert (answer.status_code, answer.json()["code"]) == (403, "token_restricted")


def test_the_books_of_a_vendor_need_the_vendor(client: Client, world: dict[str, Any]) -> None:
    path = "statements/vera/"

    assert statuses(client, limited(world["vera"], "vera"), path) == [200]
    assert statuses(client, limited(world["vera"], "vera/net"), path) == [404]


def test_a_limit_gives_no_right_that_its_owner_lacks_or_lost(client: Client, world: dict[str, Any]) -> None:
    acme = world["acme"]
    wendy = scenarios.member(acme, "wendy", Role.WRITER)
    headers = limited(wendy, "acme", "vera/net")

    assert statuses(client, headers, *DRAFTS) == [404, 404, 200]
    people.set_role(actor=world["vera"], namespace=acme, username="wendy", role=None)
    assert statuses(client, headers, *DRAFTS) == [404, 404, 404]


@pytest.mark.parametrize("resource", ["a b", "acme/", "/net", "acme/net/1.0", "datasets/x", "..", "acme/n--t"])
def test_what_can_be_no_thing_is_refused(resource: str) -> None:
    with pytest.raises(Invalid) as refused:
        tokens.issue(user=scenarios.person("bo"), name="a", scopes=["models:read"], resources=[resource])

    assert refused.value.code == "bad_resource"
