"""Public pages are kept for all who are not signed in: never one's page for another, and never longer than it is true."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import scenarios
from django.core.cache import caches
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from marketplace import shared_pages
from marketplace.accounts.models import User
from models_catalog.models import Listing, Release, change_watch
from models_catalog.presets import COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import changes, lineage, publishing, quarantine, reviews

pytestmark = pytest.mark.django_db
CATALOG, MODEL = "/models/", "/models/vera/net/"
# Read by public pages, and not watched: what they show of it may be as old as PAGE_CACHE_SECONDS (ADR 42).
MAY_LAG = {"models_catalog_grant", "cache", "models_catalog_catalogchange"}


@pytest.fixture
def vera() -> User:
    return scenarios.person("vera")


@pytest.fixture
def release(vera: User) -> Release:
    return scenarios.published_release(vera, name="net", terms=PRESETS["mit"])


def asked_of_the_database(act: Callable[[], Any]) -> list[str]:
    statements: list[str] = []

    def watch(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        statements.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(watch):
        act()
    return statements


def text(client: Client, address: str) -> str:
    return client.get(address).content.decode()


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize("address", ["/", CATALOG, MODEL, MODEL + "versions/1.0/", "/models/compare/?model=vera/net"])
def test_a_page_is_made_once_and_then_costs_one_query(address: str) -> None:
    first = Client().get(address)
    again: list[Any] = []
    statements = asked_of_the_database(lambda: again.append(Client().get(address)))

    assert len(statements) == 1
    assert (again[0].status_code, again[0].content) == (200, first.content)
    for header in ("Content-Type", "X-Frame-Options", "Content-Security-Policy", "Referrer-Policy", "Vary"):
        assert again[0][header] == first[header]
    assert again[0]["X-Request-ID"] != first["X-Request-ID"]


@pytest.mark.usefixtures("release")
def test_a_browser_that_has_the_page_is_told_so_and_asks_each_time() -> None:
    first = Client().get(CATALOG)
    kept = Client().get(CATALOG, headers={"If-None-Match": first["ETag"]})
    through_a_proxy = Client().get(CATALOG, headers={"If-None-Match": f"W/{first['ETag']}"})
    other = Client().get(CATALOG, headers={"If-None-Match": '"another"'})
    caches["pages"].clear()
    made_again = Client().get(CATALOG, headers={"If-None-Match": first["ETag"]})

    assert first["Cache-Control"] == "no-cache"
    assert (kept.status_code, kept.content, kept["ETag"]) == (304, b"", first["ETag"])
    assert (through_a_proxy.status_code, made_again.status_code, other.status_code) == (304, 304, 200)


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize("address", ["/", CATALOG, MODEL])
def test_nobody_gets_the_page_of_another(vera: User, address: str) -> None:
    anonymous, hers, his = Client(), Client(), Client()
    hers.force_login(vera)
    his.force_login(scenarios.person("bob"))
    stranger = text(anonymous, address)

    for _ in range(2):
        assert "Account of vera" in text(hers, address)
        assert "Account of bob" in text(his, address)
        assert "Account of vera" not in text(his, address)
        assert text(anonymous, address) == stranger
    assert "Account of" not in stranger
    assert "Sign in" in stranger


@pytest.mark.usefixtures("release")
def test_a_page_of_one_who_signed_in_first_is_not_kept(vera: User) -> None:
    hers = Client()
    hers.force_login(vera)
    answer = hers.get(MODEL)

    assert "Account of vera" in answer.content.decode()
    assert "ETag" not in answer.headers
    assert hers.get(MODEL, headers={"If-None-Match": Client().get(MODEL)["ETag"]}).status_code == 200
    assert "Account of" not in text(Client(), MODEL)


@pytest.mark.usefixtures("release")
def test_a_message_is_shown_to_whom_it_was_told_and_to_nobody_else(vera: User) -> None:
    text(Client(), "/")
    leaving = Client()
    leaving.force_login(vera)
    told = leaving.post("/account/logout/", follow=True).content.decode()

    assert "You have signed out." in told
    assert "You have signed out." not in text(leaving, "/")
    assert "You have signed out." not in text(Client(), "/")


@pytest.mark.usefixtures("release")
def test_a_form_still_works_for_one_who_came_by_kept_pages() -> None:
    Client().get(CATALOG)
    visitor = Client(enforce_csrf_checks=True)
    visitor.get(CATALOG)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', text(visitor, "/account/login/"))
    assert token
    answer = visitor.post(
        "/account/login/", {"login": "vera", "password": "a long password", "csrfmiddlewaretoken": token[1]}
    )

    assert answer.status_code == 302
    assert "Account of vera" in text(visitor, CATALOG)
    assert "csrfmiddlewaretoken" not in text(Client(), CATALOG)


@pytest.mark.usefixtures("release")
def test_nothing_is_kept_that_was_made_for_a_request_with_a_cookie_or_a_token() -> None:
    visitor = Client()
    visitor.cookies["csrftoken"] = "x" * 32
    visitor.get(CATALOG)
    Client().get(CATALOG, headers={"Authorization": "Bearer nonsense"})
    statements = asked_of_the_database(lambda: Client().get(CATALOG))

    assert len(statements) > 1
    # What was made for nobody serves also one with the cookie of a form.
    assert len(asked_of_the_database(lambda: visitor.get(CATALOG))) == 1


def yank(release: Release, vera: User) -> None:
    publishing.yank(user=vera, release=release, reason="It is wrong.", now=timezone.now())


def hold(release: Release, _vera: User) -> None:
    staff = scenarios.person("staff")
    User.objects.filter(pk=staff.pk).update(is_staff=True)
    staff.refresh_from_db()
    quarantine.quarantine(user=staff, release=release, reason="It may be stolen.", now=timezone.now())


@pytest.mark.parametrize("withdraw", [yank, hold])
def test_a_model_that_is_withdrawn_is_gone_at_once(
    release: Release, vera: User, withdraw: Callable[[Release, User], None]
) -> None:
    addresses = ("/", CATALOG, MODEL, MODEL + "versions/1.0/")
    etags = {address: Client().get(address)["ETag"] for address in addresses}
    assert all("net" in text(Client(), address) for address in addresses)

    withdraw(release, vera)

    assert "vera/net" not in text(Client(), CATALOG)
    assert "vera/net" not in text(Client(), "/")
    for address in addresses:
        assert Client().get(address, headers={"If-None-Match": etags[address]}).status_code != 304
    assert Client().get(MODEL).status_code == 404
    assert Client().get(MODEL + "versions/1.0/").status_code == 404


def test_what_is_published_is_there_at_once(vera: User, release: Release) -> None:
    ready = scenarios.ready_release(vera, name="other", terms=COMMERCIAL_TEMPLATE)
    assert "vera/other" not in text(Client(), CATALOG)
    assert Client().get("/models/vera/other/").status_code == 404

    publishing.publish(user=vera, release=ready, now=timezone.now())

    assert "vera/other" in text(Client(), CATALOG)
    assert "€49.00" in text(Client(), "/models/vera/other/")
    assert release.listing.name in text(Client(), CATALOG)


def test_another_price_is_seen_at_once(vera: User, release: Release) -> None:
    assert "Free" in text(Client(), MODEL)

    scenarios.published_release(vera, name="net", version="2.0", terms=COMMERCIAL_TEMPLATE, weights="others")

    assert "€49.00" in text(Client(), MODEL)
    assert "€49.00" in text(Client(), CATALOG)
    assert f"vera/{release.listing.name}" in text(Client(), CATALOG)


@pytest.mark.usefixtures("vera")
def test_a_review_counts_at_once(release: Release) -> None:
    bob = scenarios.person("bob")
    scenarios.licensed(bob, release)
    assert "of 5 stars" not in text(Client(), CATALOG)

    reviews.write(user=bob, listing=release.listing, author=bob.namespace, rating=4, text="Good.", now=timezone.now())

    assert "of 5 stars" in text(Client(), CATALOG)
    assert "of 5 stars" in text(Client(), MODEL)


def test_a_write_past_the_services_is_seen_as_well(release: Release) -> None:
    text(Client(), MODEL)

    Listing.objects.filter(pk=release.listing_id).update(summary="Another summary.")

    assert "Another summary." in text(Client(), MODEL)
    assert "Another summary." in text(Client(), CATALOG)


def test_every_table_of_a_public_page_is_watched_or_may_lag(vera: User) -> None:
    parent = scenarios.published_release(vera, name="net", terms=PRESETS["mit"])
    child = scenarios.draft_release(vera, name="child", terms=PRESETS["mit"])
    lineage.declare(user=vera, release=child, parent=parent, relation="finetune", now=timezone.now())
    publishing.publish(user=vera, release=scenarios.verify(vera, child), now=timezone.now())
    addresses = ["/", CATALOG, MODEL, "/models/vera/child/", "/models/compare/?model=vera/net"]
    addresses += [f"{CATALOG}?sort=licensed&intent=sell_product&q=n&vendor=vera&right=fine_tune&excluded=1"]

    for address in addresses:
        statements = asked_of_the_database(lambda address=address: Client().get(address))  # type: ignore[misc]
        read = {table for sql in statements for table in re.findall(r'(?:FROM|JOIN) "?(\w+)"?', sql)}
        assert read, address
        assert read <= {*change_watch.TABLES, *MAY_LAG}, address


@pytest.mark.usefixtures("release")
def test_a_change_that_is_rolled_back_was_none() -> None:
    before = text(Client(), MODEL)
    point = transaction.savepoint()
    Listing.objects.update(summary="Never so.")
    transaction.savepoint_rollback(point)

    assert len(asked_of_the_database(lambda: Client().get(MODEL))) == 1
    assert text(Client(), MODEL) == before


@pytest.mark.usefixtures("release")
def test_each_query_string_is_a_page_of_its_own() -> None:
    pages = [text(Client(), f"{CATALOG}{query}") for query in ("", "?q=net", "?q=nothing", "?q=net&sort=name")]
    again = [text(Client(), f"{CATALOG}{query}") for query in ("", "?q=net", "?q=nothing", "?q=net&sort=name")]

    assert len(set(pages)) == 4
    assert again == pages


@pytest.mark.usefixtures("release")
def test_a_page_names_the_host_that_was_asked(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["one.example", "two.example"]
    one, two = (Client().get(MODEL, headers={"Host": host}).content.decode() for host in settings.ALLOWED_HOSTS)
    stranger = Client().get(MODEL, headers={"Host": "evil.example"})

    assert "http://one.example" in one
    assert "http://two.example" in two
    assert "one.example" not in two
    assert stranger.status_code == 400


@pytest.mark.usefixtures("release")
def test_any_number_of_addresses_takes_bounded_room(settings: Any) -> None:
    most = 20
    settings.CACHES = {
        **settings.CACHES,
        "pages": {**settings.CACHES["pages"], "LOCATION": "few", "OPTIONS": {"MAX_ENTRIES": most}},
    }
    for number in range(3 * most):
        Client().get(f"/?{number}")
        Client().get("/")
    held = caches["pages"]._cache  # type: ignore[attr-defined]

    assert 0 < len(held) <= most
    assert len(asked_of_the_database(lambda: Client().get("/"))) == 1  # what is asked for often outlives the rest
    long = Client().get(f"/?q={'x' * shared_pages.MAX_ADDRESS}")
    assert (long.status_code, long.has_header("ETag")) == (200, False)


@pytest.mark.usefixtures("release")
def test_pages_are_made_each_time_where_the_operator_wants_no_kept_ones(settings: Any) -> None:
    settings.PAGE_CACHE_SECONDS = 0
    text(Client(), CATALOG)

    assert len(asked_of_the_database(lambda: Client().get(CATALOG))) > 1


@pytest.mark.usefixtures("release")
def test_old_changes_are_forgotten_and_the_newest_stays_newest() -> None:
    for number in range(changes.KEPT + 30):
        Listing.objects.update(summary=f"Summary {number}.")
    page = text(Client(), MODEL)
    assert changes.forget() > 0

    assert text(Client(), MODEL) == page
    Listing.objects.update(summary="The last.")
    assert "The last." in text(Client(), MODEL)
