"""Worlds of fine-tuning, reached through the services and the real engine."""

from __future__ import annotations

import io
from typing import Any

import scenarios
from archives_factory import class_folders, zip_of
from django.utils import timezone

from finetuning import tasks
from finetuning.models import Attempt, Dataset, Run
from finetuning.services import datasets, runs
from marketplace.accounts.models import Namespace, User

World = dict[str, Any]


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
