"""Access requests over the Hub's protocol, without its clients: tests/flows/test_hub_clients.py has those."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
import scenarios
from django.utils import timezone
from test_hub_uploads import Pusher, pusher

from marketplace.accounts.models import Notification, Role, User
from models_catalog import policies
from models_catalog.models import AccessRequest, Release
from models_catalog.presets import PRESETS
from models_catalog.services import access
from models_catalog.terms import Approval

pytestmark = pytest.mark.django_db
REVIEWED = dataclasses.replace(PRESETS["apache-2.0"], name="Reviewed", license_id="other", approval=Approval.MANUAL)
REQUESTS = "/api/models/vera/net/user-access-request"


@pytest.fixture
def release() -> Release:
    return scenarios.published_release(scenarios.person("vera"), terms=REVIEWED)


@pytest.fixture
def vera(release: Release) -> Pusher:
    assert release.is_live
    return pusher("vera", "licenses:write")


@pytest.fixture
def bea() -> Pusher:
    return pusher("bea", "licenses:write")


def listed(vendor: Pusher, status: str) -> list[str]:
    return [row["user"]["user"] for row in vendor.ask("GET", f"{REQUESTS}/{status}").json()]


def test_who_asks_is_listed_and_accepted_and_then_accepts_the_terms(
    vera: Pusher, bea: Pusher, release: Release
) -> None:
    asked = bea.ask("POST", "/vera/net/ask-access", {"reason": "A study"})

    [row] = vera.ask("GET", f"{REQUESTS}/pending").json()
    assert (row["requestId"], row["user"]["user"]) == (asked.json()["requestId"], "bea")
    assert (row["fields"], row["timestamp"][-1]) == ({"reason": "A study"}, "Z")
    assert vera.ask("POST", f"{REQUESTS}/handle", {"user": "BEA", "status": "accepted"}).status_code == 200

    assert (listed(vera, "pending"), listed(vera, "accepted")) == ([], ["bea"])
    assert bea.ask("GET", "/vera/net/ask-access").json()["status"] == "accepted"
    scenarios.licensed(bea.user, release)
    assert listed(vera, "accepted") == ["bea"]
    again = vera.ask("POST", f"{REQUESTS}/handle", {"user": "bea", "status": "accepted"})
    assert again.status_code == 404


def test_a_rejection_needs_a_reason_and_stands(vera: Pusher, bea: Pusher) -> None:
    number = bea.ask("POST", "/vera/net/ask-access", {"reason": "A study"}).json()["requestId"]

    silent = vera.ask("POST", f"{REQUESTS}/handle", {"requestId": number, "status": "rejected"})
    told = {"requestId": number, "status": "rejected", "rejectionReason": "Say more."}
    assert (silent.status_code, vera.ask("POST", f"{REQUESTS}/handle", told).status_code) == (400, 200)

    assert listed(vera, "rejected") == ["bea"]
    assert bea.ask("GET", "/vera/net/ask-access").json() == {"status": "rejected", "answer": "Say more."}
    for status, answer in (("rejected", 404), ("accepted", 409), ("pending", 501), ("maybe", 400)):
        refused = vera.ask("POST", f"{REQUESTS}/handle", {"requestId": number, "status": status})
        assert refused.status_code == answer
    assert bea.ask("POST", "/vera/net/ask-access", {"reason": "Please"}).status_code == 409


def test_who_has_not_asked_is_approved_in_advance_and_told(vera: Pusher, bea: Pusher, release: Release) -> None:
    given = vera.ask("POST", f"{REQUESTS}/grant", {"user": "bea"})

    assert (given.status_code, given.json()["status"]) == (200, "accepted")
    assert policies.may_license(bea.user, release, now=timezone.now()).allowed
    assert not policies.may_download(bea.user, release, now=timezone.now()).allowed  # the terms are hers to accept
    assert Notification.objects.filter(user=bea.user, kind="access.approve").exists()
    assert vera.ask("POST", f"{REQUESTS}/grant", {"user": "bea"}).status_code == 400
    assert vera.ask("POST", f"{REQUESTS}/grant", {"user": "nobody"}).status_code == 404


def test_a_request_that_waits_is_what_an_approval_in_advance_approves(vera: Pusher, bea: Pusher) -> None:
    bea.ask("POST", "/vera/net/ask-access", {"reason": "A study"})

    assert vera.ask("POST", f"{REQUESTS}/grant", {"user": "bea"}).status_code == 200
    assert AccessRequest.objects.get().status == "approved"


@pytest.mark.usefixtures("vera")
def test_strangers_neither_read_nor_decide(bea: Pusher) -> None:
    number = bea.ask("POST", "/vera/net/ask-access", {"reason": "A study"}).json()["requestId"]
    other = scenarios.published_release(scenarios.person("olga"), terms=REVIEWED)
    calls = [
        ("GET", f"{REQUESTS}/pending", None),
        ("POST", f"{REQUESTS}/handle", {"requestId": number, "status": "accepted"}),
        ("POST", f"{REQUESTS}/grant", {"user": "bea"}),
    ]

    for who, status in ((bea, 403), (Pusher(bea.user, ""), 401), (pusher("vera", "licenses:read"), 403)):
        answers = [who.ask(*call).status_code for call in calls]
        assert answers[1:] == [status, status]
    # Another vendor's request is none of hers, whatever address it is asked at.
    foreign = f"/api/models/{other.listing}/user-access-request/handle"
    olga = pusher("olga", "licenses:write")
    assert olga.ask("POST", foreign, {"requestId": number, "status": "accepted"}).status_code == 404
    assert AccessRequest.objects.get().status == "pending"


def test_a_reader_of_the_vendor_s_organization_decides_nothing(bea: Pusher) -> None:
    acme = scenarios.organization(scenarios.person("olga"), "acme")
    scenarios.member(acme, "rita", Role.READER)
    scenarios.published_release(User.objects.get(username="olga"), terms=REVIEWED, namespace=acme)
    bea.ask("POST", "/acme/net/ask-access", {"reason": "A study"})

    refused = pusher("rita", "licenses:write").ask("GET", "/api/models/acme/net/user-access-request/pending")
    assert refused.status_code == 403
    told = pusher("olga", "licenses:write").ask("GET", "/api/models/acme/net/user-access-request/pending")
    assert [row["user"]["user"] for row in told.json()] == ["bea"]


@pytest.mark.usefixtures("bea")
def test_a_refusal_names_page_and_call_by_what_the_terms_ask(release: Release) -> None:
    scenarios.published_release(scenarios.vendor_of(release), name="open")
    reader = pusher("bea", "models:read")

    gated = reader.ask("HEAD", "/vera/net/resolve/main/config.json")["X-Error-Message"]
    is_open = reader.ask("HEAD", "/vera/open/resolve/main/config.json")["X-Error-Message"]

    assert (
        "http://testserver/models/vera/net/license/ or ask by POST http://testserver/api/v1/access-requests/" in gated
    )
    assert "accept its terms by POST http://testserver/api/v1/listings/vera/open/grants/" in is_open


def test_an_open_model_needs_no_approval(release: Release, vera: Pusher, bea: Pusher) -> None:
    scenarios.published_release(scenarios.vendor_of(release), name="open")

    assert bea.ask("POST", "/vera/open/ask-access", {"reason": "A study"}).status_code == 409
    granted = vera.ask("POST", "/api/models/vera/open/user-access-request/grant", {"user": "bea"})
    assert (granted.status_code, "/models/vera/open/license/" in granted["X-Error-Message"]) == (400, True)


def test_a_rejected_licensee_can_be_approved_in_advance(vera: Pusher, bea: Pusher, release: Release) -> None:
    asked = access.request_access(user=bea.user, release=release, reason="A study", now=timezone.now())
    access.decide_request(
        request_id=asked.pk, actor=vera.user, approve=False, answer="No.", now=timezone.now(), ask_again_days=30
    )

    assert vera.ask("POST", f"{REQUESTS}/grant", {"user": "bea"}).status_code == 200
    assert policies.may_license(bea.user, release, now=timezone.now() + timedelta(minutes=1)).allowed
