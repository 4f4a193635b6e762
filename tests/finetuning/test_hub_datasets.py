"""Data sets over the Hub's protocol, without its clients: tests/flows/test_hub_dataset_clients.py has those."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import scenarios
from django.db import connection
from django.test import Client
from worlds import dataset_of, received

from finetuning.models import Dataset
from finetuning.services import datasets
from marketplace.accounts.models import Namespace, Role, User
from marketplace.accounts.services import tokens

pytestmark = pytest.mark.django_db


def bearer(user: User, *scopes: str, resources: tuple[str, ...] = ()) -> dict[str, str]:
    _, secret = tokens.issue(user=user, name="ci", scopes=scopes or ["datasets:read"], resources=resources)
    return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
def bea() -> User:
    return scenarios.person("bea")


def named(owner: Namespace, name: str, **given: Any) -> Dataset:
    dataset = dataset_of(owner, **given)
    Dataset.objects.filter(pk=dataset.pk).update(name=name)
    dataset.refresh_from_db()
    return dataset


@pytest.fixture
def shapes(bea: User) -> Dataset:
    return named(Namespace.objects.get(user=bea), "shapes", report={"digest": "d" * 64, "images": 16})


READS = [
    ("get", "/api/datasets/bea/shapes"),
    ("get", "/api/datasets/bea/shapes/revision/v1"),
    ("get", "/api/datasets/bea/shapes/tree/main"),
    ("post", "/api/datasets/bea/shapes/paths-info/main"),
    ("get", "/api/datasets/bea/shapes/refs"),
    ("get", "/api/datasets/bea/shapes/commits/main"),
    ("get", "/api/datasets/bea/shapes/auth-check"),
    ("head", "/datasets/bea/shapes/resolve/main/shapes.zip"),
    ("get", "/datasets/bea/shapes/resolve/main/README.md"),
]


@pytest.mark.parametrize(("method", "address"), READS)
def test_another_ones_data_set_does_not_exist(shapes: Dataset, method: str, address: str) -> None:
    def ask(headers: dict[str, str], path: str = address) -> Any:
        return Client().generic(method.upper(), path, "{}", content_type="application/json", headers=headers)

    sam = scenarios.person("sam")
    assert ask(bearer(shapes.owner.user)).status_code == 200
    for headers, status in ((bearer(sam), 404), ({}, 401)):
        refused = ask(headers)
        assert (refused.status_code, refused.get("X-Error-Code")) == (status, "RepoNotFound")
        never = ask(headers, address.replace("shapes", "nothing"))
        assert never.headers.get("X-Error-Message") == refused.headers.get("X-Error-Message")


def test_a_member_reads_what_the_organization_has(client: Client, bea: User) -> None:
    acme = scenarios.organization(bea, "acme")
    reader = scenarios.member(acme, "rita", Role.READER)
    named(acme, "theirs")

    assert client.get("/api/datasets/ACME/theirs", headers=bearer(reader)).json()["id"] == "acme/theirs"
    write = "/api/datasets/acme/theirs/auth-check/write"
    asked = (bearer(reader, "datasets:write"), bearer(bea), bearer(bea, "datasets:write"))
    assert [client.get(write, headers=headers).status_code for headers in asked] == [403, 403, 200]


def test_a_token_needs_the_scope_and_reaches_no_further_than_it_is_limited_to(
    client: Client, bea: User, shapes: Dataset
) -> None:
    other = named(shapes.owner, "other", task="text-classification")
    limited = bearer(bea, resources=(f"datasets/{other.uid}",))

    refused = client.get("/api/datasets/bea/shapes", headers=bearer(bea, "models:read"))
    assert (refused.status_code, "datasets:read" in refused["X-Error-Message"]) == (403, True)
    assert client.get("/api/datasets/bea/shapes", headers=limited).status_code == 404
    assert client.head("/datasets/bea/shapes/resolve/main/shapes.zip", headers=limited).status_code == 404
    assert client.get("/api/datasets/bea/other", headers=limited).status_code == 200
    assert [row["id"] for row in client.get("/api/datasets", headers=limited).json()] == ["bea/other"]


@pytest.mark.usefixtures("shapes")
def test_files_have_the_sizes_and_digests_that_the_tree_tells(client: Client, bea: User) -> None:
    headers = bearer(bea)
    tree = client.get("/api/datasets/bea/shapes/tree/main", headers=headers).json()

    assert [entry["path"] for entry in tree] == ["README.md", "index.jsonl", "report.json", "shapes.zip"]
    for entry in tree:
        answer = client.get(f"/datasets/bea/shapes/resolve/main/{entry['path']}", headers=headers)
        content = answer.getvalue()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["size"], entry["lfs"]["oid"])
        assert (answer["X-Linked-Size"], answer["ETag"]) == (str(entry["size"]), f'"{entry["oid"]}"')
    part = client.get("/datasets/bea/shapes/resolve/main/README.md", headers={**headers, "Range": "bytes=0-2"})
    assert (part.status_code, part.content) == (206, b"---")


def test_another_license_is_another_version_and_the_earlier_one_stays(
    client: Client, bea: User, shapes: Dataset
) -> None:
    headers = bearer(bea)
    before = client.get("/api/datasets/bea/shapes", headers=headers).json()
    datasets.set_license(user=bea, dataset=shapes, license="cc-by-4.0")

    after = client.get("/api/datasets/bea/shapes", headers=headers).json()
    pinned = client.get(f"/api/datasets/bea/shapes/revision/{before['sha']}", headers=headers).json()
    refs = client.get("/api/datasets/bea/shapes/refs", headers=headers).json()

    assert before["cardData"]["license_name"].startswith("My own data")
    assert (after["cardData"]["license"], pinned["cardData"]) == ("cc-by-4.0", before["cardData"])
    assert {tag["name"]: tag["targetCommit"] for tag in refs["tags"]} == {"v1": before["sha"], "v2": after["sha"]}
    assert refs["branches"][0]["targetCommit"] == after["sha"]
    unknown = client.get("/api/datasets/bea/shapes/revision/v3", headers=headers)
    assert unknown["X-Error-Code"] == "RevisionNotFound"


def test_what_is_still_checked_has_no_revision_and_is_not_listed(client: Client, bea: User) -> None:
    received(bea, b"no archive", name="fresh")

    answer = client.get("/api/datasets/bea/fresh", headers=bearer(bea))

    assert (answer.status_code, answer["X-Error-Code"]) == (404, "RevisionNotFound")
    assert "checking" in answer["X-Error-Message"]
    assert client.get("/api/datasets", headers=bearer(bea)).json() == []


@pytest.mark.parametrize(
    ("upload", "path"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\cats.zip", "cats.zip"),
        ("..", "upload"),
        ("README.md", "upload.md"),
        ("数据.zip", "数据.zip"),
        (".hidden\x00.zip", "hidden.zip"),
        ("x" * 240 + ".csv", "x" * 196 + ".csv"),
    ],
)
def test_the_upload_has_a_name_that_is_safe_on_any_disk(
    client: Client, bea: User, shapes: Dataset, upload: str, path: str
) -> None:
    if "\x00" in upload and connection.vendor == "postgresql":
        pytest.skip("PostgreSQL stores no NUL")
    Dataset.objects.filter(pk=shapes.pk).update(upload_name=upload)

    tree = client.get("/api/datasets/bea/shapes/tree/main", headers=bearer(bea)).json()

    assert {entry["path"] for entry in tree} == {"README.md", "index.jsonl", "report.json", path}


def test_a_name_that_clients_refuse_gives_way_to_the_id(client: Client, bea: User, shapes: Dataset) -> None:
    Dataset.objects.filter(pk=shapes.pk).update(name="my shapes, 2")

    listed = client.get("/api/datasets", headers=bearer(bea)).json()

    assert listed[0]["id"] == f"bea/{shapes.uid}"
    assert client.get(f"/api/datasets/bea/{shapes.uid}", headers=bearer(bea)).json()["sha"] == listed[0]["sha"]


def test_the_list_is_searched_filtered_and_paged(client: Client, bea: User, shapes: Dataset) -> None:
    texts = named(shapes.owner, "reviews", task="text-classification")
    datasets.set_license(user=bea, dataset=texts, license="cc-by-4.0")

    def found(query: str) -> list[str]:
        return [row["id"] for row in client.get(f"/api/datasets?{query}", headers=bearer(bea)).json()]

    assert found("") == ["bea/reviews", "bea/shapes"]
    assert found("search=SHA") == found("filter=task_categories:image-classification") == ["bea/shapes"]
    assert found("filter=license:cc-by-4.0&author=BEA") == ["bea/reviews"]
    assert found("author=sam") == found("filter=language:en") == found("gated=true") == []
    first = client.get("/api/datasets?limit=1", headers=bearer(bea))
    assert [row["id"] for row in first.json()] == ["bea/reviews"]
    following = first["Link"].partition("<")[2].partition(">")[0]
    assert [row["id"] for row in client.get(following, headers=bearer(bea)).json()] == ["bea/shapes"]
    assert client.get("/api/datasets").json() == []


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("post", "/api/datasets/bea/shapes/preupload/main"),
        ("post", "/api/datasets/bea/shapes/commit/main"),
        ("get", "/api/datasets/bea/shapes/xet-write-token/main"),
        ("post", "/datasets/bea/shapes.git/info/lfs/objects/batch"),
        ("put", "/api/datasets/bea/shapes/settings"),
        ("post", "/api/repos/create"),
    ],
)
@pytest.mark.usefixtures("shapes")
def test_who_would_write_is_told_where_data_sets_are_uploaded(
    client: Client, bea: User, method: str, address: str
) -> None:
    headers = bearer(bea, "datasets:write", "models:write")
    body = json.dumps({"name": "more", "type": "dataset"})

    answer = client.generic(method.upper(), address, body, content_type="application/json", headers=headers)

    assert answer.status_code == 501
    assert "/api/v1/datasets/" in answer["X-Error-Message"]
