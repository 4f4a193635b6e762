"""What the ledger says to a vendor: a month's statement in each currency, and the lines that it sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import TruncMonth

from marketplace.accounts.models import Namespace
from models_catalog.models import LedgerAccount, LedgerEntry
from models_catalog.postings import AccountKind, Event, Purpose

_MONTHS = 12
_BATCH = 1000
_UNDONE = {Event.REFUND.value, Event.PAYOUT_CANCELED.value}


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A calendar month in UTC."""

    year: int
    number: int

    @classmethod
    def of(cls, at: datetime) -> Month:
        utc = at.astimezone(UTC)
        return cls(utc.year, utc.month)

    @classmethod
    def parse(cls, text: str) -> Month | None:
        """Reads `2026-11`; None for anything else."""
        year, _, number = text.partition("-")
        if not (len(text) == len("2026-11") and year.isdecimal() and number.isdecimal() and text.isascii()):
            return None
        is_month = 1 <= int(number) <= _MONTHS and int(year) > 0 and (int(year), int(number)) < (9999, _MONTHS)
        return cls(int(year), int(number)) if is_month else None

    @property
    def start(self) -> datetime:
        return datetime(self.year, self.number, 1, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        after = Month(self.year + self.number // _MONTHS, self.number % _MONTHS + 1)
        return after.start

    def __str__(self) -> str:
        return f"{self.year:04}-{self.number:02}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One month in one currency, in minor units; what a vendor gives is negative. `opening` plus all between is
    `closing`, which this site owes the vendor, or where it is negative the vendor this site."""

    currency: str
    opening: int = 0
    sales: int = 0
    refunds: int = 0
    royalties_in: int = 0
    royalties_out: int = 0
    fees: int = 0
    paid_directly: int = 0  # what buyers paid the vendor, less what they got back
    payouts: int = 0
    collected: int = 0  # what the vendor paid this site of their debt

    @property
    def closing(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self) if field.name != "currency")


def statements(namespace: Namespace, month: Month) -> list[Statement]:
    """Returns the month's statement in every currency that the namespace has an account in; in four queries."""
    accounts = dict(_accounts(namespace).values_list("pk", "currency"))
    sums: dict[int, dict[str, int]] = {pk: defaultdict(int) for pk in accounts}
    for side, sign in (("credit", 1), ("debit", -1)):
        entries = LedgerEntry.objects.filter(**{f"{side}__in": list(accounts)})
        before = entries.filter(transaction__at__lt=month.start).values(side).annotate(sum=Sum("amount_minor"))
        for row in before:
            sums[row[side]]["opening"] += sign * row["sum"]
        within = entries.filter(transaction__at__gte=month.start, transaction__at__lt=month.end)
        grouped = within.values(side, "purpose", "transaction__event").annotate(sum=Sum("amount_minor"))
        for row in grouped:
            name = _line(row["purpose"], is_credit=side == "credit", is_undone=row["transaction__event"] in _UNDONE)
            sums[row[side]][name] += sign * row["sum"]
    return [
        Statement(currency=currency, **sums[pk]) for pk, currency in sorted(accounts.items(), key=lambda item: item[1])
    ]


def _line(purpose: str, *, is_credit: bool, is_undone: bool) -> str:
    """Returns the statement's line that an entry counts in: an undone royalty counts where it was given."""
    if purpose == Purpose.SALE:
        return "refunds" if is_undone else "sales"
    if purpose == Purpose.ROYALTY:
        return "royalties_in" if is_credit != is_undone else "royalties_out"
    return {
        Purpose.FEE.value: "fees",
        Purpose.RECEIPT.value: "paid_directly",
        Purpose.PAYOUT.value: "payouts",
        Purpose.DEBT.value: "collected",
    }[purpose]


def months(namespace: Namespace) -> list[Month]:
    """Returns the months in which something happened, the newest first."""
    found = entries_of(namespace).order_by().annotate(month=TruncMonth("transaction__at", tzinfo=UTC))
    return sorted({Month.of(at) for at in found.values_list("month", flat=True).distinct()}, reverse=True)


def entries_of(namespace: Namespace, month: Month | None = None) -> QuerySet[LedgerEntry]:
    """The lines of the namespace's accounts, the newest first."""
    mine = _accounts(namespace).values("pk")
    rows = LedgerEntry.objects.filter(Q(debit__in=mine) | Q(credit__in=mine))
    if month is not None:
        rows = rows.filter(transaction__at__gte=month.start, transaction__at__lt=month.end)
    related = ("transaction__order__listing__namespace", "listing__namespace", "debit__namespace", "credit__namespace")
    return rows.select_related(*related).order_by("-id")


@dataclass(frozen=True, slots=True)
class StatementLine:
    """An entry as its vendor reads it: either `in_minor` or `out_minor` is 0."""

    at: datetime
    event: str
    purpose: str
    order: str
    model: str
    in_minor: int
    out_minor: int
    currency: str


def line_of(entry: LedgerEntry, namespace: Namespace) -> StatementLine:
    is_in = entry.credit.namespace_id == namespace.pk and entry.credit.kind == AccountKind.PAYABLE
    order = entry.transaction.order
    model = entry.listing or (order.listing if order else None)
    return StatementLine(
        at=entry.transaction.at,
        event=entry.transaction.event,
        purpose=entry.purpose,
        order=str(order.pk) if order else "",
        model=str(model or ""),
        in_minor=entry.amount_minor if is_in else 0,
        out_minor=0 if is_in else entry.amount_minor,
        currency=entry.transaction.currency,
    )


def lines_of(namespace: Namespace, month: Month) -> Iterator[StatementLine]:
    """Yields the month's lines, the oldest first, for an export: in batches by key, so that no query stays open
    while a slow reader reads."""
    rows, last = entries_of(namespace, month).order_by("id"), 0
    while batch := list(rows.filter(pk__gt=last)[:_BATCH]):
        yield from (line_of(entry, namespace) for entry in batch)
        last = batch[-1].pk


def _accounts(namespace: Namespace) -> QuerySet[LedgerAccount]:
    return LedgerAccount.objects.filter(namespace=namespace, kind=AccountKind.PAYABLE.value)
