"""The books after hundreds of random orders, refunds and payouts that went through the services.

What each account must hold is added up beside them from one table of who is due what of which sale. Whatever a service
refuses must leave the books as they were.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import scenarios
from django.utils import timezone
from test_orders import balance, staff
from test_royalties import ROYAL, child, priced

from marketplace.accounts.models import User
from marketplace.errors import DomainError
from models_catalog.models import LedgerAccount, LedgerTransaction, Order, PayoutBatch, Release
from models_catalog.models.orders import OrderStatus
from models_catalog.services import debts, orders, payouts, refunds

STEPS = 250
FEE_BPS = 500
# Of each sale: its price, this site's fee of 5%, and what it owes the makers above, a tenth to each.
PRICES = {"root": 5000, "left": 6000, "right": 7000, "merged": 10_000}
FEES = {"root": 250, "left": 300, "right": 350, "merged": 500}
ROYALTIES: dict[str, dict[str, int]] = {
    "root": {},
    "left": {"rita": 600},
    "right": {"rita": 700},
    "merged": {"rita": 1000, "lea": 1000, "ron": 1000},
}
SELLERS = {"root": "rita", "left": "lea", "right": "ron", "merged": "mia"}


class Books:
    """A diamond of four models for sale, and what its makers and this site must be found to hold."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.people = {name: scenarios.person(name) for name in ("rita", "lea", "ron", "mia")}
        self.buyers = [scenarios.person(f"buyer{number}") for number in range(30)]
        self.stan = staff()
        self.releases = self._diamond()
        self.owed: Counter[str] = Counter({name: balance(user) for name, user in self.people.items()})
        self.fees, self.provider, self.transit = (total(kind) for kind in ("fees", "provider", "payouts"))
        self.orders: list[Order] = []
        self.done: Counter[str] = Counter()

    def _diamond(self) -> dict[str, Release]:
        root = scenarios.published_release(self.people["rita"], name="root", terms=ROYAL)
        left = child(self.people["lea"], root, name="left", terms=priced(PRICES["left"]))
        right = child(self.people["ron"], root, name="right", terms=priced(PRICES["right"]))
        merged = child(self.people["mia"], [left, right], name="merged", terms=priced(PRICES["merged"]))
        return {"root": root, "left": left, "right": right, "merged": merged}

    def seller(self, order: Order) -> User:
        return self.people[SELLERS[order.listing.name]]

    # What may happen; each is tried whether or not it is in order.

    def order(self) -> None:
        taken = scenarios.accepted(self.draw.choice(self.buyers), self.draw.choice(list(self.releases.values())))
        if isinstance(taken, Order):  # else they hold the license already
            self.orders.append(taken)

    def settle(self) -> None:
        order, by_site = self._any_order(), self.draw.random() < 0.6
        was_paid = self._is_paid(order)
        orders.settle_order(order=order, actor=self.stan if by_site else self.seller(order), now=timezone.now())
        if not was_paid:
            self._add(order, by_site=by_site, sign=1)

    def cancel(self) -> None:
        order = self._any_order()
        orders.cancel_order(order=order, actor=order.placed_by, now=timezone.now())

    def refund(self) -> None:
        order = self._any_order()
        was_paid = self._is_paid(order)
        actor = self.draw.choice([self.stan, self.seller(order)])
        refunds.refund_order(order=order, actor=actor, reason="It does not fit.", now=timezone.now())
        if was_paid:
            self._add(order, by_site=order.received_by == "site", sign=-1)

    def pay_out(self) -> None:
        least = self.draw.choice([1, 5000, 40_000])
        batch = payouts.create(actor=self.stan, currency="EUR", minimum_minor=least, now=timezone.now())
        taken = {row.namespace.name: row.amount_minor for row in batch.payouts.select_related("namespace")}
        assert all(least <= amount <= self.owed[name] for name, amount in taken.items())
        assert taken
        if min(self.owed.values()) >= 0:  # else royalties may wait for those who owe them
            assert taken == {name: amount for name, amount in self.owed.items() if amount >= least}
        self.owed.subtract(taken)
        self.transit += sum(taken.values())

    def collect(self) -> None:
        owing = sorted(name for name, amount in self.owed.items() if amount < 0)
        name = self.draw.choice(owing or list(self.owed))
        amount = self.draw.choice([100, 1000, 10_000])
        debts.collect(
            namespace=self.people[name].namespace,
            actor=self.stan,
            currency="EUR",
            amount_minor=amount,
            reference=f"SEPA {self.draw.random()}",
            now=timezone.now(),
        )
        self.owed[name] += amount
        self.provider -= amount

    def close_payout(self) -> None:
        batch = self.draw.choice(list(PayoutBatch.objects.order_by("created_at")))
        amounts = {row.namespace.name: row.amount_minor for row in batch.payouts.select_related("namespace")}
        if self.draw.random() < 0.5:
            payouts.mark_sent(batch=batch, actor=self.stan, reference="SEPA 1", now=timezone.now())
            self.provider += sum(amounts.values())
        else:
            payouts.cancel(batch=batch, actor=self.stan, now=timezone.now())
            self.owed.update(amounts)
        self.transit -= sum(amounts.values())

    def _any_order(self) -> Order:
        return self.draw.choice(self.orders)

    def _is_paid(self, order: Order) -> bool:
        order.refresh_from_db()
        return order.status == OrderStatus.PAID

    def _add(self, order: Order, *, by_site: bool, sign: int) -> None:
        name = order.listing.name
        shares = ROYALTIES[name]
        kept = PRICES[name] - FEES[name] - sum(shares.values())
        self.owed.update({payee: sign * amount for payee, amount in shares.items()})
        self.owed[SELLERS[name]] += sign * (kept if by_site else kept - PRICES[name])
        self.fees += sign * FEES[name]
        self.provider -= sign * (PRICES[name] if by_site else 0)

    def walk(self) -> None:
        self.order()
        moves: list[Callable[[], None]] = [self.order, self.settle, self.cancel, self.refund]
        for _ in range(STEPS):
            move = self.draw.choices([*moves, self.pay_out, self.close_payout, self.collect], [30, 40, 5, 15, 6, 4, 6])[
                0
            ]
            before = LedgerTransaction.objects.count()
            try:
                move()
                self.done[move.__name__] += 1
            except DomainError:
                self.done[f"refused {move.__name__}"] += 1
                assert LedgerTransaction.objects.count() == before
            except IndexError:
                continue  # nothing to close yet


def total(kind: str) -> int:
    """Credits less debits of every account of the kind, in cents."""
    rows = LedgerAccount.objects.filter(kind=kind, currency="EUR")
    credits_ = sum(amount for row in rows for amount in row.credits.values_list("amount_minor", flat=True))
    return credits_ - sum(amount for row in rows for amount in row.debits.values_list("amount_minor", flat=True))


@pytest.mark.django_db
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_random_orders_refunds_and_payouts_everybody_holds_what_they_are_due(seed: int, settings: Any) -> None:
    settings.SITE_FEE_BPS = FEE_BPS
    books = Books(seed)

    books.walk()

    assert {name: balance(user) for name, user in books.people.items()} == dict(books.owed)
    assert (total("fees"), total("provider"), total("payouts")) == (books.fees, books.provider, books.transit)
    assert total("buyer") == 0
    assert sum(total(kind) for kind in LedgerAccount.objects.values_list("kind", flat=True).distinct()) == 0
    # The walk was one: things happened, and things were refused.
    happened = {
        "order",
        "settle",
        "refund",
        "cancel",
        "pay_out",
        "close_payout",
        "collect",
        "refused settle",
        "refused refund",
    }
    assert happened <= set(books.done)
