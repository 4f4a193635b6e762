"""What is spent with API tokens, and the caps on it. What a person does on the site's pages has no cap."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Sum

from marketplace.accounts.models import ApiToken, CapPeriod, Spend, User
from marketplace.accounts.models.tokens import CAP_DAYS
from marketplace.errors import Denied
from marketplace.templatetags.market import money


def spend(*, user: User, subject: str, amount_minor: int, currency: str, now: datetime) -> None:
    """Counts what the call is about to cost against its token's cap; nothing where no token made the call. Call it in the
    transaction of what costs. Locks the token, so that two calls at once do not pass its cap together. Raises Denied
    (`spend_cap_exceeded`, `spend_cap_currency`)."""
    if user.api_token is None:
        return
    token = ApiToken.objects.select_for_update(no_key=True).get(pk=user.api_token.pk)
    if token.cap_minor is not None and amount_minor:
        _require_room(token, amount_minor=amount_minor, currency=currency, now=now)
    Spend.objects.create(token=token, subject=subject, amount_minor=amount_minor, currency=currency, at=now)


def _require_room(token: ApiToken, *, amount_minor: int, currency: str, now: datetime) -> None:
    if currency != token.cap_currency:
        text = f"This costs {currency}, and the cap of the token is in {token.cap_currency}: nothing is converted here."
        raise Denied("spend_cap_currency", text)
    spent, cap = spent_minor(token, now=now), token.cap_minor or 0
    if spent + amount_minor > cap:
        period = CapPeriod(token.cap_period).label
        raise Denied(
            "spend_cap_exceeded",
            f"This costs up to {money(amount_minor, currency)}, and the token has {money(max(0, cap - spent), currency)}"
            f" left of {money(cap, currency)} {period}. Raise its cap on your tokens page, or wait.",
            extra={"cap_minor": cap, "spent_minor": spent, "amount_minor": amount_minor, "currency": currency},
        )


def settle(*, subject: str, amount_minor: int) -> None:
    """Replaces what it might have cost by what it did; 0 where it came to nothing."""
    Spend.objects.filter(subject=subject).update(amount_minor=amount_minor)


def spent_minor(token: ApiToken, *, now: datetime) -> int:
    """Returns what counts against the cap of a token that has one."""
    days = CAP_DAYS.get(CapPeriod(token.cap_period))
    rows = Spend.objects.filter(token=token, currency=token.cap_currency)
    if days:
        rows = rows.filter(at__gt=now - timedelta(days=days))
    return int(rows.aggregate(sum=Sum("amount_minor"))["sum"] or 0)


def spent_by_currency(token: ApiToken) -> dict[str, int]:
    """Returns all that was ever spent with the token, in minor units."""
    rows = Spend.objects.filter(token=token, amount_minor__gt=0).values("currency").annotate(sum=Sum("amount_minor"))
    return {row["currency"]: int(row["sum"]) for row in rows.order_by("currency")}
