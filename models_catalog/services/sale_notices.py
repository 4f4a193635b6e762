"""Who is told of an order: its vendor, its buyer, and those to whom a sale brings a royalty."""

from __future__ import annotations

from django.urls import reverse

from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services.notifications import notify
from models_catalog.models import Order
from models_catalog.plain_words import money
from models_catalog.royalties import Split


def placed(order: Order, *, actor: User) -> None:
    """Tells the vendor of an order that waits for their invoice."""
    _tell_vendor(order, "order.place", f"{order.buyer} orders a license of {order.listing}", actor=actor)


def sold(order: Order, *, split: Split, actor: User | None) -> None:
    """Tells both sides of the payment, and every ancestor's owner of their share."""
    _tell_vendor(order, "order.sale", f"{order.buyer} bought a license of {order.listing}", actor=actor)
    _tell_buyer(order, "order.settle", f"Your order of {order.listing} is paid", _price(order), actor=actor)
    owners = Namespace.objects.in_bulk([share.payee for share in split.shares])
    for share in split.shares:
        notify(
            kind="royalty.receive",
            recipients=[owners[share.payee]],
            title=f"A sale of {order.listing} brings you a royalty",
            body=f"{money(share.amount_minor, split.currency)} for {share.title}.",
            url=reverse("statement", args=[owners[share.payee].name]),
        )


def refunded(order: Order, *, reason: str, actor: User | None) -> None:
    title = f"The order of {order.listing} was refunded"
    _tell_vendor(order, "order.refund", f"{title} to {order.buyer}", actor=actor, more=reason)
    _tell_buyer(order, "order.refund", title, f"{_price(order)}. {reason}", actor=actor)


def _tell_vendor(order: Order, kind: str, title: str, *, actor: User | None, more: str = "") -> None:
    body = ". ".join(filter(None, (_price(order), more)))
    url = reverse("order", args=[order.pk])
    notify(kind=kind, recipients=[order.listing.namespace], title=title, body=body, url=url, actor=actor)


def _tell_buyer(order: Order, kind: str, title: str, body: str, *, actor: User | None) -> None:
    """Those who bill for the buyer, and who placed the order."""
    url = reverse("order", args=[order.pk])
    notify(kind=kind, recipients=[order.buyer, order.placed_by], title=title, body=body, url=url, actor=actor)


def _price(order: Order) -> str:
    return money(order.amount_minor, order.currency)
