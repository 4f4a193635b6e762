"""Large files of Hub clients by LFS: whose bytes count, and what is refused on the way."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import scenarios
from django.conf import LazySettings
from django.test import Client
from django.utils import timezone
from test_hub_uploads import Pusher, pointer, pusher

from finetuning.services import garbage, leftovers
from marketplace import storage
from models_catalog.hub import passes
from models_catalog.models import Listing, SentFile
from models_catalog.services import parts, publishing, sent_files

pytestmark = pytest.mark.django_db
WEIGHTS = b"weights of a net " * 1000
OID = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture(autouse=True)
def _own_blobs(tmp_path: Path, settings: LazySettings) -> None:
    """Parts stay behind, which other tests would find."""
    settings.STORAGE_DIR = tmp_path / "blobs"


@pytest.fixture
def vera() -> Pusher:
    sender = pusher("vera")
    assert sender.ask("POST", "/api/repos/create", {"name": "net"}).status_code == 200
    return sender


def batch(sender: Pusher, oid: str = OID, size: int = len(WEIGHTS), *, name: str = "vera/net") -> Any:
    asked = {
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "objects": [{"oid": oid, "size": size}],
        "hash_algo": "sha256",
    }
    kind = "application/vnd.git-lfs+json"
    headers = {"Authorization": f"Bearer {sender.secret}", "Accept": kind}
    return Client().post(f"/{name}.git/info/lfs/objects/batch", asked, content_type=kind, headers=headers)


def href(answer: Any) -> str:
    return urlsplit(answer.json()["objects"][0]["actions"]["upload"]["href"]).path


def put(address: str, content: bytes) -> Any:
    return Client().generic("PUT", address, content)


def is_here(answer: Any) -> bool:
    return "actions" not in answer.json()["objects"][0]


def test_a_large_file_is_sent_once_and_then_named_by_its_digest(vera: Pusher) -> None:
    asked = batch(vera)

    sent = put(href(asked), WEIGHTS)

    assert (sent.status_code, is_here(batch(vera))) == (200, True)
    verify = urlsplit(asked.json()["objects"][0]["actions"]["verify"]["href"]).path
    told = {"oid": OID, "size": len(WEIGHTS)}
    assert vera.ask("POST", verify, told).status_code == 200
    assert vera.ask("POST", verify, {**told, "size": 5}).status_code == 404
    assert vera.commit("vera/net", pointer("model.safetensors", OID, len(WEIGHTS))).status_code == 200
    assert vera.ask("GET", "/vera/net/resolve/main/model.safetensors").getvalue() == WEIGHTS


def test_another_persons_bytes_are_neither_here_nor_to_be_committed(vera: Pusher) -> None:
    put(href(batch(vera)), WEIGHTS)
    thief = pusher("sam")
    thief.ask("POST", "/api/repos/create", {"name": "mine"})

    asked = batch(thief, name="sam/mine")
    theft = thief.commit("sam/mine", pointer("model.safetensors", OID, len(WEIGHTS)))

    assert (is_here(asked), theft.status_code) == (False, 400)
    assert thief.files("sam/mine") == []
    assert batch(thief).status_code == 404
    # The same person's other repository is no door either.
    vera.ask("POST", "/api/repos/create", {"name": "other"})
    assert not is_here(batch(vera, name="vera/other"))


@pytest.mark.parametrize(
    ("content", "status"), [(b"other " + WEIGHTS[6:], 400), (WEIGHTS[:-1], 400), (WEIGHTS + b"x", 413), (b"", 400)]
)
def test_other_bytes_than_were_announced_are_refused(vera: Pusher, content: bytes, status: int) -> None:
    assert put(href(batch(vera)), content).status_code == status
    assert not is_here(batch(vera))
    assert vera.commit("vera/net", pointer("model.safetensors", OID, len(WEIGHTS))).status_code == 400


def test_a_wrong_size_is_refused_although_the_digest_is_right(vera: Pusher) -> None:
    assert put(href(batch(vera, size=len(WEIGHTS) + 5)), WEIGHTS).status_code == 400
    assert not SentFile.objects.exists()


def test_an_address_that_expired_was_changed_or_made_up_is_refused(vera: Pusher) -> None:
    leave = passes.Pass(passes.LFS, vera.user.pk, Listing.objects.get().pk, OID, size=len(WEIGHTS))
    expired = passes.issue(leave, now=timezone.now() - passes.LIFETIME - timedelta(seconds=1))
    session = passes.issue(passes.Pass(passes.XET, **{**vars_of(leave), "subject": OID}), now=timezone.now())
    good = href(batch(vera)).rpartition("/")[2]

    for token in (expired, session, good[:-1] + ("a" if good[-1] != "a" else "b"), "made-up"):
        assert put(f"/api/lfs/{token}", WEIGHTS).status_code == 403
    assert not SentFile.objects.exists()
    assert put(f"/api/lfs/{good}", WEIGHTS).status_code == 200


def vars_of(leave: passes.Pass) -> dict[str, Any]:
    return {"user": leave.user, "listing": leave.listing, "size": leave.size}


def test_who_may_not_write_any_more_cannot_use_an_earlier_address(vera: Pusher) -> None:
    address = href(batch(vera))
    vera.user.is_active = False
    vera.user.save()

    assert put(address, WEIGHTS).status_code == 403


def test_a_file_in_parts_is_joined_when_all_are_here(vera: Pusher, settings: LazySettings) -> None:
    settings.LFS_PART_BYTES = 7000
    asked = batch(vera).json()
    assert asked["transfer"] == "multipart"
    upload = asked["objects"][0]["actions"]["upload"]
    pieces = [WEIGHTS[start : start + 7000] for start in range(0, len(WEIGHTS), 7000)]
    addresses = [urlsplit(upload["header"][str(number + 1)]).path for number in range(len(pieces))]
    assert len(upload["header"]) == len(pieces) + 1

    early = Client().generic("POST", urlsplit(upload["href"]).path)
    short = put(addresses[0], pieces[0][:-1])
    long = put(addresses[-1], pieces[-1] + b"x")
    assert (early.status_code, short.status_code, long.status_code) == (400, 400, 413)
    tags = [put(address, piece)["ETag"] for address, piece in zip(addresses, pieces, strict=True)]
    done = Client().post(urlsplit(upload["href"]).path, {"oid": OID, "parts": tags}, content_type="application/json")
    again = Client().generic("POST", urlsplit(upload["href"]).path)

    assert (done.status_code, again.status_code, is_here(batch(vera))) == (200, 200, True)
    assert parts.held_bytes(vera.user.pk) == 0
    assert put(addresses[0].rpartition("/")[0] + "/99", b"x").status_code == 400


def test_a_file_larger_than_the_limit_is_refused_before_it_is_sent(vera: Pusher, settings: LazySettings) -> None:
    settings.MAX_ARTIFACT_BYTES = 100

    told = batch(vera).json()["objects"][0]
    preupload = vera.ask(
        "POST", "/api/models/vera/net/preupload/main", {"files": [{"path": "a.safetensors", "size": 101}]}
    )

    assert told["error"]["code"] == 413
    assert preupload.status_code == 413


@pytest.mark.parametrize("objects", [None, [{}], [{"oid": "x", "size": 1}], [{"oid": OID, "size": -1}], [5]])
def test_a_batch_that_cannot_be_read_is_refused(vera: Pusher, objects: Any) -> None:
    asked = {"operation": "upload", "objects": objects}
    assert vera.ask("POST", "/vera/net.git/info/lfs/objects/batch", asked).status_code == 400
    assert vera.ask("POST", "/vera/net.git/info/lfs/objects/batch", {"operation": "download"}).status_code == 501


def test_what_was_sent_and_never_committed_is_forgotten_with_its_bytes(vera: Pusher) -> None:
    put(href(batch(vera)), WEIGHTS)
    later = timezone.now() + 2 * sent_files.LIFETIME + timedelta(minutes=1)

    assert (
        sent_files.find(
            user=vera.user, listing=Listing.objects.get(), sha256=OID, now=timezone.now() + sent_files.LIFETIME
        )
        is None
    )
    leftovers.sweep(now=later)
    garbage.collect(now=later)

    assert (SentFile.objects.count(), storage.exists(OID)) == (0, False)


def test_parts_that_never_became_a_file_are_swept(vera: Pusher, settings: LazySettings) -> None:
    settings.LFS_PART_BYTES = 7000
    upload = batch(vera).json()["objects"][0]["actions"]["upload"]
    put(urlsplit(upload["header"]["1"]).path, WEIGHTS[:7000])
    assert parts.held_bytes(vera.user.pk) == 7000

    leftovers.sweep(now=timezone.now() + timedelta(days=1, minutes=1))

    assert parts.held_bytes(vera.user.pk) == 0


def test_only_pieces_that_have_arrived_are_counted(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"x" * 10)
    (tmp_path / ".draft").write_bytes(b"x" * 99)
    (tmp_path / "shard-").mkdir()

    assert parts.size_of(tmp_path) == 10


def test_a_draft_that_was_submitted_takes_no_large_file_either(vera: Pusher) -> None:
    release = scenarios.draft_release(vera.user, name="sold")
    publishing.submit(user=vera.user, release=release)
    put(href(batch(vera, name="vera/sold")), WEIGHTS)

    answer = vera.commit("vera/sold", pointer("x.safetensors", OID, len(WEIGHTS)), revision="1.0")

    assert answer.status_code == 403
    assert not release.artifacts.filter(sha256=OID).exists()


def test_what_is_sent_and_not_committed_has_an_end(vera: Pusher, settings: LazySettings) -> None:
    settings.LFS_PART_BYTES, settings.MAX_UNCOMMITTED_BYTES = 7000, len(WEIGHTS) + 99
    other = hashlib.sha256(b"other").hexdigest()
    known, small = batch(vera), batch(vera, other, 100)
    header = known.json()["objects"][0]["actions"]["upload"]["header"]
    for number, start in enumerate(range(0, len(WEIGHTS), 7000), 1):
        assert put(urlsplit(header[str(number)]).path, WEIGHTS[start : start + 7000]).status_code == 200

    assert put(href(small), b"x" * 100).status_code == 413
    assert put(urlsplit(header["1"]).path, WEIGHTS[:7000]).status_code == 413
    assert batch(vera, other, 100).status_code == 413
    assert batch(vera, other, 99).status_code == 200


def test_who_begins_again_fills_no_other_place(vera: Pusher, settings: LazySettings) -> None:
    settings.LFS_PART_BYTES = 7000
    for _ in range(3):
        upload = batch(vera).json()["objects"][0]["actions"]["upload"]
        assert put(urlsplit(upload["header"]["1"]).path, WEIGHTS[:7000]).status_code == 200

    assert parts.held_bytes(vera.user.pk) == 7000


def test_a_batch_that_the_disk_has_no_room_for_is_refused(vera: Pusher, settings: LazySettings) -> None:
    settings.MIN_FREE_DISK_BYTES = 2**60

    assert batch(vera).status_code == 507
