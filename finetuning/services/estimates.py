"""Estimates: asked for, measured by a rehearsal or told from history, kept. Nothing is charged for them."""

from __future__ import annotations

import copy
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from finetuning import forecasts, policies
from finetuning.engine import spec as engine
from finetuning.models import Attempt, Dataset, Estimate, Run
from finetuning.models.estimates import EstimateMethod, EstimateStatus
from finetuning.models.runs import IN_HAND
from finetuning.services import leases, runs, searches
from marketplace.accounts.models import User
from marketplace.decisions import require
from marketplace.queue import Job, enqueue
from models_catalog.models import Release


def ask(
    *,
    user: User,
    release: Release,
    dataset: Dataset,
    hyper: dict[str, Any],
    now: datetime,
    strategy: str = "",
    preset: str = "",
    search: searches.Wish | None = None,
    budget_minutes: int | None = None,
) -> Estimate:
    """Returns what such a fine-tune will take: one that stands, one from history where it says enough, else one that
    waits for a rehearsal. Whoever asks twice gets the same. Enqueues ESTIMATE.

    Raises Denied (all that `may_estimate` says), Invalid (as `runs.settings_of`, and of a `search` that would go before
    it as `searches.plan`)."""
    require(policies.may_estimate(user, release, dataset, now=now))
    order = runs.ordered(release, dataset, strategy=strategy, preset=preset, hyper=hyper)
    if search is not None:  # what could not be launched is not estimated
        searches.plan(order.spec, search, strategy=strategy, preset=preset, hyper=hyper, budget_minutes=budget_minutes)
    mine = Estimate.objects.filter(owner=dataset.owner, spec_sha256=order.digest)
    known = Estimate.objects.standing(dataset.owner, order.digest, now=now).first() or mine.waiting().first()
    if known is not None:
        return known
    require(policies.has_estimate_left(user))
    settings_ = asdict(order.spec.hyper)
    told = forecasts.by_history(release, order.version, order.spec.strategy.value, settings_)
    row = Estimate(
        owner=dataset.owner,
        created_by=user,
        release=release,
        dataset_version=order.version,
        strategy=order.spec.strategy.value,
        hyper=settings_,
        spec_sha256=order.digest,
    )
    if told is not None:
        for name, value in _told(told.spread, EstimateMethod.HISTORY).items():
            setattr(row, name, value)
        row.status, row.finished_at = EstimateStatus.READY, now
        row.hardware, row.peak_memory_bytes = forecasts.newest_hardware(), told.peak_memory_bytes or None
    try:
        with transaction.atomic():
            row.save()
            if not row.is_ready:
                enqueue(Job.ESTIMATE, row.pk)
    except IntegrityError:  # somebody else asked for the same at the same time
        return mine.waiting().get()
    return row


def with_search(estimate: Estimate, extent: searches.Extent | None) -> Estimate:
    """Returns what the fine-tune takes with a search before it, unsaved: at least one trial as short as the training
    may be, at most all of them in full or their minutes."""
    told = (estimate.low_seconds, estimate.seconds, estimate.high_seconds)
    low, middle, high = (seconds or 0.0 for seconds in told)
    if extent is None or not estimate.is_ready:
        return estimate
    whole = copy.copy(estimate)
    whole.low_seconds = low + min(low, extent.seconds(low))
    whole.seconds, whole.high_seconds = middle + extent.seconds(middle), high + extent.seconds(high)
    return whole


def spec_of(estimate: Estimate) -> engine.EstimateSpec:
    """Returns what the rehearsal is asked to do; it is given no test items, only how many there are."""
    version, strategy = estimate.dataset_version, engine.Strategy(estimate.strategy)
    hyper = engine.hyper_from(estimate.hyper, task=engine.Task(version.dataset.task), strategy=strategy)
    order = runs.train_spec(estimate.release, version, strategy, hyper)
    return engine.EstimateSpec(order=order, test_items=int(version.report.get("splits", {}).get("test", 0)))


def runs_in_hand() -> int:
    """Returns how many runs this server works on, which make a rehearsal slower."""
    return Run.objects.filter(status__in=IN_HAND).count()


def record(*, attempt: Attempt, estimate: Estimate, result: dict[str, Any], beside: int) -> bool:
    """Takes over the rehearsal's result under the attempt's lease; False where the lease was lost."""
    measured, hardware = result["estimate"], str(result.get("hardware", ""))
    spread = forecasts.corrected(measured["seconds"], measured["shortest_seconds"], hardware=hardware)
    with transaction.atomic():
        if not leases.close(attempt, outcome="estimated", exit_code=0):
            return False
        return Estimate.objects.end(
            estimate.pk,
            to=EstimateStatus.READY,
            hardware=hardware[:200],
            peak_memory_bytes=result.get("peak_memory_bytes"),
            measured=measured,
            beside=beside,
            finished_at=timezone.now(),
            **_told(spread, EstimateMethod.REHEARSAL),
        )


def record_failure(*, attempt: Attempt, estimate: Estimate, code: str, message: str) -> bool:
    """The rehearsal failed. A fault of the server is tried again by the reaper, up to three times; one of the input
    would meet the run too, and is told at once."""
    with transaction.atomic():
        if code.startswith("app:") and not leases.is_worn_out(attempt, failing=True):
            return leases.close(attempt, outcome=code)
        if not leases.close(attempt, outcome=code):
            return False
        return Estimate.objects.end(
            estimate.pk,
            to=EstimateStatus.FAILED,
            failure_code=code,
            failure_message=message,
            finished_at=timezone.now(),
        )


def _told(spread: forecasts.Spread, method: EstimateMethod) -> dict[str, Any]:
    return {
        "method": method,
        "seconds": spread.middle,
        "low_seconds": spread.low,
        "high_seconds": spread.high,
        "coverage": spread.coverage or None,
        "past_runs": spread.count,
    }
