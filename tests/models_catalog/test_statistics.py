"""Downloads as a vendor sees them: different users a day, however often and in however many parts they fetch."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import scenarios
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from marketplace.accounts.models import Role, Scope, User
from marketplace.accounts.services import tokens
from models_catalog.desks.statistics import Figures, statistics
from models_catalog.models import Artifact, Download, Listing, Release

pytestmark = pytest.mark.django_db
HUB = "transformers/5.1.0; hf_hub/1.25.0; python/3.11.2"
BIG = "w" * (3 * 2**20)


def weights_of(release: Release) -> Artifact:
    return release.artifacts.get(path="model.safetensors")


def found(**given: Any) -> Any:
    return statistics(Listing.objects.all(), until=timezone.localdate(), **given)


def fetch(user: User, release: Release, agent: str = HUB, **headers: str) -> int:
    client = Client(headers={"User-Agent": agent, **headers})
    client.force_login(user)
    listing = release.listing
    address = f"/models/{listing.namespace.name}/{listing.name}/files/{release.version}/model.safetensors"
    answer = client.get(address)
    b"".join(answer.streaming_content) if answer.streaming else answer.content
    return answer.status_code


def buyer_of(release: Release, name: str = "bo") -> User:
    buyer = scenarios.person(name)
    scenarios.licensed(buyer, release)
    return buyer


def test_a_file_fetched_in_parts_and_resumed_counts_once() -> None:
    release = scenarios.published_release(scenarios.person("vera"), weights=BIG)
    buyer = buyer_of(release)

    for part in ("bytes=0-1048575", "bytes=1048576-2097151", "bytes=2097152-", "bytes=0-"):
        assert fetch(buyer, release, Range=part) == 206
    assert fetch(buyer, release) == 200

    assert found().total == Figures(users=1, libraries=1, files=1)


def test_a_look_at_the_header_of_the_weights_is_no_download() -> None:
    release = scenarios.published_release(scenarios.person("vera"), weights=BIG)

    assert fetch(buyer_of(release), release, Range="bytes=0-99999") == 206

    assert not Download.objects.exists()


def test_people_libraries_programs_and_build_services_are_told_apart() -> None:
    vendor = scenarios.person("vera")
    release = scenarios.published_release(vendor)
    first, second = buyer_of(release), buyer_of(release, "cy")
    ways = [
        (first, "Mozilla/5.0", False),
        (first, HUB, True),
        (first, "curl/8.14.1", True),
        (second, f"{HUB}; is_ci/true", True),
        (second, "Mozilla/5.0", True),  # a program that calls itself a browser, by a token
    ]
    for user, agent, by_token in ways:
        scenarios.downloaded(user, weights_of(release), agent=agent, by_token=by_token)

    figures = found().total

    assert figures == Figures(users=2, people=1, libraries=1, programs=2, ci=1, files=5)
    assert {(row.client, row.is_ci): row.users for row in found().clients} == {
        ("browser", False): 2,
        ("transformers", False): 1,
        ("transformers", True): 1,
        ("curl", False): 1,
    }


def test_days_without_a_download_are_there_and_days_before_the_window_are_not() -> None:
    vendor, now = scenarios.person("vera"), timezone.now()
    release = scenarios.published_release(vendor)
    buyer = buyer_of(release)
    for days in (0, 2, 2, 40):
        scenarios.downloaded(buyer, weights_of(release), at=now - timedelta(days=days))

    week = found(days=7)

    assert [row.figures.users for row in week.days] == [0, 0, 0, 0, 1, 0, 1]
    assert week.total.files == 2
    assert found(days=90).total.files == 3


def test_each_release_has_its_own_figures_and_the_vendors_members_are_not_counted() -> None:
    owner = scenarios.person("olga")
    namespace = scenarios.organization(owner, "works")
    writer = scenarios.member(namespace, "wim", Role.WRITER)
    old = scenarios.published_release(owner, namespace=namespace, version="1.0")
    new = scenarios.published_release(owner, namespace=namespace, version="2.0")
    buyer = buyer_of(old)
    for user, release in ((buyer, old), (buyer, new), (owner, new), (writer, new)):
        scenarios.downloaded(user, weights_of(release))
    scenarios.downloaded(buyer, new.artifacts.get(path="config.json"))

    rows = {row.version: (row.figures.users, row.figures.files) for row in found().releases}

    assert rows == {"1.0": (1, 1), "2.0": (1, 2)}


def test_the_figures_take_the_same_number_of_queries_however_many_rows_there_are() -> None:
    vendor = scenarios.person("vera")

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            found()
        return len(captured)

    first = scenarios.published_release(vendor, name="net-0")
    scenarios.downloaded(buyer_of(first, "buyer-0"), weights_of(first))
    few = queries()
    for number in range(1, 6):
        release = scenarios.published_release(vendor, name=f"net-{number}")
        scenarios.downloaded(buyer_of(release, f"buyer-{number}"), weights_of(release))

    assert queries() == few


def test_only_the_vendor_sees_them() -> None:
    vendor, other = scenarios.person("vera"), scenarios.person("vic")
    release = scenarios.published_release(vendor)
    scenarios.published_release(other, name="other")
    scenarios.downloaded(buyer_of(release), weights_of(release))
    client = Client()

    client.force_login(other)
    page = client.get("/vendor/downloads/")
    assert page.status_code == 200
    assert "vera/net" not in page.content.decode()
    assert client.get("/vendor/downloads/?listing=vera/net").status_code == 404
    refused = client.get("/api/v1/listings/vera/net/statistics/")
    assert (refused.status_code, refused.json()["code"]) == (403, "not_the_vendor")

    client.force_login(vendor)
    html = client.get("/vendor/downloads/?listing=vera/net&days=7").content.decode()
    assert "vera/net@1.0" in html
    assert html.count("<tr data-day=") == 7


def test_a_token_that_reads_models_gets_the_figures_by_the_api() -> None:
    vendor = scenarios.person("vera")
    release = scenarios.published_release(vendor)
    scenarios.downloaded(buyer_of(release), weights_of(release), agent=HUB, by_token=True)
    _, secret = tokens.issue(user=vendor, name="desk", scopes=[Scope.MODELS_READ])
    client = Client(headers={"Authorization": f"Bearer {secret}"})

    body = client.get("/api/v1/listings/vera/net/statistics/?days=7").json()
    refused = client.get("/api/v1/listings/vera/net/statistics/?days=8")

    assert body["total"] == {"users": 1, "people": 0, "libraries": 1, "programs": 0, "ci": 0, "files": 1}
    assert len(body["days"]) == 7
    assert (refused.status_code, refused.json()["code"]) == (422, "bad_filter")
