"""What vendors owe this site, because they were paid themselves: collected from them, and until then not paid out to
those whose royalties it is."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Sum

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from models_catalog import policies, postings
from models_catalog.models import LedgerAccount, LedgerEntry, LedgerTransaction
from models_catalog.models.orders import OrderStatus, Receiver
from models_catalog.postings import AccountKind, Event, Purpose
from models_catalog.services import ledger

_EXACT_ROUNDS = 8  # longer chains of debts are held back whole, so that a circle of them ends too

Royalty = tuple[int, int]  # the account that it is credited to, and how much


def collect(
    *, namespace: Namespace, actor: User, currency: str, amount_minor: int, reference: str, now: datetime
) -> None:
    """Records that a vendor has paid this site some of what they owe it; a reference is taken once for each vendor.

    Raises Denied (`not_staff`), Invalid (`reference_missing`), Conflict (`no_such_debt`, `debt_collected`). Locks the
    account."""
    require(policies.may_collect(actor))
    words = reference.strip()
    if not words:
        raise Invalid("reference_missing", "Give the reference of the transfer.", field="reference")
    with transaction.atomic():
        rows = LedgerAccount.objects.filter(kind=AccountKind.PAYABLE.value, currency=currency, namespace=namespace)
        locked = list(rows.select_for_update(of=("self",)).values_list("pk", flat=True))
        key = f"debt:{namespace.pk}:{currency}:{words}"
        if LedgerTransaction.objects.filter(key=key).exists():
            raise Conflict("debt_collected", "A payment of this vendor with this reference is in the books already.")
        owed = -sum(balances(locked).values())
        if not 1 <= amount_minor <= owed:
            raise Conflict("no_such_debt", "The vendor owes this site less than that in this currency.")
        lines = postings.debt_collected(namespace.pk, amount_minor)
        posting = ledger.Posting(
            key=key, event=Event.DEBT_COLLECTED, currency=currency, lines=lines, at=now, actor=actor
        )
        ledger.post(posting)
        details = {"currency": currency, "amount_minor": amount_minor, "reference": words}
        audit.record("debt.collect", actor=actor, namespace=namespace, subject=namespace, details=details)


@dataclass(frozen=True, slots=True)
class Debt:
    namespace: Namespace
    currency: str
    amount_minor: int


def owed(*namespaces: Namespace) -> list[Debt]:
    """Returns what these vendors owe this site now, or all of them, the largest first; in three queries."""
    rows = LedgerAccount.objects.filter(kind=AccountKind.PAYABLE.value, namespace__isnull=False)
    if namespaces:
        rows = rows.filter(namespace__in=namespaces)
    accounts = {row.pk: row for row in rows.select_related("namespace")}
    found = [
        Debt(namespace, accounts[pk].currency, -balance)
        for pk, balance in balances(accounts).items()
        if balance < 0 and (namespace := accounts[pk].namespace)
    ]
    return sorted(found, key=lambda debt: -debt.amount_minor)


def balances(accounts: Iterable[int]) -> dict[int, int]:
    """Returns credits less debits of each account."""
    found = dict.fromkeys(accounts, 0)
    for side, sign in (("credit", 1), ("debit", -1)):
        entries = LedgerEntry.objects.filter(**{f"{side}__in": list(found)})
        for pk, amount in entries.values_list(side).annotate(sum=Sum("amount_minor")):
            found[pk] += sign * amount
    return found


def uncollected(found: Mapping[int, int]) -> dict[int, int]:
    """Returns how much of each account's balance is royalties that nobody has paid this site: of sales whose vendor
    was paid directly and owes it still. `found` are the balances of all accounts of a currency, locked.

    The oldest debts count as paid first. Who lacks what others owe them is in debt for that much too."""
    royalties: dict[int, list[Royalty]] = {}
    held: dict[int, int] = {}
    for turn in itertools.count():
        short = {pk: held.get(pk, 0) - balance for pk, balance in found.items() if balance < held.get(pk, 0)}
        royalties |= _royalties_of(short.keys() - royalties.keys())
        if turn >= _EXACT_ROUNDS:
            short = dict.fromkeys(short, sys.maxsize)
        before, held = held, {}
        for pk, missing in short.items():
            for payee, amount in _latest(royalties[pk], missing):
                held[payee] = held.get(payee, 0) + amount
        if held == before:
            break
    return held


def _latest(royalties: Iterable[Royalty], missing: int) -> Iterator[Royalty]:
    """Yields the royalties, the latest first, that together make up what is missing."""
    for payee, amount in royalties:
        if missing <= 0:
            return
        yield payee, min(amount, missing)
        missing -= amount


def _royalties_of(accounts: Iterable[int]) -> dict[int, list[Royalty]]:
    """Returns what the vendors of these accounts owed for sales that they were paid for, the latest first."""
    found: dict[int, list[Royalty]] = {pk: [] for pk in accounts}
    rows = LedgerEntry.objects.filter(
        debit__in=list(found),
        purpose=Purpose.ROYALTY.value,
        transaction__event=Event.SALE.value,
        transaction__order__received_by=Receiver.VENDOR,
    ).exclude(transaction__order__status=OrderStatus.REFUNDED)
    for debit, credit, amount in rows.order_by("-id").values_list("debit_id", "credit_id", "amount_minor"):
        found[debit].append((credit, amount))
    return found
