"""The public parts of a run's evaluation, for a review that cites it."""

from __future__ import annotations

from django.db.models import QuerySet

from finetuning.engine import titles
from finetuning.engine.headlines import headline
from finetuning.engine.spec import Strategy
from finetuning.models import Run
from finetuning.models.runs import RunStatus
from finetuning.services.runs import receipt_of
from marketplace.accounts.models import Namespace
from marketplace.errors import Conflict
from models_catalog.models import Listing
from models_catalog.services.reviews import Evidence


def citable(listing: Listing, *, author: Namespace) -> QuerySet[Run]:
    """The author's finished runs that began from the listing, newest first."""
    rows = Run.objects.filter(owner=author, release__listing=listing, status=RunStatus.SUCCEEDED)
    return rows.select_related("dataset_version__dataset", "release__listing__namespace", "owner").order_by(
        "-finished_at"
    )


def evidence_of(run: Run) -> Evidence:
    """Returns what may be shown of the run to everybody. Raises Conflict (`not_measured`)."""
    measured = run.headline
    if measured is None or run.finished_at is None:
        raise Conflict("not_measured", "This run has no evaluation to cite. Choose one that has finished.")
    baseline, receipt = headline(run.task, run.evaluation.get("baseline") or {}), receipt_of(run)
    return Evidence(
        run_uid=run.uid,
        release=run.release,
        owner=run.owner,
        task=run.task.value,
        strategy=titles.STRATEGIES[Strategy(run.strategy)],
        metric=measured.title,
        value=measured.value,
        low=measured.low,
        high=measured.high,
        baseline=baseline.value if baseline else None,
        items=run.evaluation["items"],
        dataset_sha256=run.dataset_version.digest,
        receipt_sha256=receipt.sha256 if receipt else "",
        measured_at=run.finished_at,
    )
