"""What a grant covers, for whom, for how long, and the order that it follows from."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
import scenarios
from django.test import Client
from django.utils import timezone

from marketplace.accounts.models import AuditEvent, Namespace, Role
from marketplace.errors import Conflict, Denied
from models_catalog import policies
from models_catalog.models import AccessRequest, Grant, Order, Release
from models_catalog.presets import APPROVAL_TEMPLATE, COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import access, licensing, orders, publishing
from models_catalog.terms import Answer, Right

pytestmark = pytest.mark.django_db
MONTHLY = dataclasses.replace(COMMERCIAL_TEMPLATE, name="Monthly", term_days=30)


def approve(request: AccessRequest, release: Release) -> None:
    vendor = scenarios.vendor_of(release)
    access.decide_request(request_id=request.pk, actor=vendor, approve=True, answer="", now=timezone.now())


# What it covers


@pytest.mark.parametrize("terms", [COMMERCIAL_TEMPLATE, APPROVAL_TEMPLATE])
def test_a_grant_of_the_first_version_does_not_open_one_of_other_terms(terms: object) -> None:
    vendor, buyer, now = scenarios.person("vera"), scenarios.person("bo"), timezone.now()
    first = scenarios.published_release(vendor, version="1.0")
    scenarios.licensed(buyer, first)

    second = scenarios.published_release(vendor, version="2.0", terms=terms)

    for may in (policies.may_download, policies.may_predict, policies.may_fine_tune, policies.may_share_derivative):
        assert may(buyer, first, now=now).allowed
        assert may(buyer, second, now=now).code == "no_license"
    assert policies.may_license(buyer, second, now=now).code in {"", "approval_needed"}


def test_a_grant_covers_a_later_version_of_the_same_terms() -> None:
    vendor, buyer, now = scenarios.person("vera"), scenarios.person("bo"), timezone.now()
    scenarios.licensed(buyer, scenarios.published_release(vendor, version="1.0"))

    second = scenarios.published_release(vendor, version="1.1")

    assert policies.may_download(buyer, second, now=now).allowed
    assert policies.may_license(buyer, second, now=now).code == "already_licensed"


def test_the_terms_of_a_later_version_are_bought_apart_and_both_are_kept() -> None:
    vendor, buyer, now = scenarios.person("vera"), scenarios.person("bo"), timezone.now()
    first = scenarios.published_release(vendor, version="1.0")
    scenarios.licensed(buyer, first)
    second = scenarios.published_release(vendor, version="2.0", terms=COMMERCIAL_TEMPLATE)

    scenarios.licensed(buyer, second)

    assert policies.may_download(buyer, first, now=now).allowed
    assert policies.may_download(buyer, second, now=now).allowed
    assert Grant.objects.active(now).count() == 2


def test_a_newer_narrower_grant_does_not_hide_an_older_wider_one() -> None:
    vendor, buyer, now = scenarios.person("vera"), scenarios.person("bo"), timezone.now()
    wide = scenarios.published_release(vendor, version="1.0")
    scenarios.licensed(buyer, wide)
    rights = {**PRESETS["mit"].rights, Right.FINE_TUNE: Answer.DENY, Right.SHARE_DERIVATIVES: Answer.DENY}
    narrow = scenarios.published_release(
        vendor, version="2.0", terms=dataclasses.replace(PRESETS["mit"], license_id="other", rights=rights)
    )

    scenarios.licensed(buyer, narrow)

    assert policies.may_fine_tune(buyer, wide, now=now).allowed
    assert policies.may_share_derivative(buyer, wide, now=now).allowed
    assert policies.may_fine_tune(buyer, narrow, now=now).code == "use_not_granted"


def test_a_withdrawn_version_exists_only_for_those_whose_grant_covers_it() -> None:
    vendor, buyer, other = (scenarios.person(name) for name in ("vera", "bo", "cy"))
    first = scenarios.published_release(vendor, version="1.0")
    scenarios.licensed(buyer, first)
    second = scenarios.published_release(vendor, version="2.0", terms=PRESETS["mit"])
    scenarios.licensed(other, second)

    publishing.yank(user=vendor, release=first, reason="old", now=timezone.now())

    assert first in Release.objects.visible_to(buyer)
    assert first not in Release.objects.visible_to(other)


# For whom


def test_an_organisation_s_grant_is_used_by_members_and_owns_what_they_make() -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    acme = scenarios.organization(scenarios.person("olga"), "acme")
    writer = scenarios.member(acme, "wim", Role.WRITER)
    now = timezone.now()

    scenarios.licensed(writer, release, licensee=acme)

    assert policies.may_download(writer, release, now=now).allowed
    assert policies.may_fine_tune(writer, release, now=now).code == "no_license"
    assert policies.may_fine_tune(writer, release, now=now, holder=acme).allowed
    assert policies.may_share_derivative(writer, release, now=now).code == "no_license"
    assert policies.may_share_derivative(writer, release, now=now, holder=acme).allowed
    stranger = scenarios.person("sam")
    assert policies.may_fine_tune(stranger, release, now=now, holder=acme).code == "not_a_member"


def test_the_model_s_buttons_say_whose_license_they_stand_on() -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    acme = scenarios.organization(scenarios.person("olga"), "acme")
    writer = scenarios.member(acme, "wim", Role.WRITER)
    reader = scenarios.member(acme, "rita", Role.READER)
    scenarios.licensed(writer, release, licensee=acme)
    now = timezone.now()

    buttons = policies.actions(writer, release, now=now)

    for name in ("license", "fine_tune"):
        assert buttons[name].allowed
        assert buttons[name].code == "held_by_organization"
        assert "acme" in buttons[name].why
    assert buttons["download"].allowed
    assert policies.actions(reader, release, now=now)["fine_tune"].code == "no_license"
    assert policies.actions(reader, release, now=now)["predict"].allowed


def test_only_writers_accept_terms_for_an_organisation() -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    acme = scenarios.organization(scenarios.person("olga"), "acme")

    for user in (scenarios.member(acme, "rita", Role.READER), scenarios.person("sam")):
        with pytest.raises(Denied) as caught:
            scenarios.accepted(user, release, licensee=acme)
        assert caught.value.code == "not_a_member"
    assert not Grant.objects.exists()


def test_the_checkout_page_licenses_for_an_organisation_that_one_writes_for(client: Client) -> None:
    release, olga = scenarios.published_release(scenarios.person("vera")), scenarios.person("olga")
    acme = scenarios.organization(olga, "acme")
    client.force_login(olga)
    url, answer = "/models/vera/net/license/", {"terms_hash": release.terms.terms_hash, "accept": "on"}

    assert client.post(f"{url}?licensee=acme", answer).status_code == 302
    assert client.post(url, {**answer, "licensee": "vera"}).status_code == 404

    assert Grant.objects.get().licensee == acme


def test_an_approval_is_of_one_licensee() -> None:
    release = scenarios.published_release(scenarios.person("vera"), terms=APPROVAL_TEMPLATE)
    olga, now = scenarios.person("olga"), timezone.now()
    acme = scenarios.organization(olga, "acme")
    approve(access.request_access(user=olga, release=release, reason="birds", now=now), release)
    scenarios.licensed(olga, release)

    with pytest.raises(Denied) as caught:
        scenarios.licensed(olga, release, licensee=acme)
    assert caught.value.code == "approval_needed"

    request = access.request_access(user=olga, release=release, reason="bees", now=now, licensee=acme)
    assert request.requester == acme
    approve(request, release)
    scenarios.licensed(olga, release, licensee=acme)
    assert {grant.licensee.name for grant in Grant.objects.active(now)} == {"olga", "acme"}


def test_an_organisation_s_approval_is_not_its_member_s() -> None:
    release = scenarios.published_release(scenarios.person("vera"), terms=APPROVAL_TEMPLATE)
    olga = scenarios.person("olga")
    acme = scenarios.organization(olga, "acme")
    request = access.request_access(user=olga, release=release, reason="x", now=timezone.now(), licensee=acme)
    approve(request, release)

    with pytest.raises(Denied) as caught:
        scenarios.licensed(olga, release)

    assert caught.value.code == "approval_needed"


def test_a_request_for_other_terms_does_not_wait_behind_an_older_one() -> None:
    vendor, buyer, now = scenarios.person("vera"), scenarios.person("bo"), timezone.now()
    first = scenarios.published_release(vendor, version="1.0", terms=APPROVAL_TEMPLATE)
    old = access.request_access(user=buyer, release=first, reason="x", now=now)
    stricter = dataclasses.replace(APPROVAL_TEMPLATE, research_only=True)
    second = scenarios.published_release(vendor, version="2.0", terms=stricter)

    new = access.request_access(user=buyer, release=second, reason="x", now=now)

    assert new != old
    approve(old, first)
    assert policies.may_license(buyer, second, now=now).code == "approval_needed"


# For how long


def accept_at(buyer: object, release: Release, now: object) -> Grant | Order:
    return licensing.accept_terms(user=buyer, release=release, terms_hash=release.terms.terms_hash, now=now)


def test_an_expired_grant_is_renewed_by_a_new_order_and_never_returned_for_it() -> None:
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    release, start = scenarios.published_release(vendor, terms=MONTHLY), timezone.now()
    first = orders.settle_order(order=accept_at(buyer, release, start), actor=vendor, now=start)
    later = start + timedelta(days=31)
    assert policies.may_download(buyer, release, now=later).code == "no_license"

    order = accept_at(buyer, release, later)
    second, again = (orders.settle_order(order=order, actor=vendor, now=later) for _ in range(2))

    assert second == again != first
    assert second.order == order
    assert second.expires_at == later + timedelta(days=30)
    assert policies.may_download(buyer, release, now=later).allowed
    first.refresh_from_db()
    assert (first.superseded_at, first.revoked_at) == (later, None)


def test_a_free_grant_is_renewed_by_accepting_again() -> None:
    terms = dataclasses.replace(PRESETS["mit"], license_id="other", term_days=30)
    release, buyer = scenarios.published_release(scenarios.person("vera"), terms=terms), scenarios.person("bo")
    start = timezone.now()
    first = accept_at(buyer, release, start)

    second = accept_at(buyer, release, start + timedelta(days=31))

    assert second != first
    assert Grant.objects.active(start + timedelta(days=31)).get() == second


def test_settling_an_order_whose_license_is_over_says_so() -> None:
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    release, start = scenarios.published_release(vendor, terms=MONTHLY), timezone.now()
    order = accept_at(buyer, release, start)
    orders.settle_order(order=order, actor=vendor, now=start)

    with pytest.raises(Conflict) as caught:
        orders.settle_order(order=order, actor=vendor, now=start + timedelta(days=31))

    assert caught.value.code == "grant_ended"


def test_a_grant_says_in_the_api_that_it_has_expired(client: Client) -> None:
    terms = dataclasses.replace(PRESETS["mit"], license_id="other", term_days=30)
    release, buyer = scenarios.published_release(scenarios.person("vera"), terms=terms), scenarios.person("bo")
    accept_at(buyer, release, timezone.now() - timedelta(days=31))
    client.force_login(buyer)

    found = client.get("/api/v1/listings/vera/net/grants/").json()["results"]

    assert [grant["status"] for grant in found] == ["expired"]


# The order


def test_free_terms_have_a_settled_order_too() -> None:
    release, buyer = scenarios.published_release(scenarios.person("vera")), scenarios.person("bo")

    grant = scenarios.accepted(buyer, release)

    assert isinstance(grant, Grant)
    order = Order.objects.get()
    assert (grant.order, order.provider, order.status, order.amount_minor) == (order, "free", "paid", 0)
    assert (order.settled_by, order.buyer) == (buyer, Namespace.objects.get(user=buyer))
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"order.place", "order.settle", "license.grant"} <= actions


def test_a_price_waits_for_somebody_who_marks_the_order_as_paid() -> None:
    release, buyer = (
        scenarios.published_release(scenarios.person("vera"), terms=COMMERCIAL_TEMPLATE),
        scenarios.person("bo"),
    )

    first, again = scenarios.accepted(buyer, release), scenarios.accepted(buyer, release)

    assert first == again
    assert isinstance(first, Order)
    assert (first.provider, first.status, first.amount_minor) == ("manual", "pending", 4900)
    assert not Grant.objects.exists()


def test_staff_see_and_settle_orders(client: Client) -> None:
    release = scenarios.published_release(scenarios.person("vera"), terms=COMMERCIAL_TEMPLATE)
    order = scenarios.accepted(scenarios.person("bo"), release)
    staff = scenarios.person("stan")
    staff.is_staff = True
    staff.save()
    assert order not in Order.objects.visible_to(scenarios.person("sam"))
    client.force_login(staff)

    assert order in Order.objects.visible_to(staff)
    assert client.post(f"/orders/{order.pk}/settle/").status_code == 302
    assert Grant.objects.get().order == order


def test_a_release_withdrawn_while_its_terms_were_read_is_not_licensed() -> None:
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    read = scenarios.published_release(vendor)  # as the buyer's request has loaded it
    publishing.yank(user=vendor, release=Release.objects.get(), reason="broken", now=timezone.now())

    with pytest.raises(Denied) as caught:
        scenarios.accepted(buyer, read)

    assert caught.value.code == "release_withdrawn"
    assert not Order.objects.exists()
