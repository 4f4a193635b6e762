"""The ledger: every event balanced, written once, never changed."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime

import pytest
import scenarios
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import Sum
from hypothesis import given
from hypothesis import strategies as st

from marketplace.accounts.models import Namespace
from models_catalog import postings, royalties
from models_catalog.models import LedgerAccount, LedgerEntry, LedgerTransaction
from models_catalog.postings import Account, AccountKind, Event, Line, Purpose
from models_catalog.royalties import Claim
from models_catalog.services import ledger

NOW = datetime(2026, 11, 1, tzinfo=UTC)
ORDERS = 10_000


def posting(key: str, lines: list[Line], event: Event = Event.SALE, currency: str = "EUR") -> ledger.Posting:
    return ledger.Posting(key=key, event=event, currency=currency, lines=lines, at=NOW)


def balances(lines: list[Line]) -> Counter[Account]:
    """Credits less debits of each account."""
    found: Counter[Account] = Counter()
    for line in lines:
        found[line.credit] += line.amount_minor
        found[line.debit] -= line.amount_minor
    return found


def split_of(price: int, *, bps: int = 1000, floor: int = 0, payee: int = 3, fee: int = 0) -> royalties.Split:
    claim = Claim(ancestor=1, title="a/m", payee=payee, generations=1, bps=bps, floor_minor=floor, currency="EUR")
    return royalties.split([claim], seller=2, price_minor=price, currency="EUR", fee_bps=fee)


@given(st.integers(0, 10**9), st.integers(0, 10_000), st.integers(0, 10_000), st.booleans())
def test_a_sale_leaves_each_account_with_what_it_is_due(price: int, bps: int, fee: int, to_site: bool) -> None:
    split = split_of(price, bps=bps, fee=fee)

    found = balances(postings.sale(split, buyer=1, seller=2, is_paid_to_site=to_site))

    assert sum(found.values()) == 0
    assert found[Account(AccountKind.BUYER, 1)] == 0
    assert found[postings.payable(3)] == split.royalties_minor
    assert found[Account(AccountKind.FEES)] == split.fee_minor
    assert found[postings.PROVIDER] == (-price if to_site else 0)
    assert found[postings.payable(2)] == split.seller_minor - (0 if to_site else price)


def test_a_refund_undoes_every_line_of_its_sale() -> None:
    lines = postings.sale(split_of(5000, fee=250), buyer=1, seller=2, is_paid_to_site=True)

    assert not any(balances([*lines, *postings.reversal(lines)]).values())


def test_a_free_sale_moves_nothing() -> None:
    assert postings.sale(split_of(0), buyer=1, seller=2, is_paid_to_site=False) == []


@pytest.mark.django_db
def test_ten_thousand_random_orders_refunds_and_payouts_leave_every_account_balanced() -> None:
    """The books of the database against a model that only adds up; and the sum of everything is zero."""
    draw = random.Random(20261101)
    owners = [scenarios.person(f"v{number}").namespace.pk for number in range(8)]
    written: list[ledger.Posting] = []
    expected: Counter[tuple[Account, str]] = Counter()
    for number in range(ORDERS):
        currency = draw.choice(["EUR", "USD", "JPY"])
        seller, buyer = draw.sample(owners, 2)
        claims = [
            Claim(
                ancestor=ancestor,
                title="a/m",
                payee=draw.choice(owners),
                generations=draw.randint(1, 4),
                bps=draw.randint(0, 4000),
                floor_minor=draw.choice([0, 0, 199]),
                currency=currency,
                depth=draw.randint(0, 3),
            )
            for ancestor in range(draw.randint(0, 4))
        ]
        price = royalties.lowest_price(claims, seller=seller) + draw.randint(1, 10**6)
        split = royalties.split(claims, seller=seller, price_minor=price, currency=currency, fee_bps=250)
        is_paid_to_site = draw.random() < 0.7
        lines = [
            Line(**{**_fields(line), "listing": None})
            for line in postings.sale(split, buyer=buyer, seller=seller, is_paid_to_site=is_paid_to_site)
        ]
        written.append(posting(f"order:{number}:sale", lines, currency=currency))
        _add(expected, lines, currency)
        if draw.random() < 0.1:
            undone = postings.reversal(lines)
            written.append(posting(f"order:{number}:refund", undone, Event.REFUND, currency))
            _add(expected, undone, currency)

    ledger.post_all(written)
    for (account, currency), balance in list(expected.items()):
        if account.kind is AccountKind.PAYABLE and balance > 0:
            lines = postings.payout(account.namespace or 0, balance)
            ledger.post(posting(f"payout:{account.namespace}:{currency}", lines, Event.PAYOUT, currency))
            _add(expected, lines, currency)

    found: Counter[tuple[Account, str]] = Counter()
    for row in LedgerAccount.objects.all():
        debits = LedgerEntry.objects.filter(debit=row).aggregate(sum=Sum("amount_minor"))["sum"] or 0
        credits_ = LedgerEntry.objects.filter(credit=row).aggregate(sum=Sum("amount_minor"))["sum"] or 0
        found[Account(AccountKind(row.kind), row.namespace_id), row.currency] = credits_ - debits
    assert +found == +expected
    assert -found == -expected
    for currency in ("EUR", "USD", "JPY"):
        assert sum(balance for (_, used), balance in found.items() if used == currency) == 0
    assert all(found[key] == 0 for key in found if key[0].kind is AccountKind.BUYER)
    assert all(found[key] <= 0 for key in found if key[0].kind is AccountKind.PAYABLE)
    assert LedgerTransaction.objects.filter(event="sale").count() == ORDERS


def _fields(line: Line) -> dict[str, object]:
    return {name: getattr(line, name) for name in ("debit", "credit", "amount_minor", "purpose", "listing")}


def _add(expected: Counter[tuple[Account, str]], lines: list[Line], currency: str) -> None:
    for account, amount in balances(lines).items():
        expected[account, currency] += amount


@pytest.mark.django_db
def test_an_event_is_posted_once() -> None:
    lines = [_line()]

    assert ledger.post(posting("order:1:sale", lines)) is True
    assert ledger.post(posting("order:1:sale", lines)) is False

    assert LedgerEntry.objects.count() == 1
    assert ledger.lines_of("order:1:sale") == lines


@pytest.mark.django_db
def test_what_is_posted_cannot_be_changed_or_taken_away() -> None:
    ledger.post(posting("order:1:sale", [_line()]))

    for table in (LedgerEntry._meta.db_table, LedgerTransaction._meta.db_table):
        for statement in (f"UPDATE {table} SET id = id", f"DELETE FROM {table}"):  # noqa: S608 - our own tables
            with (
                pytest.raises(DatabaseError, match="only added to"),
                transaction.atomic(),
                connection.cursor() as cursor,
            ):
                cursor.execute(statement)
    with pytest.raises(TypeError, match="post a reversal"):
        LedgerEntry.objects.update(amount_minor=1)
    with pytest.raises(TypeError, match="post a reversal"):
        LedgerEntry.objects.all().delete()


@pytest.mark.django_db
@pytest.mark.parametrize("amount", [0, -1])
def test_the_database_takes_no_entry_that_moves_nothing(amount: int) -> None:
    ledger.post(posting("order:1:sale", [_line()]))
    row = LedgerEntry.objects.get()

    with pytest.raises(IntegrityError), transaction.atomic():
        LedgerEntry.objects.create(
            transaction=row.transaction, debit=row.debit, credit=row.credit, amount_minor=amount, purpose="sale"
        )
    with pytest.raises(IntegrityError), transaction.atomic():
        LedgerEntry.objects.create(
            transaction=row.transaction, debit=row.debit, credit=row.debit, amount_minor=5, purpose="sale"
        )
    with pytest.raises(ValueError, match="no movement"):
        Line(debit=postings.PROVIDER, credit=postings.PAYOUTS, amount_minor=amount, purpose=Purpose.SALE)


@pytest.mark.django_db
def test_the_database_takes_no_entry_between_two_currencies() -> None:
    ledger.post(posting("order:1:sale", [_line()]))
    ledger.post(posting("order:2:sale", [_line()], currency="USD"))
    euros, dollars = LedgerEntry.objects.order_by("id")

    with pytest.raises(DatabaseError, match="one currency"), transaction.atomic():
        LedgerEntry.objects.create(
            transaction=euros.transaction, debit=euros.debit, credit=dollars.credit, amount_minor=5, purpose="sale"
        )


def _line() -> Line:
    owner = Namespace.objects.filter(name="vera").first() or scenarios.person("vera").namespace
    return Line(
        debit=Account(AccountKind.BUYER, owner.pk),
        credit=postings.payable(owner.pk),
        amount_minor=5,
        purpose=Purpose.SALE,
    )
