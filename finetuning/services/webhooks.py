"""What webhooks tell of runs and datasets. Call these inside the transaction of what they tell."""

from __future__ import annotations

from datetime import datetime

from finetuning.models import Dataset, Run
from finetuning.models.datasets import DatasetStatus
from finetuning.models.runs import RunStatus
from marketplace.webhooks.events import EventType
from marketplace.webhooks.services.outbox import address, record

_EVENTS = {
    RunStatus.SUCCEEDED: EventType.RUN_SUCCEEDED,
    RunStatus.FAILED: EventType.RUN_FAILED,
    RunStatus.CANCELED: EventType.RUN_CANCELED,
}


def of_run(run: Run, *, ended: RunStatus, now: datetime, code: str = "") -> None:
    """For the run's owner. `code` says why it has failed."""
    what = {"id": str(run.uid), "url": address("api_run", run.uid), "owner": run.owner.name}
    data = {"run": what, **({"code": code} if code else {})}
    record(_EVENTS[ended], recipients=[run.owner], data=data, now=now)


def of_dataset(dataset: Dataset, *, became: DatasetStatus, now: datetime) -> None:
    """For the dataset's owner, once it was inspected."""
    what = {"id": str(dataset.uid), "url": address("api_dataset", dataset.uid), "owner": dataset.owner.name}
    event = EventType.DATASET_VALID if became == DatasetStatus.VALID else EventType.DATASET_INVALID
    record(event, recipients=[dataset.owner], data={"dataset": what}, now=now)
