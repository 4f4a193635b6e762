"""How the price of a sale is shared with the models that it comes from. Pure; money in integer minor units.

Each ancestor is due the larger of its floor and its percentage of the price, within the generations that its terms
name. The percentages together take at most CAP_BPS of a price; floors are kept whole, so that no price is legal
below their sum. What rounding leaves over is the seller's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from models_catalog.plain_words import share_in_words
from models_catalog.validation import MAX_PRICE_MINOR

WHOLE_BPS = 10_000
CAP_BPS = 5_000  # of a price, for all ancestors together


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the terms of one ancestor ask of a sale. `ancestor` is a listing: its versions count once."""

    ancestor: int
    title: str
    payee: int  # the namespace that owns the ancestor now
    generations: int  # from the ancestor down to what is sold, at least 1
    bps: int = 0
    floor_minor: int = 0
    currency: str
    depth: int = 0  # generations that owe it; 0 is all

    @property
    def is_due(self) -> bool:
        return (self.depth == 0 or self.generations <= self.depth) and (self.bps > 0 or self.floor_minor > 0)

    @property
    def in_words(self) -> str:
        return share_in_words(self.bps, floor_minor=self.floor_minor, currency=self.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    ancestor: int
    title: str
    payee: int
    amount_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Where one price goes; shares, fee and the seller's part sum to it exactly, and none is negative."""

    price_minor: int
    currency: str
    shares: tuple[Share, ...]
    fee_minor: int
    seller_minor: int

    @property
    def royalties_minor(self) -> int:
        return sum(share.amount_minor for share in self.shares)


def owed(claims: Iterable[Claim], *, seller: int) -> list[Claim]:
    """Returns one claim for each ancestor to which a sale by `seller` owes something, in a fixed order. Reached by
    several paths or in several versions it counts once, with the most that it is due; nobody owes themselves."""
    merged: dict[int, Claim] = {}
    for claim in sorted(claims, key=_rank):
        if not claim.is_due or claim.payee == seller:
            continue
        other = merged.get(claim.ancestor)
        merged[claim.ancestor] = claim if other is None else _merged(claim, other)
    return [merged[key] for key in sorted(merged)]


def _rank(claim: Claim) -> tuple[int, int, str, str, int, int]:
    return claim.ancestor, claim.generations, claim.title, claim.currency, claim.bps, claim.floor_minor


def _merged(far: Claim, near: Claim) -> Claim:
    floor = max((near, far), key=lambda claim: claim.floor_minor)
    return Claim(
        ancestor=near.ancestor,
        title=near.title,
        payee=near.payee,
        generations=near.generations,
        bps=max(near.bps, far.bps),
        floor_minor=floor.floor_minor,
        currency=floor.currency,
    )


def lowest_price(claims: Iterable[Claim], *, seller: int) -> int:
    """Returns the lowest legal price: the sum of the floors that a sale owes."""
    return sum(claim.floor_minor for claim in owed(claims, seller=seller))


def foreign_floors(claims: Iterable[Claim], *, seller: int, currency: str) -> list[Claim]:
    """Returns the claims whose floor is in another currency than the price: nothing here converts money."""
    due = owed(claims, seller=seller)
    return [claim for claim in due if claim.floor_minor and claim.currency != currency]


def split(claims: Iterable[Claim], *, seller: int, price_minor: int, currency: str, fee_bps: int = 0) -> Split:
    """Returns the parts of a price. The site's fee comes out of what the royalties leave. Raises ValueError for a
    price that is not legal: ask `lowest_price` and `foreign_floors` first."""
    due = owed(claims, seller=seller)
    floors = sum(claim.floor_minor for claim in due)
    if not 0 <= price_minor <= MAX_PRICE_MINOR or floors > price_minor:
        raise ValueError(f"{price_minor} is not between {floors} and {MAX_PRICE_MINOR}")
    if foreign_floors(due, seller=seller, currency=currency):
        raise ValueError("a floor is in another currency")
    amounts = _capped(
        floors=[claim.floor_minor for claim in due],
        dues=[max(claim.floor_minor, price_minor * claim.bps // WHOLE_BPS) for claim in due],
        ceiling=max(floors, price_minor * CAP_BPS // WHOLE_BPS),
    )
    shares = tuple(
        Share(ancestor=claim.ancestor, title=claim.title, payee=claim.payee, amount_minor=amount)
        for claim, amount in zip(due, amounts, strict=True)
        if amount
    )
    left = price_minor - sum(amounts)
    fee = min(left, price_minor * fee_bps // WHOLE_BPS)
    return Split(price_minor=price_minor, currency=currency, shares=shares, fee_minor=fee, seller_minor=left - fee)


def _capped(*, floors: Sequence[int], dues: Sequence[int], ceiling: int) -> list[int]:
    """Returns the dues, or where they exceed the ceiling each one's floor and a proportional part of the rest."""
    if sum(dues) <= ceiling:
        return list(dues)
    room = ceiling - sum(floors)
    above = [due - floor for due, floor in zip(dues, floors, strict=True)]
    return [floor + room * extra // sum(above) for floor, extra in zip(floors, above, strict=True)]
