"""The store of blobs in a bucket, against a server that speaks S3's protocol."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import bucket_server
import pytest
import scenarios
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client, RequestFactory
from django.utils import timezone
from worlds import World, claimed_run, received, shapes

from finetuning import tasks
from finetuning.services import garbage, kept_checkpoints, leftovers
from marketplace import buckets, storage
from marketplace.downloads import blob_response
from marketplace.errors import DomainError
from marketplace.storage_settings import storage as parsed

pytestmark = pytest.mark.django_db(transaction=True)
MIB = 2**20
LATER = timedelta(days=3)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    keys = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch, bucket_server.serving() as address:
        for name, value in keys.items():
            patch.setenv(name, value)
        yield address


@pytest.fixture(autouse=True)
def objects(server: str, tmp_path: Path, settings: Any) -> Any:
    """The bucket of this test's site, as its operator sees it; the site's part of it is below `site/`."""
    name = f"bucket-{tmp_path.name.replace('_', '-')}"[:63].rstrip("-").lower()
    found = boto3.resource("s3", endpoint_url=server).create_bucket(Bucket=name)
    settings.STORAGE_DIR, settings.STORAGE_BUCKET = parsed(
        f"s3://{name}/site?endpoint_url={server}&region_name=us-east-1", data_dir=tmp_path
    )
    return found


class BrokenOff(io.BytesIO):
    """A sender that goes away after some mebibytes."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 20 * MIB:
            raise OSError("the client went away")
        return super().read(size)


def on_disk(settings: Any) -> list[str]:
    return [path.name for path in Path(settings.STORAGE_DIR).rglob("*") if path.is_file() and path.name != ".lock"]


def key(sha256: str) -> str:
    return f"site/{sha256[:2]}/{sha256[2:4]}/{sha256}"


@pytest.mark.parametrize("size", [1, 5 * MIB, 40 * MIB])
def test_a_blob_comes_back_as_it_was_and_leaves_nothing_on_the_disk(objects: Any, settings: Any, size: int) -> None:
    content = os.urandom(size)

    blob = storage.put_bytes(content)

    assert [item.key for item in objects.objects.all()] == [key(blob.sha256)]
    assert (storage.size_of(blob.sha256), storage.exists("0" * 64)) == (size, False)
    assert b"".join(storage.chunks(blob.sha256)) == content
    assert b"".join(storage.chunks(blob.sha256, start=size // 2, length=7)) == content[size // 2 :][:7]
    assert storage.is_whole(blob.sha256)
    assert not on_disk(settings)


def test_an_upload_that_breaks_off_or_arrives_damaged_leaves_nothing(objects: Any, settings: Any) -> None:
    with pytest.raises(DomainError, match="broke off"):
        storage.put(BrokenOff(bytes(40 * MIB)), max_bytes=100 * MIB)
    with pytest.raises(DomainError, match="arrived damaged"):
        storage.put(io.BytesIO(b"x"), max_bytes=MIB, expected_sha256="0" * 64)

    assert not list(objects.objects.all())
    assert not on_disk(settings)


def test_of_an_upload_in_parts_nothing_shows_before_its_end_and_an_old_one_is_dropped(
    objects: Any,
) -> None:
    """The server of this test dates every upload to 2010."""
    begun = objects.Object(key("ab" * 32)).initiate_multipart_upload()
    begun.Part(1).upload(Body=bytes(5 * MIB))

    assert not storage.exists("ab" * 32)
    assert leftovers.sweep(now=timezone.now()) >= 1  # other tests of this process leave files too
    assert not list(objects.multipart_uploads.all())


def test_what_no_row_names_goes_and_what_a_row_names_stays(objects: Any) -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    kept = set(release.artifacts.values_list("sha256", flat=True))
    scenarios.blob(b"nobody's")
    objects.put_object(Key="another/site", Body=b"not ours")

    assert garbage.collect(now=timezone.now()).blobs == 0
    assert garbage.collect(now=timezone.now() + LATER, dry_run=True) == garbage.Collected(1, 8)
    assert garbage.collect(now=timezone.now() + LATER) == garbage.Collected(1, 8)

    assert set(storage.stored()) == kept
    assert "another/site" in [item.key for item in objects.objects.all()]


def test_bytes_that_are_stored_again_are_young_again() -> None:
    sha256 = scenarios.blob(b"the same").sha256
    _, first = buckets.bucket().look(sha256) or pytest.fail("not stored")
    while (buckets.bucket().look(sha256) or (0, first))[1] == first:  # a server of S3 tells whole seconds
        scenarios.blob(b"the same")

    assert storage.remove_if_old(sha256, before=first + timedelta(seconds=1)) is None
    assert storage.remove_if_old(sha256, before=timezone.now() + LATER) == 8


def test_nothing_is_removed_while_somebody_stores(objects: Any) -> None:
    sha256 = scenarios.blob(b"fought over").sha256
    removed = []

    def remove() -> None:
        removed.append(storage.remove_if_old(sha256, before=timezone.now() + LATER))
        connections.close_all()

    thread = threading.Thread(target=remove)
    with buckets.publishing():
        thread.start()
        thread.join(0.3)
        waited = thread.is_alive() and storage.exists(sha256)
    thread.join(60)

    assert (waited, removed) == (True, [11])
    assert not list(objects.objects.all())


def test_a_part_of_a_large_file_is_read_in_constant_memory() -> None:
    content = os.urandom(MIB) * 64
    blob = storage.put_bytes(content)
    request = RequestFactory().get("/", headers={"Range": f"bytes={MIB - 3}-"})
    tracemalloc.start()

    answer = blob_response(request, sha256=blob.sha256, size=blob.bytes, filename="weights")
    size = sum(len(chunk) for chunk in answer)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (answer.status_code, size) == (206, 63 * MIB + 3)
    assert answer["Content-Range"] == f"bytes {MIB - 3}-{64 * MIB - 1}/{64 * MIB}"
    assert peak < 40 * MIB


def test_an_engine_gets_a_copy_that_was_compared_with_its_name(objects: Any, tmp_path: Path, settings: Any) -> None:
    good, bad = scenarios.blob(b"good").sha256, scenarios.blob(b"bad").sha256
    objects.put_object(Key=key(bad), Body=b"bid")

    storage.link_into(good, tmp_path / "run" / "good")
    with pytest.raises(DomainError, match="damaged"):
        storage.link_into(bad, tmp_path / "run" / "bad")
    with pytest.raises(DomainError, match="lost this file"):
        storage.link_into("0" * 64, tmp_path / "run" / "none")

    assert (tmp_path / "run" / "good").read_bytes() == b"good"
    assert on_disk(settings) == [good]
    assert leftovers.sweep(now=timezone.now() + LATER) == 1
    assert (on_disk(settings), storage.exists(good)) == ([], True)


def test_a_checkpoint_travels_to_another_machine_and_is_no_garbage_meanwhile(
    world: World, objects: Any, tmp_path: Path, settings: Any
) -> None:
    settings.STORAGE_IS_SHARED = True
    first, second, name = tmp_path / "first", tmp_path / "second", "checkpoints/000000000007.ckpt"
    state = os.urandom(20 * MIB)
    (first / name).parent.mkdir(parents=True)
    (first / name).write_bytes(hashlib.sha256(state).digest() + state)
    second.mkdir()
    run, _ = claimed_run(world)

    kept = kept_checkpoints.keep(first, goes_on=lambda: True)
    run.checkpoints = kept
    run.save()
    garbage.collect(now=timezone.now() + LATER)
    kept_checkpoints.lay(second, kept, goes_on=lambda: True)

    assert key(kept[name]) in {entry.key for entry in objects.objects.all()}
    assert on_disk(settings) == []
    assert (second / name).read_bytes() == (first / name).read_bytes()


def test_a_bucket_that_goes_away_while_a_checkpoint_is_stored_keeps_no_run_from_its_pause(
    tmp_path: Path, settings: Any
) -> None:
    settings.STORAGE_IS_SHARED = True
    settings.STORAGE_DIR, settings.STORAGE_BUCKET = parsed(
        "s3://nobody/site?endpoint_url=http://127.0.0.1:9&region_name=us-east-1", data_dir=tmp_path
    )
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/000000000007.ckpt").write_bytes(hashlib.sha256(b"a state").digest() + b"a state")

    assert kept_checkpoints.keep(tmp_path, goes_on=lambda: True) == {}


def test_an_upload_is_inspected_by_the_real_engine() -> None:
    dataset = received(scenarios.person("bo"), shapes())

    tasks.inspect_dataset(dataset.pk)

    dataset.refresh_from_db()
    assert (dataset.status, dataset.problems) == ("valid", [])
    assert dataset.upload_sha256 in set(storage.stored())


def test_verify_finds_what_is_missing_or_damaged(objects: Any) -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    missing, damaged = release.artifacts.values_list("sha256", flat=True).distinct()[:2]
    objects.Object(key(missing)).delete()
    objects.put_object(Key=key(damaged), Body=b"other bytes")
    out = io.StringIO()

    with pytest.raises(CommandError, match="backup"):
        call_command("verify_storage", stdout=out)

    assert f"missing {missing}\ndamaged {damaged}\n" in out.getvalue()
    assert "1 missing, 1 damaged, 0 orphaned" in out.getvalue()


def test_a_store_that_does_not_answer_is_said_and_loses_nothing(client: Client, settings: Any) -> None:
    sha256 = scenarios.blob(b"kept").sha256
    address = f"http://127.0.0.1:{bucket_server.free_port()}"
    reached, settings.STORAGE_BUCKET = settings.STORAGE_BUCKET, {**settings.STORAGE_BUCKET, "endpoint_url": address}

    with pytest.raises(DomainError) as caught:
        scenarios.blob(b"new")
    with pytest.raises(DomainError):
        storage.exists(sha256)
    answer = client.get("/readyz")

    assert (caught.value.code, caught.value.status) == ("storage_failed", 503)
    assert (answer.status_code, answer.json()["faults"]) == (503, ["storage_unreachable"])
    settings.STORAGE_BUCKET = reached
    assert client.get("/readyz").status_code == 200
    assert storage.exists(sha256)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://host/x", "must be file:///path or s3://"),
        ("s3:///prefix", "must be file:///path or s3://"),
        ("s3://key:secret@bucket", "no credentials"),
        ("s3://bucket?acl=public-read", "not acl"),
    ],
)
def test_an_address_that_names_no_store_is_refused_with_the_right_form(url: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=words):
        parsed(url, data_dir=tmp_path)
