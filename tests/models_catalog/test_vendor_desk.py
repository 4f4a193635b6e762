"""The vendor's desk: what waits, and lists of one's own rows alone, in constant queries."""

from __future__ import annotations

import dataclasses

import pytest
import scenarios
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from test_royalties import ROYAL, child, priced

from marketplace.accounts.models import Role, User
from marketplace.accounts.services import people
from models_catalog.desks import vendor as desk
from models_catalog.desks import vendor_rows
from models_catalog.models import Release
from models_catalog.presets import APPROVAL_TEMPLATE, COMMERCIAL_TEMPLATE
from models_catalog.services import access, questions, reviews

pytestmark = pytest.mark.django_db
NAMES = ("listings", "releases", "requests", "grants", "sales", "reviews", "questions")
PRICED = dataclasses.replace(COMMERCIAL_TEMPLATE, price_minor=4900)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def busy(vendor: User, tag: str, *, buyers: int = 1) -> Release:
    """A vendor with something in every section: a licensed model, one that needs approval, one with a price."""
    now = timezone.now()
    free = scenarios.published_release(vendor, name=f"{tag}-free")
    asked = scenarios.published_release(vendor, name=f"{tag}-asked", terms=APPROVAL_TEMPLATE)
    paid = scenarios.published_release(vendor, name=f"{tag}-paid", terms=PRICED)
    for number in range(buyers):
        buyer = scenarios.person(f"{tag}-buyer-{number}")
        scenarios.licensed(buyer, free)
        scenarios.accepted(buyer, paid)
        access.request_access(user=buyer, release=asked, reason="Tomatoes.", now=now)
        author = people.namespace_of(buyer)
        reviews.write(user=buyer, listing=free.listing, author=author, rating=4, text="Good.", now=now)
        questions.ask(user=buyer, listing=free.listing, text="How?", now=now)
        scenarios.downloaded(buyer, free.artifacts.get(path="config.json"))
    return free


def test_what_waits_for_a_vendor_is_told_with_the_way_to_it() -> None:
    vendor = scenarios.person("vera")
    busy(vendor, "a", buyers=2)
    scenarios.ready_release(vendor, name="ready")

    found = desk.overview(vendor)

    assert {(item.section, item.status): item.number for item in found.waiting} == {
        ("requests", "pending"): 2,
        ("sales", "pending"): 2,
        ("reviews", "unanswered"): 2,
        ("questions", "unanswered"): 2,
        ("releases", "ready"): 1,
    }
    assert (found.listings, found.licenses, found.total) == (4, 2, 9)
    client = signed_in(vendor)
    html = client.get("/vendor/").content.decode()
    for item in found.waiting:
        assert f'/vendor/{item.section}/?status={item.status}"' in html
        assert client.get(f"/vendor/{item.section}/?status={item.status}").content.count(b'<th scope="row"') > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_section_shows_nothing_of_another_vendor(name: str) -> None:
    vendor, other = scenarios.person("vera"), scenarios.person("vic")
    busy(vendor, "mine")
    busy(other, "theirs")
    address = f"/api/v1/vendor/{'orders' if name == 'sales' else name}/"

    page = signed_in(vendor).get(f"/vendor/{name}/").content.decode()
    rows = signed_in(vendor).get(address).json()["results"]

    assert "mine-" in page
    assert "theirs-" not in page
    assert rows
    assert "theirs-" not in str(rows)
    assert signed_in(other).get(f"/vendor/{name}/?listing=vera/mine-free").content.count(b'<th scope="row"') == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_section_takes_the_same_number_of_queries_however_long_it_is(name: str) -> None:
    vendor = scenarios.person("vera")
    client = signed_in(vendor)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get(f"/vendor/{name}/")
        return len(captured)

    busy(vendor, "a")
    few = queries()
    busy(vendor, "b", buyers=4)

    assert queries() == few


def test_each_license_and_download_counts_once_though_both_hang_on_the_listing() -> None:
    vendor = scenarios.person("vera")
    free = busy(vendor, "a", buyers=3)

    row = vendor_rows.listings(vendor).get(pk=free.listing_id)

    assert (row.licenses, row.downloads) == (3, 3)  # type: ignore[attr-defined]  # annotated


def test_sections_are_searched_and_narrowed() -> None:
    vendor = scenarios.person("vera")
    busy(vendor, "a", buyers=2)
    client = signed_in(vendor)

    def listed(query: str) -> list[str]:
        return [row["licensee"] for row in client.get(f"/api/v1/vendor/grants/?{query}").json()["results"]]

    assert sorted(listed("")) == ["a-buyer-0", "a-buyer-1"]
    assert listed("q=buyer-1") == ["a-buyer-1"]
    assert listed("status=ended") == []
    assert len(listed("listing=vera/a-free&status=current")) == 2
    assert client.get("/api/v1/vendor/grants/?status=odd").json()["code"] == "bad_filter"
    assert client.get("/vendor/grants/?status=odd&page=99&q=" + "x" * 500).status_code == 200


def test_billing_sees_orders_and_licenses_but_neither_requests_nor_releases() -> None:
    owner = scenarios.person("olga")
    namespace = scenarios.organization(owner, "works")
    billing = scenarios.member(namespace, "bill", Role.BILLING)
    release = scenarios.published_release(owner, namespace=namespace)
    scenarios.licensed(scenarios.person("bo"), release)

    assert (vendor_rows.sales(billing).count(), vendor_rows.grants(billing).count()) == (1, 1)
    assert (vendor_rows.releases(billing).count(), vendor_rows.listings(billing).count()) == (0, 0)


def test_the_desk_is_for_those_who_are_signed_in() -> None:
    for name in ("", *(f"{name}/" for name in NAMES), "downloads/"):
        assert Client().get(f"/vendor/{name}").status_code == 302
    assert Client().get("/api/v1/vendor/grants/").status_code == 401


def test_a_buyer_sees_the_orders_of_their_namespaces_alone_in_constant_queries() -> None:
    vendor = scenarios.person("vera")
    busy(vendor, "a", buyers=2)
    buyer = User.objects.get(username="a-buyer-0")
    client = signed_in(buyer)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get("/orders/")
        return len(captured)

    html = client.get("/orders/").content.decode()
    few = queries()
    for number in range(3):
        scenarios.licensed(buyer, scenarios.published_release(vendor, name=f"more-{number}"))

    assert html.count('<th scope="row"') == 2
    assert "a-buyer-1" not in html
    assert client.get("/orders/?status=pending").content.count(b'<th scope="row"') == 1
    assert queries() == few


def test_royalties_are_shown_to_who_gives_and_who_receives_and_to_nobody_else() -> None:
    root = scenarios.published_release(scenarios.person("rita"), name="root", terms=ROYAL)
    sold = child(scenarios.person("mia"), root, name="child", terms=priced(6000))
    scenarios.licensed(scenarios.person("bo"), sold)

    def rows(username: str, query: str = "") -> list[tuple[object, ...]]:
        client = signed_in(User.objects.get(username=username))
        assert client.get(f"/vendor/royalties/?{query}").status_code == 200
        found = client.get(f"/api/v1/vendor/royalties/?{query}").json()["results"]
        return [(row["listing"], row["sold"], row["is_in"], row["amount_minor"]) for row in found]

    assert rows("rita") == [("rita/root", "mia/child", True, 600)]
    assert rows("mia") == [("rita/root", "mia/child", False, 600)]
    assert rows("bo") == []
    assert (rows("mia", "status=in"), len(rows("mia", "status=out&q=root"))) == ([], 1)


def test_royalties_take_the_same_number_of_queries_however_many_there_are() -> None:
    root = scenarios.published_release(scenarios.person("rita"), name="root", terms=ROYAL)
    sold = child(scenarios.person("mia"), root, name="child", terms=priced(6000))
    client = signed_in(User.objects.get(username="rita"))

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get("/vendor/royalties/")
        return len(captured)

    scenarios.licensed(scenarios.person("bo"), sold)
    few = queries()
    for number in range(4):
        scenarios.licensed(scenarios.person(f"buyer-{number}"), sold)

    assert queries() == few


def test_the_desk_groups_its_sections_and_shows_those_of_the_one_that_is_open() -> None:
    client = signed_in(scenarios.person("vera"))

    overview = client.get("/vendor/").content.decode()
    payouts = client.get("/payouts/").content.decode()

    assert 'class="subtabs"' not in overview
    assert '<a href="/vendor/sales/" aria-current="true">Money</a>' in payouts
    assert '<a href="/payouts/" aria-current="page">Payouts</a>' in payouts
    assert ">Royalties</a>" in payouts
    assert ">Downloads</a>" not in payouts


def test_requests_to_a_vendor_have_one_list_and_the_way_to_each_decision() -> None:
    vendor = scenarios.person("vera")
    busy(vendor, "a")
    client = signed_in(vendor)

    answer = client.get("/licenses/requests/?side=vendor&status=pending")

    assert (answer.status_code, answer["Location"]) == (302, "/vendor/requests/?status=pending")
    asked = vendor_rows.requests(vendor).get()
    assert f'href="/licenses/requests/{asked.pk}/"' in client.get(answer["Location"]).content.decode()
    assert 'href="/vendor/requests/"' in client.get("/licenses/requests/").content.decode()
