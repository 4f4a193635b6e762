"""Orders: what was agreed to be paid, its states, and who has the money."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db import models
from django.db.models import Q

from marketplace.accounts.models import Namespace, User
from models_catalog.models.licensing import LicenseTerms


class OrderStatus(models.TextChoices):
    PENDING = "pending", "Waiting for payment"
    PAID = "paid", "Paid"
    CANCELED = "canceled", "Canceled"
    REFUNDED = "refunded", "Refunded"


# status -> where it may come from; transition() below is the only writer of `status`. What a payment provider has
# taken counts even where the order was canceled meanwhile, and what it gives back may be told before its taking.
SOURCES: dict[str, tuple[str, ...]] = {
    OrderStatus.PAID: (OrderStatus.PENDING, OrderStatus.CANCELED),
    OrderStatus.CANCELED: (OrderStatus.PENDING,),
    OrderStatus.REFUNDED: (OrderStatus.PAID, OrderStatus.PENDING, OrderStatus.CANCELED),
}


class Receiver(models.TextChoices):
    """Whose account the buyer's money reached."""

    NOBODY = "", "Nobody yet"
    VENDOR = "vendor", "The vendor"
    SITE = "site", "This site"


class OrderQuerySet(models.QuerySet["Order"]):
    def visible_to(self, user: User | AnonymousUser) -> OrderQuerySet:
        """Both sides' members, and the staff, who may settle."""
        if user.is_authenticated and user.is_staff:
            return self
        mine = Namespace.objects.of(user)
        return self.filter(Q(buyer__in=mine) | Q(listing__namespace__in=mine)).distinct()

    def locked(self, pk: uuid.UUID) -> Order:
        """The order as it is now, locked until the transaction ends."""
        rows = self.select_for_update(of=("self",)).select_related("listing__namespace", "terms", "buyer", "placed_by")
        return rows.get(pk=pk)

    def transition(self, pk: uuid.UUID, *, to: str, **fields: Any) -> bool:
        """Compare-and-swap of the status: False where the order was not in a state that leads to `to`."""
        return self.filter(pk=pk, status__in=SOURCES[to]).update(status=to, **fields) == 1


class Order(models.Model):
    """What was agreed to be paid; a grant follows once it is."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    buyer = models.ForeignKey(Namespace, on_delete=models.PROTECT, related_name="orders")
    listing = models.ForeignKey("Listing", on_delete=models.PROTECT, related_name="orders")
    # What was offered when it was placed: its lineage says to whom royalties are due.
    release = models.ForeignKey("Release", null=True, on_delete=models.PROTECT, related_name="+")
    terms = models.ForeignKey(LicenseTerms, on_delete=models.PROTECT, related_name="+")
    placed_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    placed_at = models.DateTimeField()
    amount_minor = models.PositiveBigIntegerField()
    currency = models.CharField(max_length=3)
    provider = models.CharField(max_length=20)
    provider_reference = models.CharField(max_length=255, blank=True, db_index=True)  # Stripe: the Checkout session
    payment_reference = models.CharField(max_length=255, blank=True, db_index=True)  # Stripe: the payment intent
    checkout_url = models.URLField(max_length=2000, blank=True)
    status = models.CharField(max_length=10, choices=OrderStatus.choices, default=OrderStatus.PENDING)
    received_by = models.CharField(max_length=6, choices=Receiver.choices, blank=True, default=Receiver.NOBODY)
    settled_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    settled_at = models.DateTimeField(null=True, blank=True)
    refunded_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    refunded_at = models.DateTimeField(null=True, blank=True)
    refund_reason = models.CharField(max_length=300, blank=True)

    objects = OrderQuerySet.as_manager()

    class Meta:
        ordering = ["-placed_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["buyer", "listing", "terms"],
                condition=Q(status="pending"),
                name="models_catalog_order_pending_once",
            ),
            models.CheckConstraint(condition=Q(status__in=OrderStatus.values), name="models_catalog_order_status"),
            models.CheckConstraint(
                condition=~Q(status="refunded") | Q(refunded_at__isnull=False),
                name="models_catalog_order_refunded_at",
            ),
        ]

    def __str__(self) -> str:
        return f"Order {str(self.id)[:8]}"

    @property
    def price_minor(self) -> int:
        """What the `price` filter of pages asks for."""
        return self.amount_minor


class PaymentEvent(models.Model):
    """What a payment provider told, once each, and what became of it."""

    provider = models.CharField(max_length=20)
    event_id = models.CharField(max_length=255)
    kind = models.CharField(max_length=60)
    order = models.ForeignKey(Order, null=True, on_delete=models.PROTECT, related_name="payment_events")
    outcome = models.CharField(max_length=20, blank=True)
    detail = models.CharField(max_length=300, blank=True)
    received_at = models.DateTimeField()
    attended_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    attended_at = models.DateTimeField(null=True, blank=True)
    decision = models.CharField(max_length=500, blank=True)  # what the staff did about it

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["provider", "event_id"], name="models_catalog_payment_event_once"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.event_id}"
