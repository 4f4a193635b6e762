from __future__ import annotations

import base64
import fcntl
import hashlib
import io
import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import scenarios
from django.conf import settings
from django.db import connection
from django.http import HttpResponse, UnreadablePostError
from django.test import Client
from django.utils import timezone

from finetuning.models import Dataset
from finetuning.services import garbage, leftovers
from marketplace import storage
from marketplace.accounts.models import Scope, User
from marketplace.accounts.services import tokens
from marketplace.errors import Broken
from marketplace.uploads import services
from marketplace.uploads.models import Upload

pytestmark = pytest.mark.django_db
CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ZIP = Path("static/examples/shapes.zip")
A_DAY = timedelta(hours=25)


@pytest.fixture(autouse=True)
def _own_blobs(tmp_path: Path, settings: Any) -> None:
    """Here garbage is collected as if days had passed; the blobs of other tests must survive it."""
    settings.STORAGE_DIR = tmp_path / "blobs"


@pytest.fixture
def buyer() -> User:
    return scenarios.person("bea")


@pytest.fixture
def client(buyer: User) -> Client:
    client = Client(headers={"Tus-Resumable": "1.0.0"})
    client.force_login(buyer)
    return client


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def begun(client: Client, length: int = len(CONTENT), **metadata: str) -> str:
    told = ",".join(f"{key} {encoded(value)}" for key, value in metadata.items())
    response = client.post("/api/v1/uploads/", headers={"Upload-Length": str(length), "Upload-Metadata": told})
    assert response.status_code == 201, response.content
    return response["Location"].removeprefix("http://testserver")


def piece(client: Client, url: str, offset: int, content: bytes, **headers: str) -> HttpResponse:
    return client.patch(
        url, content, content_type="application/offset+octet-stream", headers={"Upload-Offset": str(offset), **headers}
    )


def refusal(response: Any) -> tuple[int, str]:
    return response.status_code, json.loads(response.content)["code"]


def row(url: str) -> Upload:
    return Upload.objects.get(uid=url.split("/")[-2])


def incoming(url: str) -> Path:
    return Path(settings.STORAGE_DIR) / f"{storage.INCOMING}{row(url).uid.hex}"


def test_a_file_arrives_in_pieces_and_is_a_blob_with_its_last_byte(client: Client) -> None:
    url = begun(client, filename="fotos öl.zip")
    first = piece(client, url, 0, CONTENT[:4000])
    asked = client.head(url)
    last = piece(client, url, 4000, CONTENT[4000:])

    assert (first.status_code, first["Upload-Offset"]) == (204, "4000")
    assert (asked["Upload-Offset"], asked["Upload-Length"], asked["Cache-Control"]) == ("4000", "10240", "no-store")
    assert (last.status_code, last["Upload-Offset"], last["Tus-Resumable"]) == (204, "10240", "1.0.0")
    state = client.get(url).json()
    assert (state["sha256"], state["filename"], state["offset"]) == (SHA256, "fotos öl.zip", 10240)
    assert b"".join(storage.chunks(SHA256)) == CONTENT
    assert not incoming(url).exists()


def test_the_server_says_what_it_can(client: Client) -> None:
    answer = client.options("/api/v1/uploads/")

    assert answer.status_code == 204
    assert answer["Tus-Extension"].split(",") == ["creation", "expiration", "checksum", "termination"]
    assert int(answer["Tus-Max-Size"]) == settings.MAX_ARTIFACT_BYTES
    assert answer["Tus-Checksum-Algorithm"] == "sha256"


def test_a_piece_at_another_place_is_told_the_right_one(client: Client) -> None:
    url = begun(client)
    piece(client, url, 0, CONTENT[:4000])
    again = piece(client, url, 0, CONTENT[:4000])
    beyond = piece(client, url, 5000, CONTENT[5000:])

    assert refusal(again) == refusal(beyond) == (409, "wrong_offset")
    assert again["Upload-Offset"] == "4000"
    assert again.json()["offset"] == 4000
    assert piece(client, url, 4000, CONTENT[4000:]).status_code == 204


def test_a_damaged_piece_changes_nothing_and_can_be_sent_again(client: Client) -> None:
    url = begun(client)
    right = base64.b64encode(hashlib.sha256(CONTENT[:4000]).digest()).decode()
    damaged = piece(client, url, 0, CONTENT[1:4001], **{"Upload-Checksum": f"sha256 {right}"})

    assert refusal(damaged) == (460, "piece_damaged")
    assert client.head(url)["Upload-Offset"] == "0"
    assert piece(client, url, 0, CONTENT[:4000], **{"Upload-Checksum": f"sha256 {right}"}).status_code == 204


def test_a_file_with_another_digest_starts_again(client: Client) -> None:
    url = begun(client, sha256=SHA256)
    wrong = piece(client, url, 0, CONTENT[::-1])

    assert refusal(wrong) == (422, "checksum_mismatch")
    assert client.head(url)["Upload-Offset"] == "0"
    assert piece(client, url, 0, CONTENT).status_code == 204
    assert client.get(url).json()["sha256"] == SHA256


def test_no_more_is_taken_than_was_said(client: Client) -> None:
    url = begun(client, length=100)

    assert refusal(piece(client, url, 0, b"x" * 101)) == (413, "too_long")
    assert client.head(url)["Upload-Offset"] == "0"


def test_two_pieces_at_once_are_one_and_a_refusal(client: Client) -> None:
    url = begun(client)
    piece(client, url, 0, CONTENT[:100])
    with incoming(url).open("rb") as arriving:
        fcntl.flock(arriving, fcntl.LOCK_EX)
        assert refusal(piece(client, url, 100, CONTENT[100:])) == (409, "upload_locked")
        assert refusal(client.delete(url)) == (409, "upload_locked")

    assert piece(client, url, 100, CONTENT[100:]).status_code == 204


def test_a_piece_whose_upload_is_dropped_while_it_arrives_is_not_found(client: Client) -> None:
    url = begun(client)
    piece(client, url, 0, CONTENT[:100])
    arriving, looks = incoming(url), []

    def dropped_after_the_first_look(execute: Any, sql: str, *given: Any) -> Any:
        if sql.startswith("SELECT") and Upload._meta.db_table in sql:
            looks.append(sql)
            if len(looks) == 2:
                Upload.objects.all().delete()
                arriving.unlink()
        return execute(sql, *given)

    with connection.execute_wrapper(dropped_after_the_first_look):
        answer = piece(client, url, 100, CONTENT[100:])

    assert (answer.status_code, len(looks) >= 2, arriving.exists()) == (404, True, False)


def test_a_piece_for_an_upload_that_was_dropped_leaves_no_file(client: Client) -> None:
    known = row(begun(client))
    services.drop(Upload.objects.get(pk=known.pk), now=timezone.now())

    with pytest.raises(services.NoSuchUpload):
        services.append(upload=known, stream=io.BytesIO(CONTENT), offset=0, digest=None, now=timezone.now())
    assert list(Path(settings.STORAGE_DIR).iterdir()) == []


def test_what_came_before_the_line_broke_is_kept(buyer: User) -> None:
    class BrokenOff:
        left = [CONTENT[:4000]]

        def read(self, _size: int = -1, /) -> bytes:
            if not self.left:
                raise UnreadablePostError("the client went away")
            return self.left.pop()

    upload = services.begin(user=buyer, length=len(CONTENT), filename="", sha256="", now=timezone.now())
    with pytest.raises(Broken):
        services.append(upload=upload, stream=BrokenOff(), offset=0, digest=None, now=timezone.now())

    upload.refresh_from_db()
    assert upload.offset == 4000


def test_bytes_that_nobody_was_told_of_are_cut_off(client: Client) -> None:
    url = begun(client)
    piece(client, url, 0, CONTENT[:4000])
    with incoming(url).open("ab") as file:
        file.write(b"of a process that died before it could say so")
    piece(client, url, 4000, CONTENT[4000:])

    assert client.get(url).json()["sha256"] == SHA256


def test_a_disk_that_lost_what_had_arrived_makes_it_start_again(client: Client) -> None:
    url = begun(client)
    piece(client, url, 0, CONTENT[:4000])
    incoming(url).unlink()

    assert refusal(piece(client, url, 4000, CONTENT[4000:])) == (400, "upload_lost")
    assert client.head(url)["Upload-Offset"] == "0"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 422, "bad_header"),
        ({"Upload-Length": "-1"}, 422, "bad_header"),
        ({"Upload-Length": "1e3"}, 422, "bad_header"),
        ({"Upload-Length": "9" * 40}, 422, "bad_header"),
        ({"Upload-Length": "0"}, 422, "empty_file"),
        ({"Upload-Length": "99999999999999"}, 413, "too_large"),
        ({"Upload-Length": "5", "Upload-Metadata": "filename ###"}, 422, "bad_metadata"),
        ({"Upload-Length": "5", "Upload-Metadata": f"sha256 {encoded('abc')}"}, 422, "bad_metadata"),
        ({"Upload-Length": "5", "Tus-Resumable": "0.2.2"}, 412, "tus_version"),
    ],
)
def test_a_bad_beginning_says_what_to_send(client: Client, headers: dict[str, str], status: int, code: str) -> None:
    response = client.post("/api/v1/uploads/", headers=headers)

    assert refusal(response) == (status, code)
    assert response["Tus-Version"] == "1.0.0"
    assert not Upload.objects.exists()


def test_a_piece_of_another_kind_or_with_a_bad_checksum(client: Client) -> None:
    url = begun(client)

    assert client.patch(url, CONTENT, content_type="text/plain", headers={"Upload-Offset": "0"}).status_code == 415
    assert refusal(piece(client, url, 0, CONTENT, **{"Upload-Checksum": "md5 AAAA"})) == (422, "bad_checksum")
    assert client.head(url)["Upload-Offset"] == "0"


def test_there_is_an_end_to_uploads_under_way(client: Client, settings: Any) -> None:
    settings.MAX_OPEN_UPLOADS = 2
    urls = [begun(client), begun(client)]

    more = client.post("/api/v1/uploads/", headers={"Upload-Length": "5"})
    assert refusal(more) == (409, "too_many_uploads")
    piece(client, urls[0], 0, CONTENT)
    assert client.delete(urls[1]).status_code == 204
    assert begun(client)
    assert begun(client)


def test_a_disk_at_its_reserve_takes_no_more(client: Client, settings: Any) -> None:
    url = begun(client)
    piece(client, url, 0, CONTENT[:100])
    settings.MIN_FREE_DISK_BYTES = 2**60

    another = client.post("/api/v1/uploads/", headers={"Upload-Length": "1"})
    more = piece(client, url, 100, CONTENT[100:])

    assert refusal(another) == refusal(more) == (507, "storage_full")
    settings.MIN_FREE_DISK_BYTES = 0
    assert piece(client, url, 100, CONTENT[100:]).status_code == 204


def test_whole_uploads_count_too_and_for_a_day_those_that_were_deleted(
    client: Client, buyer: User, settings: Any
) -> None:
    settings.MAX_UNCOMMITTED_BYTES = len(CONTENT) + 100
    whole = begun(client)
    piece(client, whole, 0, CONTENT)
    begun(client, length=100)

    beyond = client.post("/api/v1/uploads/", headers={"Upload-Length": "1"})

    assert refusal(beyond) == (413, "too_much_uncommitted")
    assert client.delete(whole).status_code == 204
    assert refusal(client.get(whole)) == (410, "upload_expired")
    assert [found["length"] for found in client.get("/api/v1/uploads/").json()["results"]] == [100]
    still = client.post("/api/v1/uploads/", headers={"Upload-Length": "1"})
    assert refusal(still) == (413, "too_much_uncommitted")
    later = timezone.now() + A_DAY
    assert services.begin(user=buyer, length=len(CONTENT), filename="", sha256="", now=later)


def test_what_is_anothers_is_not_there(client: Client) -> None:
    url = begun(client)
    piece(client, url, 0, CONTENT)
    other = Client(headers={"Tus-Resumable": "1.0.0"})
    other.force_login(scenarios.person("carl"))

    assert [other.get(url).status_code, other.head(url).status_code, other.delete(url).status_code] == [404] * 3
    assert piece(other, url, 0, CONTENT).status_code == 404
    taken = other.post(
        "/api/v1/datasets/",
        {"name": "theirs", "task": "image-classification", "upload": str(row(url).uid)},
        content_type="application/json",
    )
    assert refusal(taken) == (422, "no_such_upload")
    assert other.get("/api/v1/uploads/").json()["results"] == []
    assert Client().get(url).status_code == 401


@pytest.mark.parametrize(
    ("scope", "status"), [(Scope.MODELS_WRITE, 201), (Scope.DATASETS_WRITE, 201), (Scope.RUNS_WRITE, 403)]
)
def test_a_token_needs_a_scope_that_has_a_use_for_files(buyer: User, scope: Scope, status: int) -> None:
    _, secret = tokens.issue(user=buyer, name="t", scopes=[scope], expires_at=None)
    response = Client().post(
        "/api/v1/uploads/",
        headers={"Authorization": f"Bearer {secret}", "Tus-Resumable": "1.0.0", "Upload-Length": "5"},
    )

    assert response.status_code == status


def test_a_dataset_is_made_of_an_upload_by_api_and_page(client: Client) -> None:
    content = ZIP.read_bytes()
    url = begun(client, len(content), filename="shapes.zip")
    uid = str(row(url).uid)
    wish = {"name": "early", "task": "image-classification", "upload": uid}
    early = client.post("/api/v1/datasets/", wish, content_type="application/json")
    piece(client, url, 0, content)
    made = client.post("/api/v1/datasets/", {**wish, "name": "by api"}, content_type="application/json")
    page = client.post("/datasets/new/", {**wish, "name": "by page"}, headers={"Accept": "application/json"})

    assert refusal(early) == (409, "incomplete")
    assert made.status_code == 201, made.content
    assert page.status_code == 200, page.content
    assert {*Dataset.objects.values_list("name", "upload_sha256", "upload_name")} == {
        (name, hashlib.sha256(content).hexdigest(), "shapes.zip") for name in ("by api", "by page")
    }


def test_neither_a_file_nor_an_upload_is_said_at_the_field(client: Client) -> None:
    wish = {"name": "none", "task": "image-classification"}
    by_api = client.post("/api/v1/datasets/", wish, content_type="application/json")
    by_page = client.post("/datasets/new/", wish, headers={"Accept": "application/json"})

    assert refusal(by_api) == (422, "no_file")
    assert "file" in by_page.json()["errors"]


def test_an_artifact_is_made_of_an_upload_and_its_limits_hold(client: Client, buyer: User, settings: Any) -> None:
    release = scenarios.draft_release(buyer)
    url = begun(client, filename="model.safetensors")
    piece(client, url, 0, CONTENT)
    place = f"/api/v1/listings/bea/{release.listing.name}/releases/{release.version}/artifacts/model.safetensors"
    settings.MAX_ARTIFACT_BYTES = 100
    too_large = client.put(f"{place}?upload={row(url).uid}")
    settings.MAX_ARTIFACT_BYTES = 2**20
    kept = client.put(f"{place}?upload={row(url).uid}", headers={"X-Checksum-SHA256": SHA256})

    assert refusal(too_large) == (413, "too_large")
    assert kept.status_code == 201, kept.content
    assert release.artifacts.get(path="model.safetensors").sha256 == SHA256
    assert client.put(f"{place}?upload=nonsense").status_code == 400


def test_after_a_day_without_a_piece_nothing_is_left(client: Client) -> None:
    url, whole = begun(client), begun(client)
    piece(client, url, 0, CONTENT[:4000])
    piece(client, whole, 0, CONTENT[::-1])
    path, sha256 = incoming(url), row(whole).sha256
    Upload.objects.update(expires_at=timezone.now())
    last_piece = (timezone.now() - A_DAY).timestamp()
    os.utime(path, (last_piece, last_piece))

    assert refusal(piece(client, url, 4000, CONTENT[4000:])) == (410, "upload_expired")
    leftovers.sweep(now=timezone.now())
    assert not path.exists()
    assert client.get(url).status_code == 410

    leftovers.sweep(now=timezone.now() + A_DAY)
    assert client.get(url).status_code == 404
    garbage.collect(now=timezone.now() + 10 * A_DAY)
    assert not storage.exists(sha256)


def test_the_blob_of_a_whole_upload_is_nobodys_garbage(client: Client) -> None:
    url = begun(client)
    piece(client, url, 0, CONTENT)
    garbage.collect(now=timezone.now() + 10 * A_DAY)

    assert storage.exists(SHA256)


def test_the_last_piece_of_a_process_that_died_over_it_is_made_up_for(client: Client, buyer: User) -> None:
    """Before the digest, and between the blob and its row: whoever uses the upload finds it whole."""
    first, second = begun(client), begun(client)
    for url in (first, second):
        piece(client, url, 0, CONTENT)
    Upload.objects.filter(uid=row(second).uid).update(stored_at=None)
    incoming(first).write_bytes(CONTENT[::-1])
    Upload.objects.filter(uid=row(first).uid).update(stored_at=None, sha256="")

    now = timezone.now()
    contents = [services.content(user=buyer, uid=row(url).uid, now=now)[0].sha256 for url in (first, second)]
    assert contents == [hashlib.sha256(CONTENT[::-1]).hexdigest(), SHA256]
    assert not incoming(first).exists()
    assert not incoming(second).exists()
