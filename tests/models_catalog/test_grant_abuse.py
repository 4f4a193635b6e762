"""What somebody tries who wants to pay less, or do more, than the license allows; each case is refused."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest
import scenarios
from django.utils import timezone
from test_royalties import child

from marketplace.accounts.models import Namespace, User
from marketplace.errors import DomainError
from models_catalog import ancestry, policies, quotes, selectors
from models_catalog.desks import vendor as desk
from models_catalog.desks import vendor_rows
from models_catalog.models import Grant, Listing, Order, Release
from models_catalog.presets import COMMERCIAL_TEMPLATE, PRESETS
from models_catalog.services import access, grants, licensing, lineage, orders, publishing, refunds
from models_catalog.terms import Approval, Terms

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)
PASSING = dataclasses.replace(COMMERCIAL_TEMPLATE, name="May be passed on", transferable=True)
MONTHLY = dataclasses.replace(PRESETS["mit"], license_id="other", spdx_id="", name="A month", term_days=30)
MONTHLY_SALE = dataclasses.replace(MONTHLY, name="A paid month", price_minor=1000)


def refusal(act: object, **given: object) -> str:
    with pytest.raises(DomainError) as caught:
        act(**given)  # type: ignore[operator]
    return caught.value.code


def namespace(user: User) -> Namespace:
    return Namespace.objects.get(user=user)


def passed_on(grant: Grant, *, to: User, now: datetime) -> Grant:
    offer = grants.offer_transfer(grant=grant, actor=grant.accepted_by, recipient=namespace(to), now=now)
    return grants.accept_transfer(transfer_id=offer.pk, actor=to, terms_hash=grant.terms.terms_hash, now=now)


def taken(user: User, release: Release, now: datetime) -> Grant | Order:
    return licensing.accept_terms(user=user, release=release, terms_hash=release.terms.terms_hash, now=now)


def bought(user: User, release: Release, now: datetime) -> Grant:
    order = taken(user, release, now)
    if isinstance(order, Grant):
        return order
    return orders.settle_order(order=order, actor=scenarios.vendor_of(release), now=now)


def refund(grant: Grant, vendor: User, now: datetime) -> None:
    refunds.refund_order(order=Order.objects.get(pk=grant.order_id), actor=vendor, reason="x", now=now)


def made(terms: Terms, *, of: Terms) -> tuple[User, Release, Grant]:
    """A derivative that Mia offers under `terms`, made under her license of a root whose terms are `of`."""
    root = scenarios.published_release(scenarios.person("rita"), name="root", terms=of)
    mia = scenarios.person("mia")
    return mia, child(mia, root, name="child", terms=terms), Grant.objects.get(licensee=namespace(mia))


# After a breach


def test_a_license_that_was_revoked_for_a_breach_is_not_simply_accepted_again() -> None:
    vendor, buyer, now = scenarios.person("vera"), scenarios.person("bo"), timezone.now()
    release = scenarios.published_release(vendor, terms=PRESETS["apache-2.0"])
    grant = bought(buyer, release, now)
    grants.revoke(grant=grant, actor=vendor, reason="Used to scan faces.", now=now)

    assert refusal(taken, user=buyer, release=release, now=now + DAY) == "approval_needed"
    asked = access.request_access(user=buyer, release=release, reason="We stopped that.", now=now + DAY)
    access.decide_request(request_id=asked.pk, actor=vendor, approve=True, answer="", now=now + 2 * DAY)
    assert isinstance(taken(buyer, release, now + 3 * DAY), Grant)


def test_an_approval_does_not_outlast_a_breach() -> None:
    vendor, buyer, now = scenarios.person("vera"), scenarios.person("bo"), timezone.now()
    terms = dataclasses.replace(PRESETS["mit"], approval=Approval.MANUAL)
    release = scenarios.published_release(vendor, terms=terms)
    asked = access.request_access(user=buyer, release=release, reason="Research.", now=now)
    access.decide_request(request_id=asked.pk, actor=vendor, approve=True, answer="", now=now)
    grants.revoke(grant=bought(buyer, release, now), actor=vendor, reason="Resold.", now=now + DAY)

    assert refusal(taken, user=buyer, release=release, now=now + 2 * DAY) == "approval_needed"


def test_after_a_refund_the_license_can_be_bought_again() -> None:
    vendor, buyer, now = scenarios.person("vera"), scenarios.person("bo"), timezone.now()
    release = scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE)
    grant = bought(buyer, release, now)
    refund(grant, vendor, now)

    assert isinstance(taken(buyer, release, now), Order)


# Passing on


def test_a_license_is_not_passed_on_to_whom_the_vendor_has_not_approved() -> None:
    vendor, buyer, cy, now = (*(scenarios.person(name) for name in ("vera", "bo", "cy")), timezone.now())
    terms = dataclasses.replace(PRESETS["mit"], approval=Approval.MANUAL, transferable=True)
    release = scenarios.published_release(vendor, terms=terms)

    def approve(user: User) -> None:
        asked = access.request_access(user=user, release=release, reason="Research.", now=now)
        access.decide_request(request_id=asked.pk, actor=vendor, approve=True, answer="", now=now)

    approve(buyer)
    grant = bought(buyer, release, now)

    assert refusal(passed_on, grant=grant, to=cy, now=now) == "approval_needed"
    grants.withdraw_transfer(transfer=grant.transfers.open().get(), actor=cy, now=now)
    approve(cy)
    assert passed_on(grant, to=cy, now=now).licensee == namespace(cy)


def test_one_license_that_is_passed_round_does_not_carry_many_derivatives() -> None:
    """Else one bought license would serve any number of sellers, one after the other."""
    mia, sold, grant = made(COMMERCIAL_TEMPLATE, of=PASSING)
    now = timezone.now()

    passed_on(grant, to=scenarios.person("max"), now=now)

    assert policies.may_license(scenarios.person("bo"), sold, now=now).code == "parent_license_ended"
    draft = scenarios.draft_release(mia, name="child", version="2.0", terms=COMMERCIAL_TEMPLATE)
    ready = scenarios.verify(mia, draft)
    assert refusal(publishing.publish, user=mia, release=ready, now=now) == "parent_license_ended"


def test_a_license_without_end_that_was_refunded_ends_what_was_made_under_it() -> None:
    """Even where an earlier one of the same terms was passed on, which had no end either."""
    mia, sold, first = made(COMMERCIAL_TEMPLATE, of=PASSING)
    now = timezone.now()
    passed_on(first, to=scenarios.person("max"), now=now)
    second = bought(mia, Release.objects.get(listing__name="root"), now)
    assert ancestry.bounds_of(sold).expires_at is None

    refund(second, scenarios.vendor_of(Release.objects.get(listing__name="root")), now)

    assert policies.may_license(scenarios.person("bo"), sold, now=now).code == "parent_license_ended"


# The end of a parent's license


def test_nobody_pays_for_another_term_that_a_parent_s_license_does_not_reach() -> None:
    _, sold, _ = made(MONTHLY_SALE, of=MONTHLY)
    buyer, now = scenarios.person("bo"), timezone.now()
    grant = bought(buyer, sold, now)
    given = {"user": buyer, "grant": grant, "terms_hash": grant.terms.terms_hash}

    other = scenarios.person("cy")
    order = taken(other, sold, now + 20 * DAY)
    assert isinstance(order, Order)
    late = now + 31 * DAY

    assert refusal(licensing.renew, **given, now=now + 20 * DAY) == "renewal_adds_nothing"
    assert refusal(licensing.renew, **given, now=late) == "parent_license_ended"
    vendor = scenarios.vendor_of(sold)
    assert refusal(orders.settle_order, order=order, actor=vendor, now=late) == "parent_license_ended"
    order.refresh_from_db()
    assert order.status == "pending"


def test_a_draft_does_not_decide_when_the_license_of_what_is_published_ends() -> None:
    rita, mia, buyer, now = *(scenarios.person(name) for name in ("rita", "mia", "bo")), timezone.now()
    root = scenarios.published_release(rita, name="root", terms=MONTHLY)
    sold = scenarios.published_release(mia, name="child", terms=MONTHLY_SALE)
    scenarios.licensed(mia, root)
    order = taken(buyer, sold, now)
    draft = scenarios.draft_release(mia, name="child", version="2.0", terms=MONTHLY_SALE)
    lineage.declare(user=mia, release=draft, parent=root, relation="finetune", now=now)
    assert isinstance(order, Order)
    Order.objects.filter(pk=order.pk).update(release=None)  # as orders of before have none
    Grant.objects.filter(licensee=namespace(mia)).update(revoked_at=now)
    order.refresh_from_db()

    grant = orders.settle_order(order=order, actor=mia, now=now + DAY)

    assert grant.expires_at == now + 31 * DAY


def test_a_quote_and_a_trial_end_with_the_parent_s_license() -> None:
    yearly = dataclasses.replace(MONTHLY_SALE, term_days=30, trial_days=30)
    _, sold, held = made(yearly, of=MONTHLY)
    buyer, later = scenarios.person("bo"), timezone.now() + 25 * DAY

    assert quotes.quote(buyer, sold, now=later).expires_at == held.expires_at
    given = {"user": buyer, "release": sold, "terms_hash": sold.terms.terms_hash}
    assert licensing.start_trial(**given, now=later).expires_at == held.expires_at


# Counting


def test_a_number_of_licenses_counts_each_licensee_once_and_no_trial() -> None:
    vendor, now = scenarios.person("vera"), timezone.now()
    terms = dataclasses.replace(PASSING, trial_days=7)
    release = scenarios.published_release(vendor, terms=terms)
    passed_on(bought(scenarios.person("bo"), release, now), to=scenarios.person("cy"), now=now)
    tester = scenarios.person("dee")
    licensing.start_trial(user=tester, release=release, terms_hash=release.terms.terms_hash, now=now)
    refunded = bought(scenarios.person("eve"), release, now)
    refund(refunded, vendor, now)

    assert vendor_rows.listings(vendor).get().licenses == 1
    assert desk.overview(vendor).licenses == 1
    assert selectors.order_catalog(Listing.objects.all(), "licensed").get().licenses == 1
