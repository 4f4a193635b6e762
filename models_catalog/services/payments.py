"""How an order is paid. A provider takes the money, or says that somebody does; orders.py settles what is paid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from marketplace.errors import Invalid
from models_catalog.models import Order
from models_catalog.services import stripe_payments


class Provider(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str:
        """How a buyer is told that they will pay."""

    def begin(self, order: Order) -> bool:
        """Starts the payment of a new order, inside its transaction; True where it is paid with that."""

    def open(self, order: Order) -> None:
        """Makes what the buyer pays at, after the transaction; asking twice makes one."""

    def close(self, order: Order) -> None:
        """Sees to it that a pending order can no longer be paid, before it is canceled."""

    def refund(self, order: Order) -> None:
        """Sends the whole amount back, before that is recorded; asking twice sends it once."""


@dataclass(frozen=True, slots=True)
class Free:
    """Nothing to pay: the order is settled as it is placed."""

    name: str = "free"
    title: str = "Nothing to pay"

    def begin(self, order: Order) -> bool:
        return True

    def open(self, order: Order) -> None: ...

    def close(self, order: Order) -> None: ...

    def refund(self, order: Order) -> None: ...


@dataclass(frozen=True, slots=True)
class Manual:
    """By invoice, outside the site: the vendor or the staff marks the order as paid, and pays back by themselves."""

    name: str = "manual"
    title: str = "By invoice"

    def begin(self, order: Order) -> bool:
        return False

    def open(self, order: Order) -> None: ...

    def close(self, order: Order) -> None: ...

    def refund(self, order: Order) -> None: ...


@dataclass(frozen=True, slots=True)
class Stripe:
    """Stripe Checkout: the buyer pays on Stripe's page, and a signed webhook says so."""

    name: str = "stripe"
    title: str = "By card or bank, at Stripe"

    def begin(self, order: Order) -> bool:
        return False

    def open(self, order: Order) -> None:
        stripe_payments.open_session(order)

    def close(self, order: Order) -> None:
        stripe_payments.expire_session(order)

    def refund(self, order: Order) -> None:
        stripe_payments.refund(order)


FREE, MANUAL, STRIPE = Free(), Manual(), Stripe()
_ALL: dict[str, Provider] = {provider.name: provider for provider in (FREE, MANUAL, STRIPE)}


def provider_named(name: str) -> Provider:
    return _ALL[name]


def offered(amount_minor: int) -> list[Provider]:
    """Returns the ways to pay the amount, the preferred one first."""
    if not amount_minor:
        return [FREE]
    return [STRIPE, MANUAL] if stripe_payments.is_offered() else [MANUAL]


def provider_for(amount_minor: int, *, wanted: str = "") -> Provider:
    """Returns the way that the buyer chose, or without a choice the preferred one. Raises Invalid (`bad_payment`)."""
    choices = offered(amount_minor)
    found = next((provider for provider in choices if wanted in ("", provider.name)), None)
    if found is None:
        names = ", ".join(provider.name for provider in choices)
        raise Invalid("bad_payment", f"This is paid in one of these ways: {names}.", field="payment")
    return found
