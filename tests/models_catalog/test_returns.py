"""Refunds of terms that were renewed, passed on or used up; and who is told of sales and refunds."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest
import scenarios
from django.utils import timezone
from test_orders import balance, refused, staff
from test_royalties import ROYAL, child, priced

from marketplace.accounts.models import Namespace, User
from marketplace.errors import Conflict
from models_catalog.models import Grant, Order, Release
from models_catalog.presets import COMMERCIAL_TEMPLATE
from models_catalog.services import grants, licensing, orders, refunds

pytestmark = pytest.mark.django_db
MONTHLY = dataclasses.replace(COMMERCIAL_TEMPLATE, name="Monthly", term_days=30, transferable=True)
DAY = timedelta(days=1)


def world() -> tuple[User, Release, datetime]:
    release = scenarios.published_release(scenarios.person("vera"), terms=MONTHLY)
    return scenarios.person("bo"), release, timezone.now()


def paid(order: Grant | Order, at: datetime) -> Grant:
    assert isinstance(order, Order)
    return orders.settle_order(order=order, actor=scenarios.vendor_of(order.release), now=at)


def bought(user: User, release: Release, at: datetime) -> Grant:
    given = {"user": user, "release": release, "terms_hash": release.terms.terms_hash}
    return paid(licensing.accept_terms(**given, now=at), at)


def renewed(user: User, grant: Grant, at: datetime) -> Grant:
    return paid(licensing.renew(user=user, grant=grant, terms_hash=grant.terms.terms_hash, now=at), at)


def refund(grant: Grant, at: datetime, *, by: User | None = None) -> None:
    order = Order.objects.get(pk=grant.order_id)
    actor = by or scenarios.vendor_of(order.release)
    refunds.refund_order(order=order, actor=actor, reason="By mistake.", now=at)


def end_of(user: User, at: datetime) -> datetime | None:
    found = Grant.objects.active(at).filter(licensee__user=user).first()
    return found.expires_at if found else None


def test_a_renewal_that_is_refunded_leaves_the_term_before_it() -> None:
    buyer, release, now = world()
    first = bought(buyer, release, now)
    second = renewed(buyer, first, now + 20 * DAY)

    refund(second, now + 20 * DAY)

    assert end_of(buyer, now + 20 * DAY) == now + 30 * DAY
    told = buyer.notifications.get(kind="license.shorten")
    assert f"It ends on {now + 30 * DAY:%Y-%m-%d} now." in told.body


def test_the_first_term_that_is_refunded_after_an_early_renewal_shortens_the_license_by_what_was_left_of_it() -> None:
    buyer, release, now = world()
    first = bought(buyer, release, now)
    renewed(buyer, first, now + 20 * DAY)

    refund(first, now + 20 * DAY)

    assert end_of(buyer, now + 20 * DAY) == now + 50 * DAY


@pytest.mark.parametrize("first_to_go", [0, 1])
def test_both_terms_refunded_end_the_license_whatever_the_order(first_to_go: int) -> None:
    buyer, release, now = world()
    first = bought(buyer, release, now)
    terms = [first, renewed(buyer, first, now + 20 * DAY)]

    refund(terms[first_to_go], now + 20 * DAY)
    refund(terms[1 - first_to_go], now + 20 * DAY)

    assert end_of(buyer, now + 20 * DAY) is None
    assert balance(scenarios.vendor_of(release)) == 0


def test_a_refund_finds_the_license_that_was_renewed_and_passed_on() -> None:
    buyer, release, now = world()
    first = bought(buyer, release, now)
    second, cy = renewed(buyer, first, now + 20 * DAY), scenarios.person("cy")
    offer = grants.offer_transfer(
        grant=second, actor=buyer, recipient=Namespace.objects.get(user=cy), now=now + 21 * DAY
    )
    terms_hash = release.terms.terms_hash
    grants.accept_transfer(transfer_id=offer.pk, actor=cy, terms_hash=terms_hash, now=now + 21 * DAY)

    refund(first, now + 22 * DAY)

    assert end_of(cy, now + 22 * DAY) == now + 52 * DAY


def test_royalties_are_not_taken_back_for_a_license_that_was_used_to_its_end() -> None:
    rita, mia, bo, now = (*(scenarios.person(name) for name in ("rita", "mia", "bo")), timezone.now())
    root = scenarios.published_release(rita, name="root", terms=ROYAL)
    sold = child(mia, root, name="child", terms=priced(6000, term_days=30))
    before = balance(rita)
    grant = bought(bo, sold, now)
    order, late = Order.objects.get(pk=grant.order_id), now + 30 * DAY

    refused(Conflict, "term_over", refunds.refund_order, order=order, actor=mia, reason="x", now=late)
    assert balance(rita) == before + 600
    refund(grant, late, by=staff())
    assert balance(rita) == before


def test_vendor_buyer_and_ancestors_are_told_of_a_sale_and_its_refund() -> None:
    rita, mia, bo, now = (*(scenarios.person(name) for name in ("rita", "mia", "bo")), timezone.now())
    root = scenarios.published_release(rita, name="root", terms=ROYAL)
    sold = child(mia, root, name="child", terms=priced(6000))
    rita.notifications.all().delete()
    mia.notifications.all().delete()
    order = licensing.accept_terms(user=bo, release=sold, terms_hash=sold.terms.terms_hash, now=now)
    assert isinstance(order, Order)

    stan = staff()
    orders.settle_order(order=order, actor=stan, now=now)
    order.refresh_from_db()
    refunds.refund_order(order=order, actor=stan, reason="By mistake.", now=now)

    def told(user: User) -> list[str]:
        return list(user.notifications.order_by("pk").values_list("kind", flat=True))

    assert told(mia) == ["order.place", "order.sale", "order.refund"]
    assert told(bo) == ["order.settle", "order.refund", "license.revoke"]
    assert told(rita) == ["royalty.receive"]
    assert "€6.00" in rita.notifications.get().body
    assert bo.notifications.get(kind="order.refund").body == "€60.00. By mistake."


def test_what_is_free_tells_nobody_of_a_sale() -> None:
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")

    scenarios.licensed(buyer, scenarios.published_release(vendor))

    assert not vendor.notifications.exists()
    assert not buyer.notifications.exists()
