"""Uploads: received, inspected, kept or refused."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from finetuning import policies
from finetuning.engine import spec as engine
from finetuning.engine.crash_points import Point, reach
from finetuning.models import Attempt, Dataset, DatasetVersion, Run
from finetuning.models.datasets import DatasetStatus
from finetuning.services import leases, webhooks
from marketplace import storage
from marketplace.accounts.models import Namespace, User
from marketplace.accounts.services import audit
from marketplace.decisions import require
from marketplace.errors import Conflict, Invalid
from marketplace.queue import Job, enqueue
from models_catalog.models import LicenseTerms
from models_catalog.presets import OWN_DATA, PRESETS
from models_catalog.services.licensing import terms_row

OWN = "own-data"
# Under which license data can be said to be, by the key that forms and the API use.
LICENSES = {OWN: OWN_DATA, **PRESETS}
LICENSE_KEYS = tuple(sorted(LICENSES))
CHECK_FAILED = "check_failed"  # the problem of a dataset that the server could not inspect
# Pixels of a thumbnail's longer side: boxes and masks are about details, which classes of whole images are not.
DETAILED_THUMBNAIL = 224
DETAILED = (engine.Task.OBJECT_DETECTION, engine.Task.SEMANTIC_SEGMENTATION)


def receive(
    *,
    user: User,
    owner: Namespace,
    name: str,
    task: str,
    source: storage.Readable | storage.Blob,
    filename: str,
    license: str = OWN,  # noqa: A002 - the word that pages and API use
) -> Dataset:
    """Stores the upload, where it is no blob yet, and queues its inspection. Raises Invalid (`task_not_supported`, `bad_license`,
    `empty_file`), Conflict (`name_taken`, `quota_exceeded`), TooLarge; nothing is kept then but the unreferenced
    blob."""
    require(policies.may_change(user, owner))
    if task not in tuple(engine.Task):
        raise Invalid("task_not_supported", f"Choose a task: {', '.join(engine.Task)}.", field="task")
    terms = _terms_of(license)
    _require_room(owner)
    if Dataset.objects.filter(owner=owner, name=name, deleted_at__isnull=True).exists():
        raise Conflict("name_taken", "You have a dataset of this name. Choose another name.", field="name")
    blob = storage.settle(source, max_bytes=settings.MAX_UPLOAD_BYTES)
    reach(Point.UPLOAD_STORED)
    try:
        with transaction.atomic():
            # Uploads of one owner count one after the other: SQLite's IMMEDIATE does it, PostgreSQL by this.
            _require_room(Namespace.objects.select_for_update(no_key=True).get(pk=owner.pk))
            dataset = Dataset.objects.create(
                owner=owner,
                name=name,
                task=task,
                upload_sha256=blob.sha256,
                upload_bytes=blob.bytes,
                upload_name=filename[:255],
                terms=terms,
                created_by=user,
            )
            enqueue(Job.INSPECT_DATASET, dataset.pk)
    except IntegrityError as error:
        raise Conflict("name_taken", "You have a dataset of this name. Choose another name.", field="name") from error
    return dataset


def _terms_of(license_key: str) -> LicenseTerms:
    if license_key not in LICENSES:
        raise Invalid("bad_license", f"Choose the license of the data: {', '.join(LICENSES)}.", field="license")
    return terms_row(LICENSES[license_key])


def license_key(dataset: Dataset) -> str:
    """Returns the key of the license that the owner stated; nothing where its reading has changed since."""
    if dataset.terms is None:
        return OWN
    stated = dataset.terms.terms_hash
    return next((key for key, terms in LICENSES.items() if terms.terms_hash == stated), "")


def set_license(*, user: User, dataset: Dataset, license: str) -> Dataset:  # noqa: A002 - as above
    """Says anew under which license the data are. It holds from a new version on: what was trained before stays
    under what was said then. Raises Denied (`not_a_writer`), Invalid (`bad_license`)."""
    require(policies.may_change(user, dataset.owner))
    terms = _terms_of(license)
    with transaction.atomic():
        row = Dataset.objects.select_for_update(of=("self",)).get(pk=dataset.pk)
        if row.terms_id == terms.pk:
            return row
        row.terms = terms
        row.save(update_fields=["terms"])
        version = row.versions.first()
        if version is not None:
            version.pk, version.number, version.terms = None, version.number + 1, terms
            version.save(force_insert=True)
        details = {"license": license, "terms_hash": terms.terms_hash}
        audit.record("dataset.set_license", actor=user, namespace=row.owner, subject=row, details=details)
    return row


def _require_room(owner: Namespace) -> None:
    if Dataset.objects.filter(owner=owner, deleted_at__isnull=True).count() >= settings.MAX_DATASETS:
        raise Conflict("quota_exceeded", f"You have {settings.MAX_DATASETS} datasets, which is the limit. Delete one.")


def inspect_spec(dataset: Dataset) -> engine.InspectSpec:
    # The salt keeps a split the same when the dataset grows or is uploaded again under its name.
    spec = engine.InspectSpec(task=engine.Task(dataset.task), salt=f"{dataset.owner.name}/{dataset.name}")
    return replace(spec, thumbnail_size=DETAILED_THUMBNAIL) if spec.task in DETAILED else spec


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
            return _settle(dataset, DatasetStatus.INVALID, problems)
        if not _settle(dataset, DatasetStatus.VALID, problems):
            return False
        report = result["report"]
        DatasetVersion.objects.create(
            dataset=dataset,
            number=1,
            digest=report["digest"],
            terms=Dataset.objects.select_related("terms").get(pk=dataset.pk).terms,
            report=report,
            labels=report["labels"],
            images=report["images"] if "images" in report else report["texts"],
            train_pack_sha256=files["train.pack"]["sha256"],
            test_pack_sha256=files["test.pack"]["sha256"],
            thumbnails_sha256=files["thumbnails.pack"]["sha256"],
            index_sha256=files["index.jsonl"]["sha256"],
        )
        reach(Point.INSPECTION_COMMITTING)
    return True


def record_failure(*, attempt: Attempt, dataset: Dataset, code: str, message: str, items: list[str]) -> bool:
    """The inspection itself failed. A fault of the server is tried again by the reaper, up to three times; then
    the dataset says so and can be checked again. A fault of the upload makes it unusable at once."""
    ours = code.startswith("app:")
    with transaction.atomic():
        if ours and not leases.is_worn_out(attempt, failing=True):
            return leases.close(attempt, outcome=code)
        if not leases.close(attempt, outcome=f"gave up: {code}" if ours else code):
            return False
        problem = {"code": code.partition(":")[2] or code, "message": message, "items": items}
        if ours:
            sentence = "The check failed through no fault of your upload: this server could not finish it."
            problem = {"code": CHECK_FAILED, "message": f"{sentence} Check it again. ({message})", "items": []}
        return _settle(dataset, DatasetStatus.INVALID, [problem])


def _settle(dataset: Dataset, to: DatasetStatus, problems: list[dict[str, Any]]) -> bool:
    """Says what the inspection found, once."""
    if not Dataset.objects.transition(dataset.pk, to=to, problems=problems):
        return False
    webhooks.of_dataset(dataset, became=to, now=timezone.now())
    return True


def may_be_rechecked(dataset: Dataset) -> bool:
    """Whether it was the server's fault that the dataset cannot be used."""
    codes = [problem.get("code") for problem in dataset.problems]
    return dataset.status == DatasetStatus.INVALID and CHECK_FAILED in codes


def recheck(*, user: User, dataset: Dataset) -> Dataset:
    """Queues another inspection after the server failed at the last one. Raises Conflict (`not_recheckable`)
    where the upload itself is at fault, `not_a_writer`."""
    require(policies.may_change(user, dataset.owner))
    if not may_be_rechecked(dataset):
        raise Conflict(
            "not_recheckable", "The same upload would give the same answer. Mend what is listed, and upload it again."
        )
    with transaction.atomic():
        if Dataset.objects.transition(dataset.pk, to=DatasetStatus.CHECKING, problems=[]):
            audit.record("dataset.recheck", actor=user, namespace=dataset.owner, subject=dataset)
            enqueue(Job.INSPECT_DATASET, dataset.pk)
    dataset.refresh_from_db()
    return dataset


def delete(*, user: User, dataset: Dataset, now: datetime) -> None:
    """Hides the dataset. Raises Conflict (`in_use`) while a run needs it."""
    require(policies.may_change(user, dataset.owner))
    if Run.objects.active().filter(dataset_version__dataset=dataset).exists():
        raise Conflict("in_use", "A run is using this dataset. Cancel it or wait for its end.")
    with transaction.atomic():
        Dataset.objects.filter(pk=dataset.pk).update(deleted_at=now)
        audit.record("dataset.delete", actor=user, namespace=dataset.owner, subject=dataset)


def parse_uid(value: str) -> uuid.UUID | None:
    """Returns the id, or None for text that is none: clients get 404 for it like for any other absence."""
    try:
        return uuid.UUID(value)
    except ValueError:
        return None
