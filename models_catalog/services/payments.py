"""How an order is paid. A provider starts the payment; who is told of it settles the order (licensing.py)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from models_catalog.models import Order


class Provider(Protocol):
    @property
    def name(self) -> str: ...

    def begin(self, order: Order) -> bool:
        """Starts the payment of a new order, inside its transaction; True where it is paid with that."""


@dataclass(frozen=True, slots=True)
class Free:
    """Nothing to pay: the order is settled as it is placed."""

    name: str = "free"

    def begin(self, order: Order) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Manual:
    """By invoice, outside the site: the vendor or the staff marks the order as paid."""

    name: str = "manual"

    def begin(self, order: Order) -> bool:
        return False


FREE, MANUAL = Free(), Manual()


def provider_for(amount_minor: int) -> Provider:
    return MANUAL if amount_minor else FREE
