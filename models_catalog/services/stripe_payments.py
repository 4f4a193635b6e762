"""What this site asks of Stripe, through its official library: a Checkout session, its end, a refund.

A session is opened and closed out of any transaction; each call carries an idempotency key, so that asking again does nothing twice.
"""

from __future__ import annotations

import logging
from typing import Any

import stripe
from django.conf import settings
from django.urls import reverse

from marketplace.errors import Conflict, Unavailable
from models_catalog.models import Order
from models_catalog.models.orders import OrderStatus

logger = logging.getLogger(__name__)
TIMEOUT_SECONDS = 10
_DOWN = "Stripe does not answer now. Try again in a moment."


def is_offered() -> bool:
    """True where the operator has set both secrets: without the webhook's, no payment would ever be believed."""
    return bool(settings.STRIPE_SECRET_KEY and settings.STRIPE_WEBHOOK_SECRET)


def _client() -> stripe.StripeClient:
    return stripe.StripeClient(
        settings.STRIPE_SECRET_KEY,
        base_addresses={"api": settings.STRIPE_API_BASE},
        max_network_retries=0,  # a person waits, and can ask again
        http_client=stripe.RequestsClient(timeout=TIMEOUT_SECONDS),
    )


def open_session(order: Order) -> None:
    """Gives the pending order its Checkout page; where Stripe does not answer the order stays without one, and the
    buyer can ask again. One session for each order, however often it is asked for."""
    if order.checkout_url or order.status != OrderStatus.PENDING:
        return
    back = settings.SITE_URL + reverse("order", args=[order.pk])
    product: Any = {"name": f"License of {order.listing}", "description": order.terms.name}
    price: Any = {
        "currency": order.currency.lower(),
        "unit_amount": order.amount_minor,
        "product_data": product,
    }
    try:
        session = _client().v1.checkout.sessions.create(
            {
                "mode": "payment",
                "client_reference_id": str(order.pk),
                "line_items": [{"quantity": 1, "price_data": price}],
                "metadata": {"order": str(order.pk)},
                "payment_intent_data": {"metadata": {"order": str(order.pk)}},
                "success_url": back,
                "cancel_url": back,
            },
            {"idempotency_key": f"order-{order.pk}"},
        )
    except stripe.StripeError as error:
        logger.warning("%s has no Checkout session: %s", order, error)
        return
    order.provider_reference, order.checkout_url = session.id, session.url or ""
    Order.objects.filter(pk=order.pk).update(
        provider_reference=order.provider_reference, checkout_url=order.checkout_url
    )


def expire_session(order: Order) -> None:
    """Closes the order's Checkout page. Raises Conflict (`payment_under_way`) where it was used already, Unavailable
    (`payment_unavailable`)."""
    if not order.provider_reference:
        return
    try:
        _client().v1.checkout.sessions.expire(
            order.provider_reference, options={"idempotency_key": f"expire-{order.pk}"}
        )
    except stripe.InvalidRequestError as error:
        logger.info("%s cannot be closed: %s", order, error)
        raise Conflict("payment_under_way", "This order is being paid at Stripe. Wait for the outcome.") from error
    except stripe.StripeError as error:
        raise Unavailable("payment_unavailable", _DOWN) from error


def refund(order: Order) -> None:
    """Sends the whole payment back. Raises Unavailable (`payment_unavailable`)."""
    try:
        _client().v1.refunds.create(
            {"payment_intent": order.payment_reference, "metadata": {"order": str(order.pk)}},
            {"idempotency_key": f"refund-{order.pk}"},
        )
    except stripe.StripeError as error:
        if error.code == "charge_already_refunded":
            return
        logger.warning("%s is not refunded: %s", order, error)
        raise Unavailable("payment_unavailable", _DOWN) from error
