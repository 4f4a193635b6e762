"""What runs use of the machine: against a budget, against a month's quota, and in money."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from django.conf import settings
from django.db.models import Q, QuerySet

from finetuning.models import Attempt, ComputeQuota, Run
from finetuning.models.attempts import EXPIRED
from marketplace.accounts.models import Namespace

SECONDS_AN_HOUR = 3600
MAX_BUDGET_MINUTES = 100_000
# What came to nothing by a fault of the server's is nobody's use of it.
_OF_THE_SERVER = Q(outcome__startswith="app:") | Q(outcome=EXPIRED)


def worked_seconds(run: Run, *, now: datetime) -> float:
    """Returns for how long somebody has worked on the run; pauses, waiting and what the server broke are not
    counted."""
    return _seconds(Attempt.objects.filter(run=run), now)


def worked_by_run(runs: Iterable[Run], *, now: datetime) -> dict[int, float]:
    """Returns `worked_seconds` of each of several runs by its key, in one query."""
    found = dict.fromkeys((run.pk for run in runs), 0.0)
    attempts = Attempt.objects.filter(run__in=found).exclude(_OF_THE_SERVER)
    for run, started, ended in attempts.values_list("run_id", "started_at", "ended_at"):
        found[run] += _span(started, ended, now)
    return found


def budget_left_seconds(run: Run, *, now: datetime) -> float:
    if run.budget_minutes is None:
        return math.inf
    return max(0.0, run.budget_minutes * 60 - worked_seconds(run, now=now))


def charge_minor(seconds: float) -> int:
    """Returns the price of so much compute; nothing where the operator has set none."""
    an_hour: int = settings.COMPUTE_PRICE_MINOR_PER_HOUR
    return round(seconds * an_hour / SECONDS_AN_HOUR)


def hours_allowed(namespace: Namespace) -> int:
    """Returns the hours of compute a month that the namespace has, 0 where there is no limit."""
    own = ComputeQuota.objects.filter(namespace=namespace).first()
    if own is not None:
        return int(own.hours_per_month)
    if namespace.organization_id is not None:
        return int(settings.ORGANIZATION_COMPUTE_HOURS_PER_MONTH)
    return int(settings.COMPUTE_HOURS_PER_MONTH)


def hours_used(namespace: Namespace, *, now: datetime) -> float:
    """Returns the hours of this calendar month: of a person, all runs that they started for themselves; of an
    organization, all that its members started for it."""
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    attempts = Attempt.objects.filter(run__owner=namespace, started_at__gte=month)
    return _seconds(attempts, now) / SECONDS_AN_HOUR


def hours_promised(namespace: Namespace, *, now: datetime) -> float:
    """Returns the hours that the namespace's queued and running runs may still take: the rest of their budgets, without
    one of the longest time by their estimates, and of runs with neither nothing."""
    runs = list(Run.objects.active().filter(owner=namespace).select_related("estimate"))
    worked = worked_by_run(runs, now=now)
    return sum(max(0.0, _expected_seconds(run) - worked[run.pk]) for run in runs) / SECONDS_AN_HOUR


def _expected_seconds(run: Run) -> float:
    if run.budget_minutes is not None:
        return run.budget_minutes * 60
    return (run.estimate.high_seconds if run.estimate else None) or 0.0


def _seconds(attempts: QuerySet[Attempt], now: datetime) -> float:
    spans = attempts.exclude(_OF_THE_SERVER).values_list("started_at", "ended_at")
    return sum(_span(started, ended, now) for started, ended in spans)


def _span(started: datetime, ended: datetime | None, now: datetime) -> float:
    # A clock that was set back in between makes an attempt end before it began: that took nothing.
    return max(0.0, ((ended or now) - started).total_seconds())
