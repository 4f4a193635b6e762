"""What a payment provider told and the staff must look at: money moved, and the order could not follow."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q, QuerySet

from models_catalog.models import PaymentEvent
from models_catalog.models.orders import OrderStatus
from models_catalog.services.stripe_webhook import ATTENTION, Outcome

_CLOSED = "charge.dispute.closed"


def open_events() -> QuerySet[PaymentEvent]:
    """Returns the events that nothing has settled since: the order was not refunded; where no license came of the
    payment, not paid either; and the buyer's bank has not closed the dispute. A page of the staff counts them."""
    late = PaymentEvent.objects.filter(order=OuterRef("order"), kind=_CLOSED, pk__gt=OuterRef("pk"))
    over = Q(order__status=OrderStatus.REFUNDED) | Q(
        order__status=OrderStatus.PAID, outcome__in=[Outcome.NOT_GRANTED, Outcome.AMOUNT_MISMATCH]
    )
    told = PaymentEvent.objects.filter(outcome__in=ATTENTION).annotate(is_over=Exists(late))
    return told.exclude(over & Q(order__isnull=False)).exclude(outcome=Outcome.DISPUTED, is_over=True)
