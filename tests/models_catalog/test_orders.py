"""From a quote to a grant and back: who pays whom, renewals, refunds, and what is refused."""

from __future__ import annotations

from datetime import datetime

import pytest
import scenarios
from django.utils import timezone
from test_royalties import ROYAL, child, priced

from marketplace.accounts.models import AuditEvent, Role, User
from marketplace.errors import Conflict, Denied, DomainError, Invalid
from models_catalog import policies
from models_catalog.models import Grant, LedgerAccount, LedgerEntry, LedgerTransaction, Order, Release
from models_catalog.presets import COMMERCIAL_TEMPLATE
from models_catalog.services import licensing, orders, publishing, quarantine, refunds

pytestmark = pytest.mark.django_db
PRICE = COMMERCIAL_TEMPLATE.price_minor


def balance(user: User, kind: str = "payable") -> int:
    """What the site owes the user, in euros' cents."""
    found = 0
    for account in LedgerAccount.objects.filter(namespace=user.namespace, kind=kind, currency="EUR"):
        found += sum(account.credits.values_list("amount_minor", flat=True))
        found -= sum(account.debits.values_list("amount_minor", flat=True))
    return found


def ordered(buyer: User, release: Release, now: datetime | None = None) -> Order:
    at = now or timezone.now()
    order = licensing.accept_terms(user=buyer, release=release, terms_hash=release.terms.terms_hash, now=at)
    assert isinstance(order, Order)
    return order


def bought(buyer: User, release: Release, now: datetime | None = None) -> tuple[Order, Grant]:
    at = now or timezone.now()
    order = ordered(buyer, release, at)
    grant = orders.settle_order(order=order, actor=scenarios.vendor_of(release), now=at)
    order.refresh_from_db()
    return order, grant


def staff(name: str = "stan") -> User:
    user = scenarios.person(name)
    user.is_staff = True
    user.save()
    return user


def refused(error: type[DomainError], code: str, function: object, **given: object) -> str:
    with pytest.raises(error) as caught:
        function(**given)  # type: ignore[operator]
    assert caught.value.code == code
    return caught.value.message


# Paying


def test_what_a_vendor_was_paid_leaves_royalties_as_their_debt() -> None:
    rita, mia, bo = (scenarios.person(name) for name in ("rita", "mia", "bo"))
    root = scenarios.published_release(rita, name="root", terms=ROYAL)
    sold = child(mia, root, name="child", terms=priced(6000))
    before = (balance(rita), balance(mia))

    order, _ = bought(bo, sold)

    assert (order.received_by, order.status) == ("vendor", "paid")
    assert (balance(rita) - before[0], balance(mia) - before[1], balance(bo, "buyer")) == (600, -600, 0)
    royalty = LedgerEntry.objects.get(transaction__order=order, purpose="royalty")
    assert (royalty.listing, royalty.amount_minor) == (root.listing, 600)


def test_what_this_site_was_paid_it_owes_the_vendor(settings: object) -> None:
    settings.SITE_FEE_BPS = 500  # type: ignore[attr-defined]
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    order = ordered(buyer, scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE))

    orders.settle_order(order=order, actor=staff(), now=timezone.now())

    order.refresh_from_db()
    assert order.received_by == "site"
    assert balance(vendor) == PRICE - PRICE * 5 // 100


def test_a_vendor_does_not_say_that_this_site_was_paid() -> None:
    vendor = scenarios.person("vera")
    order = ordered(scenarios.person("bo"), scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE))

    refused(Denied, "not_staff", orders.settle_order, order=order, actor=vendor, now=timezone.now(), received_by="site")
    assert not LedgerTransaction.objects.exists()


def test_settling_twice_posts_one_sale() -> None:
    vendor = scenarios.person("vera")
    order = ordered(scenarios.person("bo"), scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE))

    first, again = (orders.settle_order(order=order, actor=vendor, now=timezone.now()) for _ in range(2))

    assert first == again
    assert LedgerTransaction.objects.get().key == f"order:{order.pk}:sale"


def test_free_terms_leave_the_ledger_alone() -> None:
    scenarios.licensed(scenarios.person("bo"), scenarios.published_release(scenarios.person("vera")))

    assert not LedgerTransaction.objects.exists()


def test_a_reader_or_a_buyer_marks_nothing_as_paid() -> None:
    acme = scenarios.organization(scenarios.person("olga"), "acme")
    release = scenarios.published_release(
        scenarios.member(acme, "wim", Role.WRITER), terms=COMMERCIAL_TEMPLATE, namespace=acme
    )
    buyer = scenarios.person("bo")
    order = ordered(buyer, release)

    for user in (buyer, scenarios.member(acme, "rita", Role.READER)):
        refused(Denied, "not_billing", orders.settle_order, order=order, actor=user, now=timezone.now())
    orders.settle_order(order=order, actor=scenarios.member(acme, "bill", Role.BILLING), now=timezone.now())


def test_a_way_to_pay_that_is_not_offered_is_refused() -> None:
    release = scenarios.published_release(scenarios.person("vera"), terms=COMMERCIAL_TEMPLATE)

    message = refused(
        Invalid,
        "bad_payment",
        licensing.accept_terms,
        user=scenarios.person("bo"),
        release=release,
        terms_hash=release.terms.terms_hash,
        now=timezone.now(),
        payment="stripe",
    )

    assert message == "This is paid in one of these ways: manual."


def test_an_order_of_a_quarantined_release_waits_until_that_is_lifted() -> None:
    vendor, stan, now = scenarios.person("vera"), staff(), timezone.now()
    order = ordered(scenarios.person("bo"), scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE))
    given = {"order": order, "actor": vendor, "now": now}
    quarantine.quarantine(user=stan, release=order.release, reason="Not theirs to sell.", now=now)

    refused(Denied, "quarantined", orders.settle_order, **given)
    assert not Grant.objects.exists()
    assert not LedgerTransaction.objects.exists()

    quarantine.lift(user=stan, release=Release.objects.get(), now=now)
    assert orders.settle_order(**given) == Grant.objects.get()


def test_an_order_of_a_withdrawn_release_is_still_paid() -> None:
    vendor, now = scenarios.person("vera"), timezone.now()
    order = ordered(scenarios.person("bo"), scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE))
    publishing.yank(user=vendor, release=order.release, reason="A better one is here.", now=now)

    assert orders.settle_order(order=order, actor=vendor, now=now) == Grant.objects.get()


# Refunds


def test_a_refund_ends_the_license_and_reverses_royalties_and_fee(settings: object) -> None:
    settings.SITE_FEE_BPS = 500  # type: ignore[attr-defined]
    rita, mia, bo = (scenarios.person(name) for name in ("rita", "mia", "bo"))
    root = scenarios.published_release(rita, name="root", terms=ROYAL)
    sold = child(mia, root, name="child", terms=priced(6000))
    before = (balance(rita), balance(mia))
    order, grant = bought(bo, sold)

    for _ in range(2):
        refunds.refund_order(order=order, actor=mia, reason="Bought by mistake.", now=timezone.now())

    order.refresh_from_db()
    grant.refresh_from_db()
    assert (order.status, order.refund_reason, order.refunded_by) == ("refunded", "Bought by mistake.", mia)
    assert grant.revoked_at is not None
    assert policies.may_download(bo, sold, now=timezone.now()).code == "no_license"
    assert (balance(rita), balance(mia)) == before
    assert LedgerTransaction.objects.filter(order=order, event="refund").count() == 1
    assert {"order.refund", "license.revoke"} <= set(AuditEvent.objects.values_list("action", flat=True))
    scenarios.licensed(bo, sold)  # and may be bought again


def test_what_cannot_be_refunded_says_why() -> None:
    vendor, buyer, now = scenarios.person("vera"), scenarios.person("bo"), timezone.now()
    release = scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE)
    open_order = ordered(buyer, release)
    given = {"actor": vendor, "reason": "x", "now": now}

    refused(Conflict, "not_paid", refunds.refund_order, order=open_order, **given)
    order, _ = bought(scenarios.person("cy"), release)
    refused(Denied, "not_billing", refunds.refund_order, order=order, **{**given, "actor": buyer})
    refused(Invalid, "reason_missing", refunds.refund_order, order=order, **{**given, "reason": " "})
    partial = refused(Invalid, "partial_refund", refunds.refund_order, order=order, amount_minor=1, **given)
    assert partial == "Only the whole amount is refunded, because the license ends."
    free = scenarios.published_release(vendor, name="free")
    scenarios.licensed(buyer, free)
    refused(Conflict, "nothing_paid", refunds.refund_order, order=Order.objects.get(listing=free.listing), **given)


def test_a_refunded_order_is_not_settled_again() -> None:
    vendor = scenarios.person("vera")
    order, _ = bought(scenarios.person("bo"), scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE))
    refunds.refund_order(order=order, actor=vendor, reason="x", now=timezone.now())

    refused(Conflict, "order_refunded", orders.settle_order, order=order, actor=vendor, now=timezone.now())


# Canceling


def test_a_canceled_order_is_not_paid_and_a_paid_one_not_canceled() -> None:
    vendor, buyer, now = scenarios.person("vera"), scenarios.person("bo"), timezone.now()
    release = scenarios.published_release(vendor, terms=COMMERCIAL_TEMPLATE)
    order = ordered(buyer, release)
    orders.cancel_order(order=order, actor=buyer, now=now)

    refused(Conflict, "order_canceled", orders.settle_order, order=order, actor=vendor, now=now)
    paid, _ = bought(buyer, release)
    refused(Conflict, "already_settled", orders.cancel_order, order=paid, actor=buyer, now=now)
    assert Order.objects.get(pk=paid.pk).status == "paid"
