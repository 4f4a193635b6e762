"""Payouts: balances taken out of the ledger into a batch, sent outside this site, marked as sent or canceled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from django.db import transaction

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from marketplace.webhooks.events import EventType
from models_catalog import policies, postings
from models_catalog.models import LedgerAccount, Payout, PayoutBatch
from models_catalog.models.ledger import PayoutStatus
from models_catalog.postings import AccountKind, Event
from models_catalog.services import debts, ledger, webhooks
from models_catalog.terms import CURRENCIES
from models_catalog.validation import MAX_PRICE_MINOR


def create(
    *, actor: User, currency: str, minimum_minor: int, now: datetime, namespace: Namespace | None = None
) -> PayoutBatch:
    """Takes every balance of at least `minimum_minor` into a new batch, or that of one namespace, which its billing
    role may ask for. What is in a batch is in no other one: asking twice finds nothing left.

    Raises Denied (`not_staff`, `not_billing`), Invalid (`bad_currency`, `bad_minimum`), Conflict (`nothing_to_pay`,
    `royalties_wait`). Locks all accounts of the currency."""
    require(policies.may_see_books(actor, namespace) if namespace is not None else policies.may_pay_out(actor))
    if currency not in CURRENCIES:
        raise Invalid("bad_currency", f"A currency is one of {', '.join(CURRENCIES)}.", field="currency")
    if not 1 <= minimum_minor <= MAX_PRICE_MINOR:
        text = f"The least that is paid out is a whole number of minor units, from 1 to {MAX_PRICE_MINOR}."
        raise Invalid("bad_minimum", text, field="minimum_minor")
    with transaction.atomic():
        # Those who owe royalties to the one who asks are locked too: what they owe decides what there is to pay.
        accounts = LedgerAccount.objects.filter(kind=AccountKind.PAYABLE.value, currency=currency)
        owners = dict(accounts.select_for_update(of=("self",)).order_by("pk").values_list("pk", "namespace_id"))
        due = _due(owners, minimum_minor=minimum_minor, namespace=namespace)
        batch = PayoutBatch.objects.create(
            currency=currency, minimum_minor=minimum_minor, created_by=actor, created_at=now
        )
        payouts = Payout.objects.bulk_create(
            Payout(batch=batch, namespace_id=owners[pk], amount_minor=amount) for pk, amount in due.items()
        )
        _post(payouts, Event.PAYOUT, actor=actor, now=now)
        details = {"batch": str(batch.pk), "payouts": len(payouts), "currency": currency, "sum": sum(due.values())}
        webhooks.of_payouts(EventType.PAYOUT_CREATED, batch, now=now)
        audit.record("payout.create", actor=actor, namespace=namespace, subject=batch, details=details)
    return batch


def _due(owners: dict[int, int], *, minimum_minor: int, namespace: Namespace | None) -> dict[int, int]:
    """Returns what is paid out to each account: its balance without the royalties that nobody has paid this site."""
    balances = debts.balances(owners)
    wanted = [pk for pk, owner in owners.items() if namespace is None or owner == namespace.pk]
    reached = [pk for pk in wanted if balances[pk] >= minimum_minor]
    if not reached:
        raise Conflict("nothing_to_pay", "No balance in this currency reaches the least that is paid out.")
    held = debts.uncollected(balances)
    due = {pk: balances[pk] - held.get(pk, 0) for pk in reached}
    due = {pk: amount for pk, amount in due.items() if amount >= minimum_minor}
    if not due:
        text = "These are royalties of sales whose vendors were paid themselves: they wait until those have paid this site."
        raise Conflict("royalties_wait", text)
    return due


def mark_sent(*, batch: PayoutBatch, actor: User, reference: str, now: datetime) -> PayoutBatch:
    """Records that the batch has left this site's account. Raises Denied (`not_staff`), Conflict
    (`payout_closed`)."""
    return _close(batch, PayoutStatus.PAID, Event.PAYOUT_SENT, actor=actor, reference=reference, now=now)


def cancel(*, batch: PayoutBatch, actor: User, now: datetime) -> PayoutBatch:
    """Gives the balances of an open batch back. Raises Denied (`not_staff`), Conflict (`payout_closed`)."""
    return _close(batch, PayoutStatus.CANCELED, Event.PAYOUT_CANCELED, actor=actor, reference="", now=now)


def _close(batch: PayoutBatch, status: str, event: Event, *, actor: User, reference: str, now: datetime) -> PayoutBatch:
    require(policies.may_pay_out(actor))
    with transaction.atomic():
        fields = {"closed_by": actor, "closed_at": now, "reference": reference.strip()[:120]}
        if not PayoutBatch.objects.transition(batch.pk, to=status, **fields):
            raise Conflict("payout_closed", "This batch was sent or canceled already.")
        _post(batch.payouts.select_related("batch"), event, actor=actor, now=now)
        told = EventType.PAYOUT_SENT if event is Event.PAYOUT_SENT else EventType.PAYOUT_CANCELED
        webhooks.of_payouts(told, batch, now=now)
        audit.record(
            f"payout.{event.value}", actor=actor, namespace=None, subject=batch, details={"reference": reference}
        )
    batch.refresh_from_db()
    return batch


def _post(payouts: Iterable[Payout], event: Event, *, actor: User, now: datetime) -> None:
    lines: Callable[[Payout], list[postings.Line]] = {
        Event.PAYOUT: lambda payout: postings.payout(payout.namespace_id, payout.amount_minor),
        Event.PAYOUT_SENT: lambda payout: postings.payout_sent(payout.amount_minor),
        Event.PAYOUT_CANCELED: lambda payout: postings.reversal(
            postings.payout(payout.namespace_id, payout.amount_minor)
        ),
    }[event]
    ledger.post_all(
        ledger.Posting(
            key=f"payout:{payout.pk}:{event.value}",
            event=event,
            currency=payout.batch.currency,
            lines=lines(payout),
            at=now,
            actor=actor,
            payout=payout,
        )
        for payout in payouts
    )
