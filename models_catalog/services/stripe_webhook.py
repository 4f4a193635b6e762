"""What Stripe tells this site: verified by its library, taken over once, whatever the order of arrival."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import stripe
from django.conf import settings
from django.db import IntegrityError, transaction

from marketplace.errors import Broken, DomainError
from models_catalog.models import Order, PaymentEvent
from models_catalog.models.orders import OrderStatus, Receiver
from models_catalog.payment_outcomes import ATTENTION, PAYS, UNMATCHED, Outcome
from models_catalog.services import orders, payments, refunds

logger = logging.getLogger(__name__)
TOLERANCE_SECONDS = 300  # Stripe's own default: older signatures are somebody's recording
MAX_REFERENCE = 255


@dataclass(frozen=True, slots=True)
class Told:
    """One event's object: a Checkout session, a charge or a dispute."""

    kind: str
    content: Mapping[str, Any]
    order: Order | None
    now: datetime


def receive(*, body: bytes, signature: str, now: datetime) -> Outcome:
    """Takes over one event. Raises Broken (`bad_signature`, `bad_event`), which changes nothing. Any failure of this
    site is left to be raised: Stripe then sends the event again."""
    event = _verified(body, signature)
    try:
        with transaction.atomic():
            row = PaymentEvent.objects.create(
                provider=payments.STRIPE.name, event_id=event["id"], kind=event["type"][:60], received_at=now
            )
            told = Told(event["type"], event["content"], _order(event["content"]), now)
            outcome, detail = _take_over(told)
            PaymentEvent.objects.filter(pk=row.pk).update(order=told.order, outcome=outcome.value, detail=detail[:300])
            if outcome in UNMATCHED:
                _keep_reference(told)
    except IntegrityError:
        if PaymentEvent.objects.filter(provider=payments.STRIPE.name, event_id=event["id"]).exists():
            return Outcome.REPLAYED
        raise
    if outcome in ATTENTION:
        logger.error("Stripe's event %s needs attention: %s %s", event["id"], outcome, detail)
    return outcome


def _verified(body: bytes, signature: str) -> dict[str, Any]:
    """Returns id, type and content of the signed event."""
    try:
        text = body.decode()
        stripe.WebhookSignature.verify_header(text, signature, settings.STRIPE_WEBHOOK_SECRET, TOLERANCE_SECONDS)
    except (UnicodeDecodeError, stripe.SignatureVerificationError) as error:
        raise Broken("bad_signature", "This event is not signed by Stripe for this site.") from error
    try:
        event = json.loads(text)
        found = {"id": event["id"], "type": event["type"], "content": event["data"]["object"]}
    except (ValueError, KeyError, TypeError) as error:
        raise Broken("bad_event", "This is no event of Stripe.") from error
    identifiers = (found["id"], found["type"])
    if not all(isinstance(text, str) and 0 < len(text) <= MAX_REFERENCE for text in identifiers) or not isinstance(
        found["content"], dict
    ):
        raise Broken("bad_event", "This is no event of Stripe.")
    return found


def _order(content: Mapping[str, Any]) -> Order | None:
    named = (content.get("metadata") or {}).get("order") or content.get("client_reference_id") or ""
    rows = Order.objects.filter(provider=payments.STRIPE.name)
    try:
        return rows.filter(pk=uuid.UUID(str(named))).first()
    except ValueError:
        intent = content.get("payment_intent")
        return rows.filter(payment_reference=intent).first() if isinstance(intent, str) and intent else None


def _take_over(told: Told) -> tuple[Outcome, str]:
    rule = _RULES.get(told.kind)
    if rule is None:
        return Outcome.IGNORED, ""
    if told.order is None:
        return Outcome.UNKNOWN_ORDER, ""
    try:
        with transaction.atomic():
            return rule(told, Order.objects.locked(told.order.pk))
    except (DomainError, IntegrityError) as error:
        code = error.code if isinstance(error, DomainError) else "conflict"
        return Outcome.NOT_GRANTED, f"{code}: {error}"


def _completed(told: Told, order: Order) -> tuple[Outcome, str]:
    if told.content.get("payment_status") != "paid":
        return Outcome.WAITING, str(told.content.get("payment_status"))
    return _paid(told, order)


def _paid(told: Told, order: Order) -> tuple[Outcome, str]:
    """What was paid counts even where the order was canceled meanwhile, but not once it was refunded."""
    if order.status in (OrderStatus.PAID, OrderStatus.REFUNDED):
        return Outcome.NOTHING_TO_DO, order.status
    if wrong := _mismatch(told.content, order, amount="amount_total"):
        return Outcome.AMOUNT_MISMATCH, wrong
    orders.settle(order=order, actor=None, received_by=Receiver.SITE, now=told.now, payment_reference=_reference(told))
    return Outcome.SETTLED, ""


def _reference(told: Told) -> str:
    intent = told.content.get("payment_intent")
    return intent[:MAX_REFERENCE] if isinstance(intent, str) else ""


def _keep_reference(told: Told) -> None:
    """So that the staff can send back what was paid and bought nothing."""
    if told.order is not None and told.kind in PAYS:
        Order.objects.filter(pk=told.order.pk, payment_reference="").update(payment_reference=_reference(told))


def _not_paid(told: Told, order: Order) -> tuple[Outcome, str]:
    if order.status != OrderStatus.PENDING:
        return Outcome.NOTHING_TO_DO, order.status
    orders.cancel(order_id=order.pk, actor=None, now=told.now, why=told.kind)
    return Outcome.CANCELED, ""


def _refunded(told: Told, order: Order) -> tuple[Outcome, str]:
    content = told.content
    if content.get("amount_refunded") != content.get("amount"):
        return Outcome.PARTIAL_REFUND, f"{content.get('amount_refunded')} of {content.get('amount')}"
    if wrong := _mismatch(content, order, amount="amount_refunded"):
        return Outcome.AMOUNT_MISMATCH, wrong
    if refunds.record(order_id=order.pk, actor=None, reason="Refunded at Stripe.", now=told.now):
        return Outcome.REFUNDED, ""
    return Outcome.NOTHING_TO_DO, order.status


def _disputed(told: Told, order: Order) -> tuple[Outcome, str]:
    return Outcome.DISPUTED, f"{order}: {told.content.get('reason')}"[:100]


def _dispute_closed(told: Told, order: Order) -> tuple[Outcome, str]:
    """A buyer who got the money back from their bank has not paid."""
    if told.content.get("status") != "lost":
        return Outcome.NOTHING_TO_DO, str(told.content.get("status"))
    if wrong := _mismatch(told.content, order, amount="amount"):
        return Outcome.PARTIAL_REFUND, wrong
    if refunds.record(order_id=order.pk, actor=None, reason="Charged back by the buyer's bank.", now=told.now):
        return Outcome.REFUNDED, ""
    return Outcome.NOTHING_TO_DO, order.status


def _mismatch(content: Mapping[str, Any], order: Order, *, amount: str) -> str:
    """Returns what was told and what was agreed where they differ."""
    told = (content.get(amount), str(content.get("currency")).upper())
    agreed = (order.amount_minor, order.currency)
    return "" if told == agreed else f"{told[0]} {told[1]}, not {agreed[0]} {agreed[1]}"


_RULES: dict[str, Callable[[Told, Order], tuple[Outcome, str]]] = {
    "checkout.session.completed": _completed,
    "checkout.session.async_payment_succeeded": _paid,
    "checkout.session.async_payment_failed": _not_paid,
    "checkout.session.expired": _not_paid,
    "charge.refunded": _refunded,
    "charge.dispute.created": _disputed,
    "charge.dispute.closed": _dispute_closed,
}
