"""The write side of Xet: a file is made of bytes that its sender has sent, in this upload, for this repository."""

from __future__ import annotations

import hashlib
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import xet_factory
from django.conf import LazySettings
from django.core.cache import caches
from django.db import connections
from django.test import Client
from django.utils import timezone
from test_hub_uploads import Pusher, pointer, pusher

from marketplace import storage
from marketplace.errors import Invalid
from marketplace.rate_settings import Rate
from models_catalog.hub import passes
from models_catalog.models import Listing, SentFile
from models_catalog.services import parts, xet

pytestmark = pytest.mark.django_db
CONTENT = b"weights of a net " * 999
XORBS, SHARD, SHA256 = xet_factory.one_file(CONTENT)


class Session:
    """One upload, as hf-xet makes it."""

    def __init__(self, sender: Pusher, repository: str = "vera/net") -> None:
        given = sender.ask("GET", f"/api/models/{repository}/xet-write-token/main").json()
        self.address, self.token = urlsplit(given["casUrl"]).path, given["accessToken"]

    @property
    def name(self) -> str:
        return self.address.rpartition("/")[2]

    def ask(self, method: str, path: str, content: bytes = b"", *, token: str = "") -> Any:
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return Client().generic(method, f"{self.address}{path}", content, headers=headers)

    def send(self, xorbs: dict[str, bytes] = XORBS) -> list[int]:
        sent = [self.ask("POST", f"/v1/xorbs/default/{name}", content) for name, content in xorbs.items()]
        return [answer.status_code for answer in sent]

    def finish(self, shard: bytes = SHARD) -> Any:
        return self.ask("POST", "/v1/shards", shard)


@pytest.fixture(autouse=True)
def _own_blobs(tmp_path: Path, settings: LazySettings) -> None:
    """Sessions leave folders behind, which other tests would find."""
    settings.STORAGE_DIR = tmp_path / "blobs"


@pytest.fixture
def vera() -> Pusher:
    sender = pusher("vera")
    assert sender.ask("POST", "/api/repos/create", {"name": "net"}).status_code == 200
    return sender


def test_chunks_become_a_file_that_a_commit_may_name(vera: Pusher) -> None:
    session = Session(vera)

    assert session.ask("GET", "/v1/chunks/default/" + "0" * 64).status_code == 404
    assert session.ask("POST", "/v1/xorb-grants/default/" + "0" * 64).status_code == 404
    assert session.ask("POST", "/v2/shards", SHARD).status_code == 404
    assert session.send() == [200]
    again = session.ask("POST", f"/v1/xorbs/default/{next(iter(XORBS))}", b"other bytes")
    assert again.json() == {"was_inserted": False}
    assert session.finish().json() == {"result": 1}
    assert vera.commit("vera/net", pointer("model.safetensors", SHA256, len(CONTENT))).status_code == 200
    served = vera.ask("GET", "/vera/net/resolve/main/model.safetensors")
    assert served.getvalue() == CONTENT
    assert not any("xet" in name.lower() for name in served.headers)


def test_chunks_of_another_upload_are_not_found(vera: Pusher) -> None:
    first = Session(vera)
    first.send()
    first.finish()
    thief = pusher("sam")
    thief.ask("POST", "/api/repos/create", {"name": "mine"})

    for other in (Session(thief, "sam/mine"), Session(vera)):
        assert other.finish().status_code == 400
    stolen = thief.commit("sam/mine", pointer("model.safetensors", SHA256, len(CONTENT)))
    assert stolen.status_code == 400


def test_a_sessions_token_opens_no_other_session_and_is_no_token_of_the_api(vera: Pusher) -> None:
    one, other = Session(vera), Session(vera)
    leave = passes.Pass(passes.XET, vera.user.pk, Listing.objects.get().pk, one.name)
    expired = passes.issue(leave, now=timezone.now() - passes.LIFETIME - timedelta(seconds=1))

    name = next(iter(XORBS))
    for token in (other.token, expired, vera.secret, "x"):
        assert one.ask("POST", f"/v1/xorbs/default/{name}", XORBS[name], token=token).status_code == 403
    assert Client().post(f"{one.address}/v1/shards").status_code == 401
    assert Pusher(vera.user, one.token).ask("GET", "/api/whoami-v2").status_code == 401
    assert not parts.folder(one.name, user=vera.user.pk).exists()


def test_only_who_may_write_gets_a_session(vera: Pusher) -> None:
    address = "/api/models/vera/net/xet-write-token/main"

    assert pusher("sam").ask("GET", address).status_code == 404
    assert pusher("vera", "models:read").ask("GET", address).status_code == 403
    assert Client().get(address).status_code == 401
    assert vera.ask("GET", f"{address}?create_pr=1").status_code == 501


def test_who_may_not_write_any_more_loses_the_session(vera: Pusher) -> None:
    session = Session(vera)
    session.send()
    vera.user.is_active = False
    vera.user.save()

    assert session.finish().status_code == 403
    assert not SentFile.objects.exists()


@pytest.mark.parametrize("name", ["x", "../../etc", "0" * 63, "G" * 64, "%2e%2e%2fx"])
def test_a_xorb_has_the_name_of_a_hash(vera: Pusher, name: str) -> None:
    assert Session(vera).ask("POST", f"/v1/xorbs/default/{name}", b"x").status_code in {400, 404}


def test_bytes_that_are_not_what_they_say_are_refused_and_leave_nothing(vera: Pusher) -> None:
    session = Session(vera)
    session.send()
    xorb = next(iter(XORBS.values()))
    run = xet_factory.segment(xet_factory.digest_of(xorb), len(CONTENT), 0, 3)
    lies = xet_factory.shard(xet_factory.entry([run], hashlib.sha256(b"other").hexdigest()))

    refused = [session.finish(shard) for shard in (lies, b"no shard", SHARD[:100], b"")]

    assert [answer.status_code for answer in refused] == [400, 400, 400, 400]
    assert not SentFile.objects.exists()
    assert [path.name for path in parts.folder(session.name, user=vera.user.pk).iterdir()] == list(XORBS)


def test_an_upload_larger_than_a_file_may_be_is_refused(vera: Pusher, settings: LazySettings) -> None:
    session = Session(vera)
    session.send()
    settings.MAX_ARTIFACT_BYTES = len(CONTENT) - 1

    refused = session.finish()

    assert (refused.status_code, "longer than the limit" in refused["X-Error-Message"]) == (400, True)


def test_chunks_that_unpack_to_more_than_the_disk_has_room_for_are_refused_before(
    vera: Pusher, settings: LazySettings
) -> None:
    """0.6 MB that are 10 GiB: few chunks of zeros, named again and again."""
    chunks = 1024
    xorb = xet_factory.chunk(bytes(128 * 1024), xet_factory.LZ4) * chunks
    digest = xet_factory.digest_of(xorb)
    bomb = xet_factory.shard(xet_factory.entry([xet_factory.segment(digest, chunks * 128 * 1024, 0, chunks)] * 80))
    session = Session(vera)
    assert session.send({xet_factory.name(digest): xorb}) == [200]
    settings.MIN_FREE_DISK_BYTES = shutil.disk_usage(settings.STORAGE_DIR).free - 2**30

    refused = session.finish(bomb)

    assert (refused.status_code, "no room" in refused["X-Error-Message"]) == (507, True)
    assert not SentFile.objects.exists()


def test_a_disk_at_its_reserve_puts_nothing_together(vera: Pusher, settings: LazySettings) -> None:
    session = Session(vera)
    session.send()
    settings.MIN_FREE_DISK_BYTES = 2**60

    assert session.finish().status_code == 507
    assert Session(vera).send() == [507]


class Slow:
    """A shard that is still on its way while others come, and is none in the end."""

    def __init__(self) -> None:
        self.has_begun, self.may_end = threading.Event(), threading.Event()

    def read(self, _size: int = -1, /) -> bytes:
        self.has_begun.set()
        self.may_end.wait(60)
        return b""


def test_few_uploads_are_put_together_at_once_and_one_of_an_account(vera: Pusher, settings: LazySettings) -> None:
    sam = pusher("sam")
    sam.ask("POST", "/api/repos/create", {"name": "mine"})
    hers, his, slow = Session(vera), Session(sam, "sam/mine"), Slow()
    hers.send()
    his.send()
    given = {"user": vera.user, "listing": Listing.objects.get(name="net"), "session": "x", "now": timezone.now()}

    def rebuild() -> None:
        try:
            xet.rebuild(stream=slow, **given)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(rebuild)
        assert slow.has_begun.wait(60)
        second = hers.finish()
        settings.MAX_REBUILDS = 1
        beyond = his.finish()
        settings.MAX_REBUILDS = 2
        beside = his.finish()
        slow.may_end.set()

    assert (second.status_code, second["Retry-After"]) == (503, "10")
    assert (beyond.status_code, beside.status_code) == (503, 200)
    assert isinstance(first.exception(), Invalid)
    assert hers.finish().status_code == 200


def test_a_file_that_a_shard_makes_twice_is_stored_once(vera: Pusher) -> None:
    session = Session(vera)
    session.send()
    run = xet_factory.segment(xet_factory.digest_of(next(iter(XORBS.values()))), len(CONTENT), 0, 3)

    assert session.finish(xet_factory.shard(*[xet_factory.entry([run], SHA256)] * 2)).status_code == 200
    assert [(row.sha256, row.bytes) for row in SentFile.objects.all()] == [(SHA256, len(CONTENT))]
    assert b"".join(storage.chunks(SHA256)) == CONTENT


def test_what_is_sent_with_a_pass_counts_as_calls_of_its_account(vera: Pusher, settings: LazySettings) -> None:
    session = Session(vera)
    settings.RATE_LIMIT_PLANS = {"standard": Rate(1, 60)}
    cache = caches["throttles"]
    cache.clear()

    answers = session.send(XORBS) + [status for _ in range(5) for status in session.send(XORBS)]

    assert answers == [200] * 5 + [429]
    cache.clear()


def test_what_is_sent_and_not_committed_has_an_end_and_a_commit_makes_room(
    vera: Pusher, settings: LazySettings
) -> None:
    session, another = Session(vera), Session(vera)
    session.send()
    settings.MAX_UNCOMMITTED_BYTES = len(CONTENT) + sum(map(len, XORBS.values())) - 1
    too_long = session.finish()
    settings.MAX_UNCOMMITTED_BYTES += 1
    fits = session.finish()
    more, asked = another.send(), vera.ask("GET", "/api/models/vera/net/xet-write-token/main")

    assert (too_long.status_code, "at most" in too_long["X-Error-Message"]) == (413, True)
    assert (fits.status_code, more, asked.status_code) == (200, [413], 413)
    assert vera.commit("vera/net", pointer("model.safetensors", SHA256, len(CONTENT))).status_code == 200
    assert another.send() == [200]
