"""The doorbell: a job's name and one integer. Losing or doubling a message is harmless (docs/adr/0004).

The only importer of django_q's API; job paths lie here so that services never import tasks.
"""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Any

from django.db import transaction
from django_q.tasks import async_task

from finetuning.engine.crash_points import Point, reach
from marketplace.queue_settings import FAST, TRAIN

CANARY = "marketplace.supervision.canary.sing"


class Job(Enum):
    """(dotted path of the task, slot)"""

    VERIFY_RELEASE = ("finetuning.tasks.verify_release", FAST)
    FETCH_WEIGHTS = ("finetuning.tasks.fetch_weights", FAST)
    INSPECT_DATASET = ("finetuning.tasks.inspect_dataset", FAST)
    ESTIMATE = ("finetuning.tasks.estimate", FAST)
    SEND_EMAIL = ("marketplace.accounts.tasks.send_email", FAST)
    SEND_WEBHOOKS = ("marketplace.webhooks.tasks.send_webhooks", FAST)
    FINE_TUNE = ("finetuning.tasks.fine_tune", TRAIN)

    @property
    def path(self) -> str:
        return self.value[0]

    @property
    def slot(self) -> str:
        return self.value[1]


def enqueue(job: Job, pk: int) -> None:
    """Rings once the transaction has committed, so that a worker never sees a row that is not there.

    A crash between commit and ring loses the message: the reaper rings again."""
    transaction.on_commit(partial(_ring, job, pk))


def _ring(job: Job, pk: int) -> None:
    reach(Point.MESSAGE_SENDING)
    async_task(job.path, pk, cluster=job.slot)
    reach(Point.MESSAGE_SENT)


def ring_again(slot: str, message: dict[str, Any]) -> None:
    """Sends a message once more that the slot has taken and none of its workers has heard."""
    async_task(message["func"], *message["args"], cluster=slot)


def ring_canary(slot: str, number: int) -> None:
    """Sends a slot the message that only shows that it hears (`supervision/canary.py`)."""
    async_task(CANARY, number, cluster=slot)
