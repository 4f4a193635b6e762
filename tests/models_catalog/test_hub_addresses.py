"""The Hub protocol's refusals and open addresses, without its clients: tests/flows/test_hub_clients.py has those."""

from __future__ import annotations

import pytest
import scenarios
from django.contrib.auth.models import AnonymousUser
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from marketplace.accounts.models import User
from marketplace.accounts.services import tokens
from models_catalog import selectors
from models_catalog.models import Release
from models_catalog.services import publishing

pytestmark = pytest.mark.django_db


@pytest.fixture
def release() -> Release:
    return scenarios.published_release(scenarios.person("vera"))


def bearer(scope: str, username: str = "vera") -> dict[str, str]:
    secret = tokens.issue(user=User.objects.get(username=username), name="ci", scopes=[scope])[1]
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("get", "/api/spaces/a/b"),
        ("post", "/api/models/vera/net/xet-read-token/main"),
        ("head", "/spaces/a/b/resolve/main/x"),
        ("put", "/api/models/x"),
    ],
)
@pytest.mark.usefixtures("release")
def test_what_is_not_served_is_a_repository_that_is_not_there(method: str, address: str) -> None:
    for headers, status in ((bearer("models:read"), 404), ({}, 401)):
        answer = getattr(Client(), method)(address, headers=headers)
        assert (answer.status_code, answer["X-Error-Code"]) == (status, "RepoNotFound")
    bad = Client().get("/api/spaces/a/b", headers={"Authorization": "Bearer mkt_x"})
    assert (bad.status_code, "X-Error-Code" in bad) == (401, False)


def test_paths_are_told_to_everybody_and_a_missing_file_names_the_revision(release: Release, client: Client) -> None:
    form = "application/x-www-form-urlencoded"
    told = client.post("/api/models/vera/net/paths-info/main", "paths=config.json&paths=no", content_type=form)
    missing = client.get("/vera/net/resolve/main/no", headers=bearer("models:read"))

    assert [entry["path"] for entry in told.json()] == ["config.json"]
    assert (missing.status_code, missing["X-Error-Code"]) == (404, "EntryNotFound")
    assert missing["X-Repo-Commit"] == release.sha


@pytest.mark.usefixtures("release")
def test_a_token_without_the_scope_is_told_which_one_it_lacks(client: Client) -> None:
    refused = client.get("/vera/net/resolve/main/config.json", headers=bearer("runs:read"))

    assert (refused.status_code, refused["X-Error-Code"]) == (403, "GatedRepo")
    assert "models:read" in refused["X-Error-Message"]
    assert client.get("/api/whoami-v2", headers=bearer("runs:read")).json()["name"] == "vera"


@pytest.mark.usefixtures("release")
def test_a_question_that_is_posted_asks_for_the_scope_of_reading_and_one_about_writing_for_that(client: Client) -> None:
    form = "application/x-www-form-urlencoded"
    asked = {
        scope: client.post(
            "/api/models/vera/net/paths-info/main", "paths=config.json", content_type=form, headers=bearer(scope)
        )
        for scope in ("predict", "models:read")
    }
    may_write = {
        scope: client.get("/api/models/vera/net/auth-check/write", headers=bearer(scope)).status_code
        for scope in ("models:read", "models:write")
    }

    assert [answer.status_code for answer in asked.values()] == [403, 200]
    assert may_write == {"models:read": 403, "models:write": 200}


def test_what_was_withdrawn_is_there_by_its_revision_for_who_licensed_it_alone(
    release: Release, client: Client
) -> None:
    buyer = scenarios.person("bea")
    scenarios.licensed(buyer, release)
    scenarios.person("sam")
    publishing.yank(user=scenarios.vendor_of(release), release=release, reason="It is wrong.", now=timezone.now())

    file = f"/vera/net/resolve/{release.sha}/config.json"

    assert client.head(file, headers=bearer("models:read", "bea"))["X-Repo-Commit"] == release.sha
    assert client.get("/api/models/vera/net/revision/1.0", headers=bearer("models:read", "bea")).status_code == 200
    for headers in (bearer("models:read", "sam"), {}):
        assert client.head(file, headers=headers)["X-Error-Code"] == "RepoNotFound"


def test_what_clients_ask_most_takes_few_queries(
    release: Release, client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    scenarios.licensed(scenarios.person("bea"), release)
    headers = bearer("models:read", "bea")
    file = f"/vera/net/resolve/{release.sha}/config.json"
    client.head(file, headers=headers)  # the token's use is noted once a minute

    with django_assert_max_num_queries(7):
        assert client.head(file, headers=headers).status_code == 200
    with django_assert_max_num_queries(6):
        assert client.get("/api/models/vera/net", headers=headers).status_code == 200


@pytest.mark.usefixtures("release")
def test_a_model_is_found_by_its_name_in_any_case_and_without_reading_every_other() -> None:
    found = selectors.listing_of(AnonymousUser(), "VERA", "Net")

    assert [str(listing) for listing in found] == ["vera/net"]
    assert "SCAN" not in found.explain()  # as SQLite says it
