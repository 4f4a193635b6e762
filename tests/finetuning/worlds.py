"""Worlds of fine-tuning, reached through the services and the real engine."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import scenarios
from archives_factory import class_folders, zip_of
from django.utils import timezone
from engine_runs import EngineRun, Inspected, image_folders, inspected
from shapes_factory import write_release

from finetuning import tasks
from finetuning.engine.spec import Task
from finetuning.models import Attempt, Dataset, DatasetVersion, Run
from finetuning.models.datasets import DatasetStatus
from finetuning.services import datasets, leases, runs
from marketplace import storage
from marketplace.accounts.models import Namespace, User
from models_catalog.models import Release
from models_catalog.services import publishing

World = dict[str, Any]
EPOCHS = 20  # enough that none is over before it is asked to stop


def dataset_of(
    owner: Namespace, *, task: str = "image-classification", report: dict[str, Any] | None = None
) -> Dataset:
    """A dataset that has passed inspection, with packs that hold nothing."""
    blob = scenarios.blob(b"a pack").sha256
    dataset = Dataset.objects.create(
        owner=owner,
        name=f"data for {task}",
        task=task,
        status=DatasetStatus.VALID,
        upload_sha256=blob,
        upload_bytes=6,
        upload_name="shapes.zip",
    )
    DatasetVersion.objects.create(
        dataset=dataset,
        number=1,
        digest="d" * 64,
        report=report or {},
        labels=["a", "b"],
        images=16,
        train_pack_sha256=blob,
        test_pack_sha256=blob,
        thumbnails_sha256=blob,
        index_sha256=blob,
    )
    return dataset


def received(user: User, content: bytes, *, name: str = "shapes", task: str = "image-classification") -> Dataset:
    """An upload that waits for its inspection."""
    return datasets.receive(
        user=user,
        owner=Namespace.objects.get(user=user),
        name=name,
        task=task,
        source=io.BytesIO(content),
        filename="shapes.zip",
    )


def uploaded(user: User, content: bytes, **given: str) -> Dataset:
    """An upload that the real engine has inspected."""
    dataset = received(user, content, **given)
    tasks.inspect_dataset(dataset.pk)
    dataset.refresh_from_db()
    return dataset


def recorded(user: User, made: Inspected) -> Dataset:
    """An upload with an inspection that the engine has made before, taken over as the job takes it over."""
    dataset = datasets.receive(
        user=user,
        owner=Namespace.objects.get(user=user),
        name=made.filename,
        task=made.task,
        source=io.BytesIO(made.upload),
        filename=made.filename,
    )
    claimed = leases.acquire(Dataset.objects.select_related("owner"), dataset.pk, now=timezone.now())
    assert claimed is not None
    assert datasets.record_inspection(
        attempt=claimed[1], dataset=dataset, result=made.inspection, files=stored(made.outputs("inspect"))
    )
    dataset.refresh_from_db()
    return dataset


def evaluated_run(user: User, release: Release, dataset: Dataset, made: EngineRun) -> Run:
    """A run on the dataset that ends with the engine's own results. It is queued here and not by `launch`, whose
    gates have tests of their own."""
    run = Run.objects.create(
        owner=dataset.owner,
        created_by=user,
        release=release,
        terms=release.terms,
        dataset_version=dataset.versions.get(),
        strategy="full",
        spec_sha256=dataset.upload_sha256,
        poked_at=timezone.now(),
    )
    claimed = runs.claim(run.pk)
    assert claimed is not None
    judged = {f"evaluation/{name}": file for name, file in stored(made.outputs("evaluate")).items()}
    artifacts = {**stored(made.outputs("train")), **judged}
    assert runs.finish(
        run=run, attempt=claimed[1], result=made.training, evaluation=made.evaluation, artifacts=artifacts
    )
    run.refresh_from_db()
    return run


def stored(files: dict[str, Path]) -> dict[str, dict[str, Any]]:
    blobs = {name: storage.put_file(path) for name, path in files.items()}
    return {name: {"sha256": blob.sha256, "bytes": blob.bytes} for name, blob in blobs.items()}


def shapes() -> bytes:
    return zip_of(class_folders(labels=("a", "b"), images=8))


@cache
def _inspected(build: Callable[[], bytes]) -> Inspected:
    """Once a process: the engine says the same of the same upload."""
    return inspected(
        Task.IMAGE_CLASSIFICATION, build(), "shapes.zip", Path(tempfile.mkdtemp(dir=os.environ["DATA_DIR"]))
    )


def trainable_shapes() -> bytes:
    return image_folders(12)


def licensed_buyer() -> World:
    """A buyer with a grant on a published release and a dataset that is ready."""
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    release = scenarios.published_release(vendor)
    scenarios.licensed(buyer, release)
    return {"vendor": vendor, "buyer": buyer, "release": release, "dataset": recorded(buyer, _inspected(shapes))}


def with_weights(folder: Path) -> World:
    """A buyer with a grant on weights that can be trained, and a dataset of shapes."""
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    draft = scenarios.draft_release(vendor)
    for file in write_release(folder).iterdir():
        publishing.attach_artifact(user=vendor, release=draft, path=file.name, blob=storage.put_file(file))
    release = publishing.publish(user=vendor, release=scenarios.verify(vendor, draft), now=timezone.now())
    scenarios.licensed(buyer, release)
    return {
        "vendor": vendor,
        "buyer": buyer,
        "release": release,
        "dataset": recorded(buyer, _inspected(trainable_shapes)),
    }


def tuned(world: World, **hyper: Any) -> Run:
    """A fine-tune of all weights: queued, and long enough to be met at work."""
    return runs.launch(
        user=world["buyer"],
        release=world["release"],
        dataset=world["dataset"],
        strategy="full",
        hyper={"epochs": EPOCHS, "batch_size": 4, "patience": EPOCHS, **hyper},
        now=timezone.now(),
    )


def launch(world: World, **changes: Any) -> Run:
    given = {"user": world["buyer"], "release": world["release"], "dataset": world["dataset"], **changes}
    return runs.launch(strategy="head", hyper=given.pop("hyper", {}), now=timezone.now(), **given)


def claimed_run(world: World) -> tuple[Run, Attempt]:
    claimed = runs.claim(launch(world).pk)
    assert claimed is not None
    return claimed
