"""What an order writes into the ledger: its sale with royalties and fee, and the reversal of all of it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from django.conf import settings

from marketplace.accounts.models import User
from marketplace.decisions import require
from models_catalog import policies, postings, royalties, selectors
from models_catalog.models import Order
from models_catalog.models.orders import Receiver
from models_catalog.services import ledger, sale_notices


def sale_key(order: Order) -> str:
    return f"order:{order.pk}:sale"


def record_sale(*, order: Order, received_by: str, actor: User | None, now: datetime) -> None:
    """Posts the paid order, and tells those concerned: royalties go to who owns the ancestors now. Nothing was paid of a free one. Raises Denied
    (`price_below_floor`, `currency_mismatch`) where the price cannot carry what it owes."""
    if not order.amount_minor:
        return
    release = selectors.sold_with(order)
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


def taken_by_refund(order: Order) -> dict[int, int]:
    """Returns how much a refund of the order takes from each namespace's balance, of those from whom it takes."""
    moved: Counter[int] = Counter()
    for line in ledger.lines_of(sale_key(order)):
        for account, sign in ((line.credit, 1), (line.debit, -1)):
            if account.kind is postings.AccountKind.PAYABLE and account.namespace is not None:
                moved[account.namespace] += sign * line.amount_minor
    return dict(+moved)


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
