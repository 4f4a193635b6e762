"""Uploads: received, inspected, kept or refused."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from finetuning import policies
from finetuning.engine import spec as engine
from finetuning.models import Attempt, Dataset, DatasetVersion, Run
from finetuning.models.datasets import DatasetStatus
from finetuning.services import leases
from marketplace import storage
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from marketplace.queue import Job, enqueue

SUPPORTED_TASKS = (engine.Task.IMAGE_CLASSIFICATION,)


def receive(*, user: User, owner: Namespace, name: str, task: str, stream: storage.Readable, filename: str) -> Dataset:
    """Stores the upload and queues its inspection. Raises Invalid (`task_not_supported`, `empty_file`),
    Conflict (`name_taken`, `quota_exceeded`), TooLarge; nothing is kept then but the unreferenced blob."""
    require(policies.may_change(user, owner))
    if task not in SUPPORTED_TASKS:
        raise Invalid("task_not_supported", "This site takes image-classification datasets so far.", field="task")
    if Dataset.objects.filter(owner=owner, deleted_at__isnull=True).count() >= settings.MAX_DATASETS:
        raise Conflict("quota_exceeded", f"You have {settings.MAX_DATASETS} datasets, which is the limit. Delete one.")
    if Dataset.objects.filter(owner=owner, name=name, deleted_at__isnull=True).exists():
        raise Conflict("name_taken", "You have a dataset of this name. Choose another name.", field="name")
    blob = storage.put(stream, max_bytes=settings.MAX_UPLOAD_BYTES)
    try:
        with transaction.atomic():
            dataset = Dataset.objects.create(
                owner=owner,
                name=name,
                task=task,
                upload_sha256=blob.sha256,
                upload_bytes=blob.bytes,
                upload_name=filename[:255],
                created_by=user,
            )
            enqueue(Job.INSPECT_DATASET, dataset.pk)
    except IntegrityError as error:
        raise Conflict("name_taken", "You have a dataset of this name. Choose another name.", field="name") from error
    return dataset


def inspect_spec(dataset: Dataset) -> engine.InspectSpec:
    # The salt keeps a split the same when the dataset grows or is uploaded again under its name.
    return engine.InspectSpec(task=engine.Task(dataset.task), salt=f"{dataset.owner.name}/{dataset.name}")


def record_inspection(
    *, attempt: Attempt, dataset: Dataset, result: dict[str, Any], files: dict[str, dict[str, Any]]
) -> bool:
    """Takes over the inspection's result under the attempt's lease; False where the lease was lost."""
    valid = result.get("status") == "valid"
    with transaction.atomic():
        if not leases.close(attempt, outcome=str(result.get("status")), exit_code=0):
            return False
        problems = result.get("problems", [])
        if not valid:
            return Dataset.objects.transition(dataset.pk, to=DatasetStatus.INVALID, problems=problems)
        if not Dataset.objects.transition(dataset.pk, to=DatasetStatus.VALID, problems=problems):
            return False
        report = result["report"]
        DatasetVersion.objects.create(
            dataset=dataset,
            number=1,
            digest=report["digest"],
            report=report,
            labels=report["labels"],
            images=report["images"],
            train_pack_sha256=files["train.pack"]["sha256"],
            test_pack_sha256=files["test.pack"]["sha256"],
            thumbnails_sha256=files["thumbnails.pack"]["sha256"],
            index_sha256=files["index.jsonl"]["sha256"],
        )
    return True


def record_failure(*, attempt: Attempt, dataset: Dataset, code: str, message: str, items: list[str]) -> bool:
    """The inspection itself failed: the dataset is unusable, and says why."""
    with transaction.atomic():
        if not leases.close(attempt, outcome=code):
            return False
        problem = {"code": code.partition(":")[2] or code, "message": message, "items": items}
        return Dataset.objects.transition(dataset.pk, to=DatasetStatus.INVALID, problems=[problem])


def delete(*, user: User, dataset: Dataset, now: datetime) -> None:
    """Hides the dataset. Raises Conflict (`in_use`) while a run needs it."""
    require(policies.may_change(user, dataset.owner))
    if Run.objects.active().filter(dataset_version__dataset=dataset).exists():
        raise Conflict("in_use", "A run is using this dataset. Cancel it or wait for its end.")
    with transaction.atomic():
        Dataset.objects.filter(pk=dataset.pk).update(deleted_at=now)
        audit.record("dataset.delete", actor=user, namespace=dataset.owner, subject=dataset)


def items(version: DatasetVersion) -> list[dict[str, Any]]:
    """Returns the index of the version: one entry an image, as docs/engine.md describes it."""
    with storage.open_blob(version.index_sha256) as file:
        return [json.loads(line) for line in file if line.strip()]


def parse_uid(value: str) -> uuid.UUID | None:
    """Returns the id, or None for text that is none: clients get 404 for it like for any other absence."""
    try:
        return uuid.UUID(value)
    except ValueError:
        return None
