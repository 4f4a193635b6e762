"""What an order writes into the ledger: its sale with royalties and fee, and the reversal of all of it."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings

from marketplace.accounts.models import User
from marketplace.decisions import require
from models_catalog import policies, postings, royalties, selectors
from models_catalog.models import Order, Release
from models_catalog.models.orders import Receiver
from models_catalog.services import ledger, sale_notices


def sale_key(order: Order) -> str:
    return f"order:{order.pk}:sale"


def record_sale(*, order: Order, received_by: str, actor: User | None, now: datetime) -> None:
    """Posts the paid order, and tells those concerned: royalties go to who owns the ancestors now. Nothing was paid of a free one. Raises Denied
    (`price_below_floor`, `currency_mismatch`) where the price cannot carry what it owes."""
    if not order.amount_minor:
        return
    release = order.release or _offered(order)
    if release is not None:
        require(policies.may_price(release))
    split = royalties.split(
        selectors.royalty_claims(release) if release is not None else [],
        seller=order.listing.namespace_id,
        price_minor=order.amount_minor,
        currency=order.currency,
        fee_bps=settings.SITE_FEE_BPS,
    )
    lines = postings.sale(
        split,
        buyer=order.buyer_id,
        seller=order.listing.namespace_id,
        is_paid_to_site=received_by == Receiver.SITE,
    )
    ledger.post(
        ledger.Posting(
            key=sale_key(order),
            event=postings.Event.SALE,
            currency=order.currency,
            lines=lines,
            at=now,
            actor=actor,
            order=order,
        )
    )
    sale_notices.sold(order, split=split, actor=actor)


def record_refund(*, order: Order, actor: User | None, now: datetime) -> None:
    """Posts the reversal of the order's sale, royalties and fee included; of what was never posted, nothing."""
    ledger.post(
        ledger.Posting(
            key=f"order:{order.pk}:refund",
            event=postings.Event.REFUND,
            currency=order.currency,
            lines=postings.reversal(ledger.lines_of(sale_key(order))),
            at=now,
            actor=actor,
            order=order,
        )
    )


def _offered(order: Order) -> Release | None:
    """The release of an order that was placed before orders named it."""
    rows = Release.objects.filter(listing=order.listing_id, terms=order.terms_id, published_at__isnull=False)
    return rows.select_related("listing", "terms").order_by("-published_at").first()
