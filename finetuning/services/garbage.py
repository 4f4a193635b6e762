"""Which blobs somebody needs, and the removal of those that nobody does."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.apps import apps
from django.conf import settings
from django.db import models
from django.db.models.functions import Cast

from finetuning.models import Dataset, DatasetVersion, Run
from marketplace import storage
from marketplace.queue_settings import VERBS_OF_A_RUN
from models_catalog.models import Artifact

# A blob is stored before the row that names it: seconds before as a rule, and never longer than a run may take.
KEPT_FOR = timedelta(hours=24)
_OURS = ("marketplace", "accounts", "uploads", "models_catalog", "finetuning")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DIGEST_CHARACTERS = 64
_ROWS = 500


@dataclass(frozen=True, slots=True)
class Collected:
    blobs: int
    bytes: int


def collect(*, now: datetime, dry_run: bool = False) -> Collected:
    """Removes blobs that no row names and that were last stored a day ago, and says how many those were.

    The order makes it safe: first the blobs, then the rows, then each removal asks again how old the blob is. A row
    that names a blob since then belongs to whoever stored it since then, or took the name from a row."""
    before = now - max(KEPT_FOR, VERBS_OF_A_RUN * timedelta(seconds=settings.RUN_DEADLINE_SECONDS))
    old = [sha256 for sha256 in storage.stored() if storage.is_old(sha256, before=before)]
    if not old:
        return Collected(0, 0)
    # Twice: a name that moves from a row not read yet to one read already is found by the second reading.
    kept = set(mentioned()) | set(mentioned())
    sizes = [_size_of_removed(sha256, before, dry_run=dry_run) for sha256 in old if sha256 not in kept]
    removed = [size for size in sizes if size is not None]
    return Collected(len(removed), sum(removed))


def _size_of_removed(sha256: str, before: datetime, *, dry_run: bool) -> int | None:
    if dry_run:
        return storage.size_of(sha256)
    return storage.remove_if_old(sha256, before=before)


def mentioned() -> Iterator[str]:
    """Yields whatever looks like a digest in any column of ours that could hold one, JSON included.

    A list of the columns that matter would forget one some day, and what it forgets is deleted. Digests that name
    no blob do no harm here."""
    for model in apps.get_models():
        if model._meta.app_label in _OURS:  # noqa: SLF001 - Django's documented way to a model's fields
            for field in model._meta.concrete_fields:  # noqa: SLF001
                if _may_hold_a_digest(field):
                    yield from _digests_in(model, field.attname)


def _may_hold_a_digest(field: models.Field[object, object]) -> bool:
    if isinstance(field, models.JSONField | models.TextField):
        return True
    return isinstance(field, models.CharField) and (field.max_length or _DIGEST_CHARACTERS) >= _DIGEST_CHARACTERS


def _digests_in(model: type[models.Model], column: str) -> Iterator[str]:
    rows = model._base_manager.annotate(as_text=Cast(column, models.TextField()))  # noqa: SLF001 - hides no row
    for text in rows.values_list("as_text", flat=True).iterator(chunk_size=_ROWS):
        yield from _DIGEST.findall(text or "")


def needed() -> set[str]:
    """Returns the blobs that must be there: files of releases, uploads and packs of datasets, results of runs."""
    packs = ("train_pack_sha256", "test_pack_sha256", "thumbnails_sha256", "index_sha256")
    versions = DatasetVersion.objects.filter(dataset__deleted_at__isnull=True)
    runs = Run.objects.values_list("artifacts", flat=True).iterator(chunk_size=_ROWS)
    names = itertools.chain(
        Artifact.objects.values_list("sha256", flat=True),
        Dataset.objects.filter(deleted_at__isnull=True).values_list("upload_sha256", flat=True),
        itertools.chain.from_iterable(versions.values_list(*packs)),
        (entry["sha256"] for artifacts in runs for entry in artifacts.values()),
    )
    return {name for name in names if name}
