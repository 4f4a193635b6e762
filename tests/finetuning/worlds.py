"""Worlds of fine-tuning, reached through the services and the real engine."""

from __future__ import annotations

import io
from typing import Any

import scenarios
from archives_factory import class_folders, zip_of
from django.utils import timezone

from finetuning import tasks
from finetuning.models import Attempt, Dataset, DatasetVersion, Run
from finetuning.models.datasets import DatasetStatus
from finetuning.services import datasets, runs
from marketplace.accounts.models import Namespace, User

World = dict[str, Any]


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


def received(user: User, content: bytes, *, name: str = "shapes") -> Dataset:
    """An upload that waits for its inspection."""
    return datasets.receive(
        user=user,
        owner=Namespace.objects.get(user=user),
        name=name,
        task="image-classification",
        stream=io.BytesIO(content),
        filename="shapes.zip",
    )


def uploaded(user: User, content: bytes, *, name: str = "shapes") -> Dataset:
    """An upload that the real engine has inspected."""
    dataset = received(user, content, name=name)
    tasks.inspect_dataset(dataset.pk)
    dataset.refresh_from_db()
    return dataset


def shapes() -> bytes:
    return zip_of(class_folders(labels=("a", "b"), images=8))


def licensed_buyer() -> World:
    """A buyer with a grant on a published release and a dataset that is ready."""
    vendor, buyer = scenarios.person("vera"), scenarios.person("bo")
    release = scenarios.published_release(vendor)
    scenarios.licensed(buyer, release)
    return {"vendor": vendor, "buyer": buyer, "release": release, "dataset": uploaded(buyer, shapes())}


def launch(world: World, **changes: Any) -> Run:
    given = {"user": world["buyer"], "release": world["release"], "dataset": world["dataset"], **changes}
    return runs.launch(strategy="head", hyper=given.pop("hyper", {}), now=timezone.now(), **given)


def claimed_run(world: World) -> tuple[Run, Attempt]:
    claimed = runs.claim(launch(world).pk)
    assert claimed is not None
    return claimed
