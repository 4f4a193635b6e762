from __future__ import annotations

import io
import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import scenarios
from django.core.management import CommandError, call_command
from django.utils import timezone
from worlds import dataset_of

from finetuning.models import Dataset
from finetuning.services import garbage
from marketplace import storage
from marketplace.accounts.models import Namespace

pytestmark = pytest.mark.django_db(transaction=True)
DAYS_LATER = timedelta(days=3)


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, settings: Any) -> None:
    settings.STORAGE_DIR = tmp_path / "blobs"


def aged(sha256: str) -> str:
    moment = (timezone.now() - DAYS_LATER).timestamp()
    os.utime(storage.path_of(sha256), (moment, moment))
    return sha256


def printed(command: str, *arguments: str) -> str:
    out = io.StringIO()
    try:
        call_command(command, *arguments, stdout=out)
    except CommandError as error:
        return f"{out.getvalue()}exit 1: {error}"
    return out.getvalue()


def test_what_no_row_names_goes_a_day_after_it_was_stored() -> None:
    young, old = scenarios.blob(b"young").sha256, aged(scenarios.blob(b"old").sha256)

    assert garbage.collect(now=timezone.now(), dry_run=True) == garbage.Collected(1, 3)
    assert storage.exists(old)

    assert garbage.collect(now=timezone.now()) == garbage.Collected(1, 3)
    assert (storage.exists(young), storage.exists(old)) == (True, False)


def test_files_of_releases_and_datasets_stay_however_old_they_are() -> None:
    vendor = scenarios.person("vera")
    release = scenarios.published_release(vendor)
    dataset = dataset_of(Namespace.objects.get(user=vendor))
    kept = {*release.artifacts.values_list("sha256", flat=True), dataset.upload_sha256}
    assert kept <= set(storage.stored())

    garbage.collect(now=timezone.now() + DAYS_LATER)

    assert set(storage.stored()) == kept


def test_a_name_deep_in_a_document_keeps_its_blob() -> None:
    dataset = dataset_of(Namespace.objects.get(user=scenarios.person("bo")))
    sha256 = aged(scenarios.blob(b"a drawing").sha256)
    Dataset.objects.filter(pk=dataset.pk).update(problems=[{"items": [{"drawing": {"sha256": sha256}}]}])

    garbage.collect(now=timezone.now())

    assert storage.exists(sha256)


def test_bytes_that_are_stored_again_are_young_again() -> None:
    now = timezone.now()
    sha256 = aged(scenarios.blob(b"the same").sha256)
    assert storage.is_old(sha256, before=now - timedelta(days=1))

    scenarios.blob(b"the same")  # between the look at the disk and the removal

    assert storage.remove_if_old(sha256, before=now - timedelta(days=1)) is None
    assert storage.exists(sha256)


def test_no_upload_ever_loses_its_blob_to_a_removal_at_the_same_time() -> None:
    before, ended, removed, lost = timezone.now() - timedelta(days=1), threading.Event(), [], []
    sha256 = scenarios.blob(b"fought over").sha256

    def remove() -> None:
        while not ended.is_set():
            if storage.remove_if_old(sha256, before=before) is not None:
                removed.append(1)

    removers = [threading.Thread(target=remove) for _ in range(2)]
    for thread in removers:
        thread.start()
    for _ in range(300):
        scenarios.blob(b"fought over")
        if not storage.exists(sha256):
            lost.append(1)
            continue
        aged(sha256)
    ended.set()
    for thread in removers:
        thread.join()

    assert not lost
    assert removed


def test_verify_lists_what_is_missing_damaged_or_orphaned_and_changes_nothing() -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    missing, damaged = release.artifacts.values_list("sha256", flat=True).distinct()[:2]
    orphan = scenarios.blob(b"nobody's").sha256
    assert "0 missing, 0 damaged, 1 orphaned" in printed("verify_storage")
    storage.path_of(missing).unlink()
    path = storage.path_of(damaged)
    path.chmod(0o600)
    path.write_bytes(b"!" + path.read_bytes()[1:])
    before = set(storage.stored())

    report = printed("verify_storage")

    assert f"missing {missing}\n" in report
    assert f"damaged {damaged}\n" in report
    assert f"orphaned {orphan}\n" in report
    assert "1 missing, 1 damaged, 1 orphaned" in report
    assert "exit 1: Bring the missing and damaged files back" in report
    assert set(storage.stored()) == before


def test_the_reaper_collects() -> None:
    old = aged(scenarios.blob(b"old").sha256)

    call_command("reaper", "--once")

    assert not storage.exists(old)
    assert "0 blobs removed" in printed("collect_garbage")
