"""How a grant begins, goes on and ends: trial, renewal, revocation, transfer, and what is kept."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest
import scenarios
from django.test import Client
from django.utils import timezone

from marketplace.accounts.models import AuditEvent, Namespace, User
from marketplace.errors import DomainError
from models_catalog import policies
from models_catalog.models import Grant, GrantTransfer, Order, Release, Seat
from models_catalog.models.licensing import GrantState
from models_catalog.presets import COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import expiry, grants, licensing, orders, publishing, seats
from models_catalog.terms import Revocable, Terms

pytestmark = pytest.mark.django_db
FREE = dataclasses.replace(PRESETS["mit"], license_id="other", spdx_id="", name="Free for a month", term_days=30)
MONTHLY = dataclasses.replace(COMMERCIAL_TEMPLATE, name="Monthly", term_days=30)
TRIAL = dataclasses.replace(COMMERCIAL_TEMPLATE, name="With a trial", trial_days=7)
DAY = timedelta(days=1)


def world(terms: Terms) -> tuple[User, User, Release, datetime]:
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    return vendor, buyer, scenarios.published_release(vendor, terms=terms), timezone.now()


def refusal(act: object, **given: object) -> str:
    with pytest.raises(DomainError) as caught:
        act(**given)  # type: ignore[operator]
    return caught.value.code


def accept(user: User, release: Release, now: datetime) -> Grant | Order:
    return licensing.accept_terms(user=user, release=release, terms_hash=release.terms.terms_hash, now=now)


def try_it(user: User, release: Release, now: datetime, **given: object) -> Grant:
    terms_hash = release.terms.terms_hash
    return licensing.start_trial(user=user, release=release, terms_hash=terms_hash, now=now, **given)  # type: ignore[arg-type]


def renew(user: User, grant: Grant, now: datetime) -> Grant | Order:
    return licensing.renew(user=user, grant=grant, terms_hash=grant.terms.terms_hash, now=now)


# Trial


def test_a_trial_opens_the_model_without_payment_and_ends_by_itself() -> None:
    _, buyer, release, now = world(TRIAL)

    trial = try_it(buyer, release, now)

    assert (trial.state_at(now), trial.order, trial.expires_at) == (GrantState.TRIAL, None, now + 7 * DAY)
    assert trial.acceptance.purpose == "trial"
    assert not Order.objects.exists()
    assert policies.may_download(buyer, release, now=now).allowed
    assert policies.may_fine_tune(buyer, release, now=now + 6 * DAY).allowed
    assert policies.may_download(buyer, release, now=now + 7 * DAY).code == "no_license"


def test_there_is_one_trial_of_the_same_terms() -> None:
    _, buyer, release, now = world(TRIAL)
    trial = try_it(buyer, release, now)

    assert try_it(buyer, release, now + DAY) == trial  # a double click
    assert refusal(try_it, user=buyer, release=release, now=now + 8 * DAY) == "trial_used"
    acme = scenarios.organization(buyer, "acme")
    assert try_it(buyer, release, now + 8 * DAY, licensee=acme).licensee == acme


def test_a_trial_does_not_pass_on_what_was_made_of_it() -> None:
    _, buyer, release, now = world(TRIAL)
    try_it(buyer, release, now)

    assert policies.may_share_derivative(buyer, release, now=now).code == "trial_only"


def test_an_order_takes_the_place_of_the_trial_and_keeps_its_seats_and_key() -> None:
    vendor, buyer, release, now = world(dataclasses.replace(TRIAL, seats=2))
    trial = try_it(buyer, release, now)
    seats.use(user=buyer, release=release, now=now)

    order = accept(buyer, release, now + DAY)
    bought = orders.settle_order(order=order, actor=vendor, now=now + DAY)

    assert Grant.objects.active(now + DAY).get() == bought
    assert not bought.is_trial
    assert Seat.objects.taken(now).get().grant == bought
    trial.refresh_from_db()
    assert trial.state_at(now + DAY) == GrantState.RENEWED
    assert policies.may_share_derivative(buyer, release, now=now + 30 * DAY).allowed


def test_terms_without_a_trial_and_buyers_who_bought_have_none() -> None:
    _, buyer, release, now = world(FREE)
    assert refusal(try_it, user=buyer, release=release, now=now) == "no_trial"

    vendor = scenarios.vendor_of(release)
    tried = scenarios.published_release(vendor, name="tried", terms=TRIAL)
    scenarios.licensed(buyer, tried)
    assert refusal(try_it, user=buyer, release=tried, now=now) == "already_licensed"


# Renewal


def test_a_renewal_near_the_end_adds_its_term_to_what_is_left() -> None:
    vendor, buyer, release, now = world(MONTHLY)
    first = orders.settle_order(order=accept(buyer, release, now), actor=vendor, now=now)
    near = now + 20 * DAY

    order = renew(buyer, first, near)
    second = orders.settle_order(order=order, actor=vendor, now=near)

    assert second.expires_at == now + 60 * DAY
    assert second.acceptance.purpose == "renewal"
    assert Grant.objects.active(near).get() == second
    assert policies.may_download(buyer, release, now=now + 45 * DAY).allowed


def test_a_grant_far_from_its_end_is_not_renewed_and_accepting_again_gives_the_same() -> None:
    _, buyer, release, now = world(FREE)
    grant = accept(buyer, release, now)

    assert refusal(renew, user=buyer, grant=grant, now=now + DAY) == "not_renewable"
    assert accept(buyer, release, now + 20 * DAY) == grant
    assert renew(buyer, grant, now + 20 * DAY) != grant


def test_terms_that_are_offered_no_more_are_not_renewed() -> None:
    vendor, buyer, release, now = world(FREE)
    grant = accept(buyer, release, now)
    publishing.yank(user=vendor, release=release, reason="old", now=now)

    assert refusal(renew, user=buyer, grant=grant, now=now + 20 * DAY) == "not_offered"


# Purchased means kept


def test_what_was_licensed_stays_open_after_the_release_is_withdrawn_and_terms_change() -> None:
    vendor, buyer, release, now = world(COMMERCIAL_TEMPLATE)
    scenarios.licensed(buyer, release)
    scenarios.published_release(vendor, version="2.0", terms=dataclasses.replace(COMMERCIAL_TEMPLATE, price_minor=9900))

    publishing.yank(user=vendor, release=release, reason="unpublished", now=now)

    release.refresh_from_db()
    assert release in Release.objects.visible_to(buyer)
    assert policies.may_download(buyer, release, now=now + 1000 * DAY).allowed
    assert policies.may_share_derivative(buyer, release, now=now + 1000 * DAY).allowed


def test_files_of_a_withdrawn_release_are_served_to_its_licensee_alone(client: Client) -> None:
    vendor, buyer, release, now = world(COMMERCIAL_TEMPLATE)
    scenarios.licensed(buyer, release)
    publishing.yank(user=vendor, release=release, reason="unpublished", now=now)
    url = "/api/v1/listings/vera/net/releases/1.0/artifacts/model.safetensors"

    client.force_login(buyer)
    assert client.get(url).status_code == 200
    client.force_login(scenarios.person("sam"))
    assert client.get(url).status_code == 404


# Revocation


def test_the_vendor_revokes_for_a_breach_and_says_why() -> None:
    vendor, buyer, release, now = world(COMMERCIAL_TEMPLATE)
    scenarios.licensed(buyer, release)
    grant = Grant.objects.get()

    assert refusal(grants.revoke, grant=grant, actor=buyer, reason="x", now=now) == "not_the_vendor"
    assert refusal(grants.revoke, grant=grant, actor=vendor, reason="  ", now=now) == "reason_missing"
    grants.revoke(grant=grant, actor=vendor, reason="Used for surveillance.", now=now)

    grant.refresh_from_db()
    assert (grant.state_at(now), grant.revoked_reason) == (GrantState.REVOKED, "Used for surveillance.")
    assert policies.may_download(buyer, release, now=now).code == "no_license"
    assert AuditEvent.objects.filter(action="license.revoke", namespace__name="bo").exists()
    assert refusal(grants.revoke, grant=grant, actor=vendor, reason="again", now=now) == "already_ended"


def test_terms_that_are_never_revoked_are_not() -> None:
    vendor, buyer, release, now = world(dataclasses.replace(COMMERCIAL_TEMPLATE, revocable_on=Revocable.NEVER))
    scenarios.licensed(buyer, release)
    grant = Grant.objects.get()

    assert refusal(grants.revoke, grant=grant, actor=vendor, reason="I wish", now=now) == "not_revocable"
    assert policies.may_download(buyer, release, now=now).allowed


# Transfer


def test_a_transferable_grant_passes_when_the_recipient_accepts_the_terms() -> None:
    _, buyer, release, now = world(dataclasses.replace(MONTHLY, transferable=True, seats=1))
    scenarios.licensed(buyer, release)
    grant, cy = Grant.objects.get(), scenarios.person("cy")
    seats.use(user=buyer, release=release, now=now)

    transfer = grants.offer_transfer(grant=grant, actor=buyer, recipient=Namespace.objects.get(name="cy"), now=now)
    assert policies.may_download(buyer, release, now=now).allowed
    given = {"transfer_id": transfer.pk, "now": now}
    assert refusal(grants.accept_transfer, actor=cy, terms_hash="0" * 64, **given) == "terms_changed"
    assert refusal(grants.accept_transfer, actor=buyer, terms_hash=grant.terms.terms_hash, **given) == "not_a_member"
    taken = grants.accept_transfer(actor=cy, terms_hash=grant.terms.terms_hash, **given)

    assert (taken.licensee.name, taken.expires_at, taken.acceptance.purpose) == ("cy", grant.expires_at, "transfer")
    assert policies.may_download(cy, release, now=now).allowed
    assert policies.may_download(buyer, release, now=now).code == "no_license"
    assert not Seat.objects.filter(released_at__isnull=True).exists()
    assert refusal(grants.accept_transfer, actor=cy, terms_hash=grant.terms.terms_hash, **given) == "already_decided"


def test_what_the_terms_do_not_let_pass_stays() -> None:
    _, buyer, release, now = world(COMMERCIAL_TEMPLATE)
    scenarios.licensed(buyer, release)
    cy = Namespace.objects.get(user=scenarios.person("cy"))

    code = refusal(grants.offer_transfer, grant=Grant.objects.get(), actor=buyer, recipient=cy, now=now)

    assert code == "not_transferable"


def test_an_offer_is_withdrawn_by_either_side_and_ends_with_the_grant() -> None:
    vendor, buyer, release, now = world(dataclasses.replace(COMMERCIAL_TEMPLATE, transferable=True))
    scenarios.licensed(buyer, release)
    grant, cy = Grant.objects.get(), scenarios.person("cy")
    recipient = Namespace.objects.get(user=cy)

    for side in (buyer, cy):
        offer = grants.offer_transfer(grant=grant, actor=buyer, recipient=recipient, now=now)
        assert refusal(grants.offer_transfer, grant=grant, actor=buyer, recipient=recipient, now=now) == "transfer_open"
        grants.withdraw_transfer(transfer=offer, actor=side, now=now)
    offer = grants.offer_transfer(grant=grant, actor=buyer, recipient=recipient, now=now)
    grants.revoke(grant=grant, actor=vendor, reason="a breach", now=now)

    code = refusal(grants.accept_transfer, transfer_id=offer.pk, actor=cy, terms_hash=grant.terms.terms_hash, now=now)
    assert code == "already_decided"
    assert not GrantTransfer.objects.open().exists()


# Who is told


def test_both_sides_are_told_what_concerns_them() -> None:
    vendor, buyer, release, now = world(dataclasses.replace(COMMERCIAL_TEMPLATE, transferable=True))
    scenarios.licensed(buyer, release)
    grant, cy = Grant.objects.get(), scenarios.person("cy")

    grants.offer_transfer(grant=grant, actor=buyer, recipient=Namespace.objects.get(user=cy), now=now)
    grants.revoke(grant=grant, actor=vendor, reason="Resold to others.", now=now)

    assert cy.notifications.get().kind == "license.offer_transfer"
    told = buyer.notifications.get(kind="license.revoke")
    assert (told.body, told.url) == ("Resold to others.", f"/licenses/{grant.pk}/")


def test_holders_are_told_once_that_a_license_or_trial_ends_soon() -> None:
    _, buyer, release, now = world(FREE)
    accept(buyer, release, now)
    tried = scenarios.published_release(scenarios.vendor_of(release), name="tried", terms=TRIAL)

    assert expiry.tell_expiring(now=now) == 0
    try_it(buyer, tried, now + 17 * DAY)
    assert [expiry.tell_expiring(now=now + 17 * DAY) for _ in range(2)] == [2, 0]

    titles = set(buyer.notifications.filter(kind="license.expiring").values_list("title", flat=True))
    assert titles == {"Your license of vera/net ends soon", "Your trial of vera/tried ends soon"}
