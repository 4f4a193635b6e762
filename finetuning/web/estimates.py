"""What a fine-tune will take, on the launch page; and how good such estimates were, for the staff."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone

from finetuning import compute, forecasts, policies
from finetuning.models import Estimate
from finetuning.services import estimates, searches
from marketplace.decisions import require

SHOWN_RECORDS = 50
_LONGEST_NUMBER = 7  # digits


def part_of(estimate: Estimate, *, budget_minutes: int | None, extent: searches.Extent | None = None) -> dict[str, Any]:
    """Returns what the launch page shows of an estimate under a budget, with the search that goes before."""
    now = timezone.now()
    estimate = estimates.with_search(estimate, extent)
    allowed = policies.may_take(estimate, budget_minutes=budget_minutes, now=now)
    doubts = policies.doubts_of(estimate, budget_minutes=budget_minutes, now=now) if allowed.allowed else []
    prices = [compute.charge_minor(seconds or 0) for seconds in (estimate.low_seconds, estimate.high_seconds)]
    return {
        "estimate": estimate,
        "budget_minutes": budget_minutes or "",
        "extent": extent,
        "allowed": allowed,
        "doubts": doubts,
        "derived": forecasts.derivation(estimate) if estimate.is_ready else "",
        "prices": prices if settings.COMPUTE_PRICE_MINOR_PER_HOUR else [],
        "currency": settings.COMPUTE_CURRENCY,
    }


@login_required
def part(request: HttpRequest, uid: uuid.UUID) -> HttpResponse:
    """The estimate as it stands: a part of the launch page, which asks until it is there."""
    row = get_object_or_404(Estimate.objects.visible_to(request.user).select_related("owner"), uid=uid)
    trials, minutes = _number(request, "trials"), _number(request, "minutes")
    extent = searches.Extent(trials, minutes) if trials and minutes else None
    told = part_of(row, budget_minutes=_number(request, "budget"), extent=extent)
    return render(request, "finetuning/_estimate.html", {"told": told})


def _number(request: HttpRequest, name: str) -> int | None:
    told = request.GET.get(name, "")
    return int(told) if told.isdecimal() and len(told) <= _LONGEST_NUMBER else None


@login_required
def quality(request: HttpRequest) -> HttpResponse:
    require(policies.may_see_estimates(request.user))
    records = forecasts.records()
    context = {
        "records": records[:SHOWN_RECORDS],
        "qualities": forecasts.qualities(records),
        "enough": forecasts.ENOUGH_RUNS,
        "wanted": forecasts.WANTED_COVERAGE,
    }
    return render(request, "finetuning/estimates.html", context)
