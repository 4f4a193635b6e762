"""What a run costs, counted against the cap of the API token that launched it."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings

from finetuning import compute
from finetuning.models import Run
from marketplace.accounts.models import User
from marketplace.accounts.services import spending
from marketplace.errors import Denied


def reserve(run: Run, *, user: User, now: datetime) -> None:
    """Counts what the run may cost at most: its budget. Raises Denied (`budget_missing` where the token has a cap and the
    run no budget; `spend_cap_exceeded`, `spend_cap_currency`). Call it in the launch's transaction."""
    if user.api_token is None or not settings.COMPUTE_PRICE_MINOR_PER_HOUR:
        return
    if run.budget_minutes is None and user.api_token.cap_minor is not None:
        text = "This token has a spend cap: give the run `budget_minutes`, so that what it costs has an end."
        raise Denied("budget_missing", text)
    spending.spend(
        user=user,
        subject=_subject(run),
        amount_minor=compute.charge_minor((run.budget_minutes or 0) * 60),
        currency=settings.COMPUTE_CURRENCY,
        now=now,
    )


def settle(run: Run, *, amount_minor: int = 0) -> None:
    """Counts what the run did cost, in the transaction that ends it; a run that failed or was canceled costs nothing."""
    spending.settle(subject=_subject(run), amount_minor=amount_minor)


def _subject(run: Run) -> str:
    return f"run {run.uid}"
