"""Licenses and requests for access as people and programs meet them: pages and API on the same services."""

from __future__ import annotations

import base64
import dataclasses
import json
from datetime import timedelta

import pytest
import scenarios
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.test import Client
from django.utils import timezone

from marketplace import license_files, signing
from marketplace.accounts.models import Namespace, Role, User
from marketplace.errors import Conflict, DomainError
from models_catalog.models import Acceptance, AccessRequest, Grant, Order, Release, Seat
from models_catalog.presets import APPROVAL_TEMPLATE, COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import access, licensing, orders
from models_catalog.terms import Billing, Terms

pytestmark = pytest.mark.django_db
SEATED = dataclasses.replace(PRESETS["mit"], license_id="other", spdx_id="", name="Seated", seats=2, transferable=True)
TRIAL = dataclasses.replace(COMMERCIAL_TEMPLATE, name="With a trial", trial_days=7)
MONTHLY = dataclasses.replace(PRESETS["mit"], license_id="other", spdx_id="", name="Monthly", term_days=30)
PAID_MONTHLY = dataclasses.replace(COMMERCIAL_TEMPLATE, term_days=30, billing=Billing.PER_PERIOD)
JSON = "application/json"


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def world(terms: Terms) -> tuple[User, User, Release]:
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    return vendor, buyer, scenarios.published_release(vendor, terms=terms)


def team_grant() -> tuple[User, User, Grant]:
    """acme's owner and a writer of it, and its grant of vera/net with two seats."""
    release = scenarios.published_release(scenarios.person("vera"), terms=SEATED)
    olga = scenarios.person("olga")
    acme = scenarios.organization(olga, "acme")
    ann = scenarios.member(acme, "ann", Role.WRITER)
    scenarios.licensed(olga, release, licensee=acme)
    return olga, ann, Grant.objects.get()


# Acceptance


def test_stale_terms_are_refused_with_the_new_hash() -> None:
    _, buyer, release = world(SEATED)

    answer = signed_in(buyer).post("/api/v1/listings/vera/net/grants/", {"terms_hash": "0" * 64}, content_type=JSON)

    assert answer.status_code == 409
    assert (answer.json()["code"], answer.json()["terms_hash"]) == ("terms_changed", release.terms.terms_hash)
    assert not Grant.objects.exists()


def test_a_page_of_stale_terms_comes_back_with_the_terms_of_now() -> None:
    _, buyer, release = world(SEATED)

    page = signed_in(buyer).post("/models/vera/net/license/", {"terms_hash": "0" * 64, "accept": "on"})

    assert page.status_code == 200
    assert f'value="{release.terms.terms_hash}"' in page.content.decode()
    assert "The terms have changed" in page.content.decode()
    assert not Grant.objects.exists()


def test_an_acceptance_leaves_a_receipt_that_its_signature_proves() -> None:
    _, buyer, release = world(SEATED)
    client = signed_in(buyer)
    made = client.post(
        "/api/v1/listings/vera/net/grants/", {"terms_hash": release.terms.terms_hash}, content_type=JSON
    ).json()

    signed = client.get(f"/api/v1/grants/{made['id']}/receipt/").json()

    receipt, signature = signed["receipt"], signed["signature"]
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(signature["public_key"]))
    key.verify(base64.b64decode(signature["value"]), signing.canonical(receipt))
    assert (receipt["accepted_by"], receipt["accepted_for"], receipt["client"]) == ("bo", "bo", "api")
    assert receipt["terms_hash"] == release.terms.terms_hash
    assert receipt["text_sha256"] == release.terms.value.text_sha256
    assert len(receipt["address_hash"]) == 64
    assert "127.0.0.1" not in json.dumps(signed)
    page = client.get(f"/licenses/{made['id']}/receipt/").content.decode()
    assert receipt["text_sha256"] in page
    assert client.get(f"/licenses/{made['id']}/receipt.json").json() == signed
    assert signed_in(scenarios.person("sam")).get(f"/licenses/{made['id']}/receipt/").status_code == 404


def test_a_receipt_is_never_changed() -> None:
    _, buyer, release = world(SEATED)
    scenarios.licensed(buyer, release)

    with pytest.raises(TypeError):
        Acceptance.objects.update(text_sha256="")
    with pytest.raises(TypeError):
        Acceptance.objects.all().delete()


def test_an_order_s_receipt_is_of_the_day_it_was_placed() -> None:
    vendor, buyer, release = world(COMMERCIAL_TEMPLATE)
    order = scenarios.accepted(buyer, release)
    scenarios.accepted(buyer, release)  # the same order again: the same consent

    signed_in(vendor).post(f"/orders/{order.pk}/settle/")

    acceptance = Acceptance.objects.get()
    assert acceptance.order == order
    assert Grant.objects.get().acceptance == acceptance


# Trial and renewal


def test_the_checkout_page_starts_a_trial_and_the_license_page_counts_its_days() -> None:
    _, buyer, release = world(TRIAL)
    client, url = signed_in(buyer), "/models/vera/net/license/"
    assert "Try it for 7 days first" in client.get(url).content.decode()

    answer = client.post(url, {"terms_hash": release.terms.terms_hash, "accept": "on", "act": "trial"}, follow=True)

    assert Grant.objects.get().is_trial
    assert "Trial: 7 days left" in answer.content.decode()
    assert "Try it for 7 days first" not in client.get(url).content.decode()


def test_a_trial_is_started_by_the_api_once() -> None:
    _, buyer, release = world(TRIAL)
    client, url = signed_in(buyer), "/api/v1/listings/vera/net/grants/"
    body = {"terms_hash": release.terms.terms_hash, "trial": True}

    first = client.post(url, body, content_type=JSON)
    Grant.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    second = client.post(url, body, content_type=JSON)

    assert (first.status_code, first.json()["status"], first.json()["days_left"]) == (201, "trial", 7)
    assert (second.status_code, second.json()["code"]) == (409, "trial_used")


def test_a_license_is_renewed_on_its_page_near_its_end() -> None:
    _, buyer, release = world(MONTHLY)
    client = signed_in(buyer)
    grant = licensing.accept_terms(
        user=buyer, release=release, terms_hash=release.terms.terms_hash, now=timezone.now() - timedelta(days=20)
    )
    assert "Renew the license" in client.get(f"/licenses/{grant.pk}/").content.decode()

    body = {"terms_hash": release.terms.terms_hash, "accept": "on"}
    page = client.post(f"/licenses/{grant.pk}/act/renew/", body, follow=True)

    assert "40 days left" in page.content.decode()
    again = client.post(f"/api/v1/grants/{grant.pk}/renew/", {"terms_hash": body["terms_hash"]}, content_type=JSON)
    assert (again.status_code, again.json()["code"]) == (409, "not_renewable")


def test_a_license_is_renewed_by_the_api_and_by_an_order_where_it_costs_money() -> None:
    vendor, buyer, free = world(MONTHLY)
    paid, then = (
        scenarios.published_release(vendor, name="paid", terms=PAID_MONTHLY),
        timezone.now() - timedelta(days=20),
    )
    for release in (free, paid):
        taken = licensing.accept_terms(user=buyer, release=release, terms_hash=release.terms.terms_hash, now=then)
        if isinstance(taken, Order):
            orders.settle_order(order=taken, actor=vendor, now=then)
    client, answers = signed_in(buyer), []

    for release in (free, paid):
        url = f"/api/v1/grants/{Grant.objects.get(listing=release.listing).pk}/renew/"
        body = {"terms_hash": release.terms.terms_hash}
        answers.append(client.post(url, body, content_type=JSON, headers={"Idempotency-Key": str(release.pk)}))

    assert [answer.status_code for answer in answers] == [201, 202]
    assert answers[0].json()["days_left"] == 40
    assert answers[1].json()["amount_minor"] == PAID_MONTHLY.price_minor


# The list


def test_the_list_tells_states_and_licensees_apart() -> None:
    olga, ann, grant = team_grant()
    tried = scenarios.published_release(User.objects.get(username="vera"), name="tried", terms=TRIAL)
    licensing.start_trial(user=olga, release=tried, terms_hash=tried.terms.terms_hash, now=timezone.now())
    client = signed_in(olga)

    def ids(query: str) -> list[str]:
        return [row["id"] for row in client.get(f"/api/v1/grants/?{query}").json()["results"]]

    assert ids("status=active") == ids("licensee=acme") == ids("listing=vera/net") == [str(grant.pk)]
    assert len(ids("status=trial")) == 1
    assert len(ids("")) == 2
    assert len(ids("side=vendor")) == 0
    assert client.get("/api/v1/grants/?status=odd").json()["code"] == "bad_filter"
    page = client.get("/licenses/?licensee=acme").content.decode()
    assert "vera/net" in page
    assert "vera/tried" not in page
    assert [row["id"] for row in signed_in(ann).get("/api/v1/grants/").json()["results"]] == [str(grant.pk)]
    given = signed_in(User.objects.get(username="vera")).get("/api/v1/grants/?side=vendor").json()["results"]
    assert len(given) == 2


def test_license_pages_use_a_constant_number_of_queries(django_assert_max_num_queries: object) -> None:
    buyer, counts = scenarios.person("bo"), []
    vendor = scenarios.person("vera")
    client = signed_in(buyer)
    for batch in (range(2), range(2, 9)):
        for number in batch:
            scenarios.licensed(buyer, scenarios.published_release(vendor, name=f"net{number}", terms=SEATED))
        grant = Grant.objects.filter(licensee__name="bo").order_by("accepted_at").first()
        with django_assert_max_num_queries(40) as pages:  # type: ignore[operator]
            client.get("/licenses/")
            client.get("/api/v1/grants/")
        with django_assert_max_num_queries(50) as one:  # type: ignore[operator]
            client.get(f"/licenses/{grant.pk}/")
        counts.append((len(pages), len(one)))

    assert counts[0] == counts[1]


# Seats, keys, files


def test_an_admin_gives_and_frees_seats_on_the_page_and_by_the_api() -> None:
    olga, ann, grant = team_grant()
    client, url = signed_in(olga), f"/licenses/{grant.pk}/"

    client.post(f"{url}act/seat/", {"member": f"{ann.pk}:"})
    assert "1 of 2 taken" in client.get(url).content.decode()
    client.post(f"{url}act/seat-release/", {"seat": Seat.objects.get().pk})
    made = client.post(f"/api/v1/grants/{grant.pk}/seats/", {"username": "ann"}, content_type=JSON)

    assert made.status_code == 201
    assert [row["username"] for row in client.get(f"/api/v1/grants/{grant.pk}/seats/").json()["results"]] == ["ann"]
    seat = f"/api/v1/grants/{grant.pk}/seats/{made.json()['id']}/"
    assert signed_in(User.objects.get(username="vera")).delete(seat).json()["code"] == "not_an_admin"
    assert signed_in(ann).delete(seat).status_code == 204  # their own
    assert client.get(f"/api/v1/grants/{grant.pk}/").json()["seats_taken"] == 0


def test_the_page_shows_a_new_key_once_and_to_admins_alone() -> None:
    olga, ann, grant = team_grant()
    client, url = signed_in(olga), f"/licenses/{grant.pk}/"

    page = client.post(f"{url}act/key/").content.decode()

    key = page.split('data-copy="lic_')[1].split('"')[0]
    assert f"lic_{key}" not in client.get(url).content.decode()
    assert key[-4:] in client.get(url).content.decode()
    assert "License key" not in signed_in(ann).get(url).content.decode()
    assert signed_in(ann).post(f"/api/v1/grants/{grant.pk}/key/").json()["code"] == "not_an_admin"
    answer = client.post(f"/api/v1/grants/{grant.pk}/key/")
    assert (answer.status_code, answer["Cache-Control"]) == (201, "no-store")
    assert client.delete(f"/api/v1/grants/{grant.pk}/key/").status_code == 204
    assert client.get(f"/api/v1/grants/{grant.pk}/").json()["key_hint"] == ""


def test_the_license_file_is_downloaded_by_page_and_api_and_proven_by_the_published_key() -> None:
    olga, _, grant = team_grant()
    client = signed_in(olga)
    told = Client().get("/api/v1/signing-key/").json()
    key = license_files.public_key_from(told["pem"])

    for url in (f"/licenses/{grant.pk}/license-file/", f"/api/v1/grants/{grant.pk}/license-file/"):
        payload = license_files.verify(client.get(url).content.decode(), key, now=timezone.now())
        assert (payload["grant"], payload["key_id"]) == (str(grant.pk), told["key_id"])
    assert signed_in(User.objects.get(username="vera")).get(f"/licenses/{grant.pk}/license-file/").status_code == 403


def test_a_license_is_passed_on_by_page_and_taken_by_page() -> None:
    olga, _, grant = team_grant()
    cy = scenarios.person("cy")

    signed_in(olga).post(f"/licenses/{grant.pk}/act/transfer/", {"recipient": "cy"})
    client = signed_in(cy)
    offer = client.get("/api/v1/grant-transfers/").json()["results"][0]
    assert offer["url"] in client.get("/licenses/").content.decode()
    client.post(offer["url"], {"terms_hash": offer["terms_hash"], "accept": "on"})

    assert Grant.objects.active(timezone.now()).get().licensee.name == "cy"
    stranger = signed_in(scenarios.person("sam"))
    assert stranger.get(offer["url"]).status_code == 404
    assert stranger.get(f"/licenses/{grant.pk}/").status_code == 404


def test_a_license_is_offered_declined_and_passed_on_by_the_api() -> None:
    olga, _, grant = team_grant()
    mine, theirs = signed_in(olga), signed_in(scenarios.person("cy"))

    def offered() -> str:
        answer = mine.post(f"/api/v1/grants/{grant.pk}/transfer/", {"recipient": "cy"}, content_type=JSON)
        assert answer.status_code == 201, answer.content
        return f"/api/v1/grant-transfers/{answer.json()['id']}/"

    assert theirs.delete(offered()).status_code == 204
    url = offered()
    assert theirs.get(url).json()["status"] == "offered"
    taken = theirs.post(f"{url}accept/", {"terms_hash": grant.terms.terms_hash}, content_type=JSON)

    assert (taken.status_code, taken.json()["licensee"]) == (201, "cy")


def test_the_vendor_revokes_by_the_api() -> None:
    vendor, buyer, release = world(SEATED)
    scenarios.licensed(buyer, release)
    url = f"/api/v1/grants/{Grant.objects.get().pk}/revoke/"

    answer = signed_in(vendor).post(url, {"reason": "Resold to others."}, content_type=JSON)

    assert (answer.json()["status"], answer.json()["revoked_reason"]) == ("revoked", "Resold to others.")
    [shown] = signed_in(buyer).get("/api/v1/listings/vera/net/grants/").json()["results"]
    assert shown["status"] == "revoked"


def test_the_vendor_revokes_on_the_page_and_the_licensee_reads_why() -> None:
    vendor, buyer, release = world(SEATED)
    scenarios.licensed(buyer, release)
    grant = Grant.objects.get()
    url = f"/licenses/{grant.pk}/"
    assert "Revoke the license" in signed_in(vendor).get(url).content.decode()
    assert "Revoke the license" not in signed_in(buyer).get(url).content.decode()

    answer = signed_in(buyer).post(f"/api/v1/grants/{grant.pk}/revoke/", {"reason": "x"}, content_type=JSON)
    assert answer.json()["code"] == "not_the_vendor"
    signed_in(vendor).post(f"{url}act/revoke/", {"reason": "Resold to others."})

    assert "Resold to others." in signed_in(buyer).get(url).content.decode()


# Requests for access


def ask(client: Client, **given: object) -> dict[str, object]:
    body = {"listing": "vera/net", "reason": "birds", **given}
    return client.post("/api/v1/access-requests/", body, content_type=JSON).json()


def test_a_request_is_asked_seen_rejected_with_a_reason_and_asked_again_by_the_api() -> None:
    vendor, buyer, _ = world(APPROVAL_TEMPLATE)
    mine, theirs = signed_in(buyer), signed_in(vendor)
    request = ask(mine)
    url = f"/api/v1/access-requests/{request['id']}/"
    assert (request["status"], request["place"]) == ("pending", 1)
    assert len(theirs.get("/api/v1/access-requests/?side=vendor&status=pending").json()["results"]) == 1
    assert theirs.get("/api/v1/access-requests/").json()["results"] == []

    assert mine.post(f"{url}approve/", {}, content_type=JSON).json()["code"] == "not_the_vendor"
    assert theirs.post(f"{url}reject/", {}, content_type=JSON).status_code == 400
    theirs.post(f"{url}reject/", {"reason": "Which birds?", "ask_again_days": 3}, content_type=JSON)

    assert vendor.notifications.get().kind == "access.request"
    assert (buyer.notifications.get().kind, buyer.notifications.get().body) == ("access.reject", "Which birds?")
    told = mine.get(url).json()
    assert (told["status"], told["answer"], told["place"]) == ("rejected", "Which birds?", None)
    assert ask(mine)["code"] == "asked_recently"
    assert "Which birds?" in mine.get(told["url"]).content.decode()
    assert "you can ask again from" in mine.get("/models/vera/net/license/").content.decode()


def test_a_vendor_lets_them_ask_again_at_once_and_approves() -> None:
    vendor, buyer, release = world(APPROVAL_TEMPLATE)
    mine, theirs = signed_in(buyer), signed_in(vendor)
    first = ask(mine)
    theirs.post(f"/vendor/requests/{first['id']}/", {"decision": "reject", "answer": "Say more", "ask_again_days": "0"})
    assert "Ask again" in mine.get("/models/vera/net/license/").content.decode()

    second = ask(mine, reason="sorting photographs of birds")
    theirs.post(f"/api/v1/access-requests/{second['id']}/approve/", {"answer": "Welcome"}, content_type=JSON)

    assert "Accept the terms" in mine.get(f"/licenses/requests/{second['id']}/").content.decode()
    scenarios.licensed(buyer, release)
    listed = mine.get("/api/v1/access-requests/").json()["results"]
    assert [row["status"] for row in listed] == ["approved", "rejected"]


def test_after_the_days_that_a_vendor_set_one_may_ask_again() -> None:
    vendor, buyer, release = world(APPROVAL_TEMPLATE)
    now = timezone.now()
    first = access.request_access(user=buyer, release=release, reason="birds", now=now)
    access.decide_request(request_id=first.pk, actor=vendor, approve=False, answer="no", now=now, ask_again_days=5)

    with pytest.raises(Conflict):
        access.request_access(user=buyer, release=release, reason="bees", now=now + timedelta(days=4))
    again = access.request_access(user=buyer, release=release, reason="bees", now=now + timedelta(days=5))

    assert again.status == "pending"


def test_who_asks_withdraws_and_may_ask_again_at_once() -> None:
    vendor, buyer, _ = world(APPROVAL_TEMPLATE)
    client = signed_in(buyer)
    first = ask(client)

    client.post(f"/licenses/requests/{first['id']}/cancel/")

    assert AccessRequest.objects.get().status == "canceled"
    with pytest.raises(DomainError) as caught:
        access.decide_request(
            request_id=AccessRequest.objects.get().pk, actor=vendor, approve=True, answer="", now=timezone.now()
        )
    assert caught.value.code == "already_decided"
    assert ask(client)["status"] == "pending"


def test_a_request_knows_its_place_among_those_that_wait() -> None:
    world(APPROVAL_TEMPLATE)
    people = [scenarios.person(name) for name in ("ann", "ben", "cleo")]
    asked = [ask(signed_in(person)) for person in people]
    signed_in(people[0]).post(f"/api/v1/access-requests/{asked[0]['id']}/cancel/")

    last = signed_in(people[2]).get(f"/api/v1/access-requests/{asked[2]['id']}/").json()

    assert [row["place"] for row in asked] == [1, 2, 3]
    assert last["place"] == 2


def test_requests_of_others_do_not_exist() -> None:
    _, buyer, _ = world(APPROVAL_TEMPLATE)
    asked = ask(signed_in(buyer))
    stranger = signed_in(scenarios.person("sam"))

    assert stranger.get(f"/licenses/requests/{asked['id']}/").status_code == 404
    assert stranger.get(f"/api/v1/access-requests/{asked['id']}/").status_code == 404
    assert stranger.post(f"/vendor/requests/{asked['id']}/", {"decision": "approve"}).status_code == 404
    assert Namespace.objects.get(name="bo").access_requests.get().status == "pending"
