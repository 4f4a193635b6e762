"""Writes the ledger: what happened, once each, as lines of postings.py. Nothing here decides what is due."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import IntegrityError, transaction
from django.db.models import Q

from marketplace.accounts.models import User
from models_catalog.models import LedgerAccount, LedgerEntry, LedgerTransaction, Order, Payout
from models_catalog.postings import Account, AccountKind, Event, Line, Purpose

_BATCH = 2000  # rows in one statement: SQLite takes 32,766 parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One event as it is to be written. `key` is unique: what was posted is not posted again."""

    key: str
    event: Event
    currency: str
    lines: Sequence[Line]
    at: datetime
    actor: User | None = None
    order: Order | None = None
    payout: Payout | None = None


def post(posting: Posting) -> bool:
    """Writes one event; False where its key was written before. An event without lines leaves no trace."""
    if not posting.lines:
        return False
    try:
        with transaction.atomic():
            post_all([posting])
    except IntegrityError:
        if not LedgerTransaction.objects.filter(key=posting.key).exists():
            raise
        return False
    return True


def post_all(postings: Iterable[Posting]) -> None:
    """Writes many events in few statements; raises IntegrityError, and writes nothing, where one is there already."""
    written = [posting for posting in postings if posting.lines]
    with transaction.atomic():
        accounts = _accounts(
            {
                (side, posting.currency)
                for posting in written
                for line in posting.lines
                for side in (line.debit, line.credit)
            }
        )
        rows = LedgerTransaction.objects.bulk_create((_transaction(posting) for posting in written), batch_size=_BATCH)
        LedgerEntry.objects.bulk_create(
            (
                LedgerEntry(
                    transaction=row,
                    debit_id=accounts[line.debit, posting.currency],
                    credit_id=accounts[line.credit, posting.currency],
                    amount_minor=line.amount_minor,
                    purpose=line.purpose.value,
                    listing_id=line.listing,
                )
                for row, posting in zip(rows, written, strict=True)
                for line in posting.lines
            ),
            batch_size=_BATCH,
        )


def lines_of(key: str) -> list[Line]:
    """Returns the lines that were posted under the key; empty where none were."""
    entries = LedgerEntry.objects.filter(transaction__key=key).select_related("debit", "credit").order_by("id")
    return [
        Line(
            debit=_value(entry.debit),
            credit=_value(entry.credit),
            amount_minor=entry.amount_minor,
            purpose=Purpose(entry.purpose),
            listing=entry.listing_id,
        )
        for entry in entries
    ]


def _transaction(posting: Posting) -> LedgerTransaction:
    return LedgerTransaction(
        key=posting.key,
        event=posting.event.value,
        currency=posting.currency,
        order=posting.order,
        payout=posting.payout,
        actor=posting.actor,
        at=posting.at,
    )


def _value(account: LedgerAccount) -> Account:
    return Account(AccountKind(account.kind), account.namespace_id)


def _accounts(wanted: set[tuple[Account, str]]) -> dict[tuple[Account, str], int]:
    """Returns the keys of the accounts, opening those that are missing; two that open one at once share it."""
    found = _found(wanted)
    if missing := wanted - found.keys():
        LedgerAccount.objects.bulk_create(
            [
                LedgerAccount(kind=account.kind.value, namespace_id=account.namespace, currency=currency)
                for account, currency in sorted(missing, key=str)
            ],
            ignore_conflicts=True,
        )
        found = _found(wanted)
    return found


def _found(wanted: set[tuple[Account, str]]) -> dict[tuple[Account, str], int]:
    kinds, currencies = {account.kind.value for account, _ in wanted}, {currency for _, currency in wanted}
    owners = {account.namespace for account, _ in wanted}
    rows = LedgerAccount.objects.filter(
        Q(namespace__isnull=True) | Q(namespace__in=owners - {None}), kind__in=kinds, currency__in=currencies
    )
    return {(_value(row), row.currency): row.pk for row in rows}
