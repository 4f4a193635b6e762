"""The double-entry ledger. Every entry is a debit and a credit of one amount in one row, so that each row, and with
it every transaction and the whole, sums to zero by construction. Rows are only ever added (ledger_guard.py).
"""

from __future__ import annotations

import uuid
from typing import NoReturn

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import F, Q

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.models.people import BILLS
from models_catalog import postings
from models_catalog.models.orders import Order

_KINDS = [
    (postings.AccountKind.BUYER.value, "Buyer, clearing"),
    (postings.AccountKind.PAYABLE.value, "Payable to a vendor"),
    (postings.AccountKind.FEES.value, "The site's fees"),
    (postings.AccountKind.PROVIDER.value, "Received by this site"),
    (postings.AccountKind.PAYOUTS.value, "In a payout batch"),
]
_PURPOSES = [(purpose.value, purpose.value.capitalize()) for purpose in postings.Purpose]
_EVENTS = [(event.value, event.value.replace("_", " ").capitalize()) for event in postings.Event]


class LedgerAccount(models.Model):
    """One account in one currency: a namespace's, or the site's own."""

    kind = models.CharField(max_length=10, choices=_KINDS)
    namespace = models.ForeignKey(Namespace, null=True, on_delete=models.PROTECT, related_name="ledger_accounts")
    currency = models.CharField(max_length=3)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "namespace", "currency"],
                condition=Q(namespace__isnull=False),
                name="models_catalog_ledger_account_once",
            ),
            models.UniqueConstraint(
                fields=["kind", "currency"],
                condition=Q(namespace__isnull=True),
                name="models_catalog_ledger_account_of_site_once",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["buyer", "payable"], namespace__isnull=False)
                | Q(kind__in=["fees", "provider", "payouts"], namespace__isnull=True),
                name="models_catalog_ledger_account_owner",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.namespace or ''} {self.currency}"


class PayoutStatus(models.TextChoices):
    OPEN = "open", "To be sent"
    PAID = "paid", "Paid"
    CANCELED = "canceled", "Canceled"


class PayoutBatchQuerySet(models.QuerySet["PayoutBatch"]):
    def visible_to(self, user: User | AnonymousUser) -> PayoutBatchQuerySet:
        """The staff see all; a vendor's billing role those that pay their namespace."""
        if user.is_authenticated and user.is_staff:
            return self
        return self.filter(pk__in=Payout.objects.shown_to(user).values("batch_id"))

    def transition(self, pk: uuid.UUID, *, to: str, **fields: object) -> bool:
        """Compare-and-swap: an open batch is paid or canceled, once."""
        return self.filter(pk=pk, status=PayoutStatus.OPEN).update(status=to, **fields) == 1


class PayoutBatch(models.Model):
    """Balances of several vendors, taken out of the ledger together to be sent."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    currency = models.CharField(max_length=3)
    minimum_minor = models.PositiveBigIntegerField()
    status = models.CharField(max_length=10, choices=PayoutStatus.choices, default=PayoutStatus.OPEN)
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    closed_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    closed_at = models.DateTimeField(null=True, blank=True)
    reference = models.CharField(max_length=120, blank=True)  # the bank's, of the transfer

    objects = PayoutBatchQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=PayoutStatus.values), name="models_catalog_payout_batch_status"
            ),
        ]

    def __str__(self) -> str:
        return f"Payout {str(self.id)[:8]}"


class PayoutQuerySet(models.QuerySet["Payout"]):
    def shown_to(self, user: User | AnonymousUser) -> PayoutQuerySet:
        """The staff see all of a batch; a vendor's billing role what is paid to their namespace."""
        if user.is_authenticated and user.is_staff:
            return self
        return self.filter(namespace__in=Namespace.objects.of(user, roles=BILLS))


class Payout(models.Model):
    batch = models.ForeignKey(PayoutBatch, on_delete=models.PROTECT, related_name="payouts")
    namespace = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="payouts")
    amount_minor = models.PositiveBigIntegerField()

    objects = PayoutQuerySet.as_manager()

    class Meta:
        ordering = ["namespace__name"]
        constraints = [
            models.UniqueConstraint(fields=["batch", "namespace"], name="models_catalog_payout_once"),
            models.CheckConstraint(condition=Q(amount_minor__gt=0), name="models_catalog_payout_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.batch} to {self.namespace}"


def _refuse(*_given: object, **_fields: object) -> NoReturn:
    """Refuses in Python what the database refuses too, with words."""
    raise TypeError("The ledger is only added to: post a reversal.")


class LedgerTransactionQuerySet(models.QuerySet["LedgerTransaction"]):
    update = delete = _refuse


class LedgerEntryQuerySet(models.QuerySet["LedgerEntry"]):
    update = delete = _refuse


class LedgerTransaction(models.Model):
    """What happened, once: `key` names the thing and the event."""

    key = models.CharField(max_length=80, unique=True)
    event = models.CharField(max_length=16, choices=_EVENTS)
    currency = models.CharField(max_length=3)
    order = models.ForeignKey(Order, null=True, on_delete=models.PROTECT, related_name="ledger_transactions")
    payout = models.ForeignKey(Payout, null=True, on_delete=models.PROTECT, related_name="ledger_transactions")
    actor = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(db_index=True)

    objects = LedgerTransactionQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(event__in=[event.value for event in postings.Event]),
                name="models_catalog_ledger_transaction_event",
            ),
        ]

    def __str__(self) -> str:
        return self.key


class LedgerEntry(models.Model):
    """One amount from one account to another of the same currency."""

    transaction = models.ForeignKey(LedgerTransaction, on_delete=models.PROTECT, related_name="entries")
    debit = models.ForeignKey(LedgerAccount, on_delete=models.PROTECT, related_name="debits")
    credit = models.ForeignKey(LedgerAccount, on_delete=models.PROTECT, related_name="credits")
    amount_minor = models.PositiveBigIntegerField()
    purpose = models.CharField(max_length=10, choices=_PURPOSES)
    listing = models.ForeignKey("Listing", null=True, on_delete=models.PROTECT, related_name="+")

    objects = LedgerEntryQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount_minor__gt=0), name="models_catalog_ledger_entry_positive"),
            models.CheckConstraint(condition=~Q(debit=F("credit")), name="models_catalog_ledger_entry_two_accounts"),
            models.CheckConstraint(
                condition=Q(purpose__in=[purpose.value for purpose in postings.Purpose]),
                name="models_catalog_ledger_entry_purpose",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.purpose} {self.amount_minor} of {self.transaction}"
