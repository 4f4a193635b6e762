"""Double entry: which account owes what to which, as pairs of a debit and a credit. Pure.

A line moves one positive amount from one account to another, so that whatever is made of lines sums to zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from models_catalog.royalties import Split


class AccountKind(StrEnum):
    """A credit balance of PAYABLE is what this site owes a vendor; a debit balance is what the vendor owes it."""

    BUYER = "buyer"  # clearing: what was bought is paid at once, so it stands at zero
    PAYABLE = "payable"
    FEES = "fees"
    PROVIDER = "provider"  # clearing: money that this site was paid and has not paid out
    PAYOUTS = "payouts"  # in a payout batch, not yet sent


class Purpose(StrEnum):
    SALE = "sale"
    ROYALTY = "royalty"
    FEE = "fee"
    RECEIPT = "receipt"
    PAYOUT = "payout"
    DEBT = "debt"


class Event(StrEnum):
    SALE = "sale"
    REFUND = "refund"
    PAYOUT = "payout"
    PAYOUT_SENT = "payout_sent"
    PAYOUT_CANCELED = "payout_canceled"
    DEBT_COLLECTED = "debt_collected"


@dataclass(frozen=True, slots=True)
class Account:
    kind: AccountKind
    namespace: int | None = None  # None is the site's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    debit: Account
    credit: Account
    amount_minor: int  # more than 0
    purpose: Purpose
    listing: int | None = None  # the ancestor that a royalty is of

    def __post_init__(self) -> None:
        if self.amount_minor <= 0 or self.debit == self.credit:
            raise ValueError(f"no movement: {self}")


PROVIDER = Account(AccountKind.PROVIDER)
PAYOUTS = Account(AccountKind.PAYOUTS)


def payable(namespace: int) -> Account:
    return Account(AccountKind.PAYABLE, namespace)


def sale(split: Split, *, buyer: int, seller: int, is_paid_to_site: bool) -> list[Line]:
    """Returns the lines of a paid order; empty for a price of 0. Where the vendor has the buyer's money already, what
    this site owes them falls by it, and royalties and fee remain as their debt."""
    if not split.price_minor:
        return []
    vendor, customer = payable(seller), Account(AccountKind.BUYER, buyer)
    lines = [Line(debit=customer, credit=vendor, amount_minor=split.price_minor, purpose=Purpose.SALE)]
    lines += [
        Line(
            debit=vendor,
            credit=payable(share.payee),
            amount_minor=share.amount_minor,
            purpose=Purpose.ROYALTY,
            listing=share.ancestor,
        )
        for share in split.shares
    ]
    if split.fee_minor:
        fees = Account(AccountKind.FEES)
        lines.append(Line(debit=vendor, credit=fees, amount_minor=split.fee_minor, purpose=Purpose.FEE))
    received = PROVIDER if is_paid_to_site else vendor
    lines.append(Line(debit=received, credit=customer, amount_minor=split.price_minor, purpose=Purpose.RECEIPT))
    return lines


def reversal(lines: Iterable[Line]) -> list[Line]:
    """Returns the lines that undo others, each of them whole."""
    return [
        Line(
            debit=line.credit,
            credit=line.debit,
            amount_minor=line.amount_minor,
            purpose=line.purpose,
            listing=line.listing,
        )
        for line in lines
    ]


def payout(namespace: int, amount_minor: int) -> list[Line]:
    """Returns the line that takes a vendor's balance into a batch."""
    return [Line(debit=payable(namespace), credit=PAYOUTS, amount_minor=amount_minor, purpose=Purpose.PAYOUT)]


def payout_sent(amount_minor: int) -> list[Line]:
    """Returns the line that says that a batch left this site's account."""
    return [Line(debit=PAYOUTS, credit=PROVIDER, amount_minor=amount_minor, purpose=Purpose.PAYOUT)]


def debt_collected(namespace: int, amount_minor: int) -> list[Line]:
    """Returns the line that says that a vendor has paid this site what they owed it."""
    return [Line(debit=PROVIDER, credit=payable(namespace), amount_minor=amount_minor, purpose=Purpose.DEBT)]
