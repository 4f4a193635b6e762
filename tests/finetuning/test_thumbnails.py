from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
import scenarios
from django.test import Client
from worlds import shapes, uploaded

from finetuning.models import Dataset
from finetuning.services import thumbnails
from marketplace import storage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def dataset() -> Dataset:
    return uploaded(scenarios.person("bo"), shapes())


def test_every_thumbnail_is_the_one_in_the_pack(dataset: Dataset) -> None:
    pack = dataset.versions.get().thumbnails_sha256
    with storage.open_blob(pack) as file, zipfile.ZipFile(file) as archive:
        inside = {name: archive.read(name) for name in archive.namelist() if name.endswith(".jpg")}

    assert len(inside) == 16
    assert {name: thumbnails.read(pack, int(name.partition(".")[0])) for name in inside} == inside
    assert [thumbnails.read(pack, number) for number in (-1, 0, 17, 10**9)] == [None] * 4


def test_the_packs_directory_is_read_once_and_not_for_every_picture(
    dataset: Dataset, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []
    begin = zipfile.ZipFile.__init__

    def count(self: zipfile.ZipFile, *arguments: Any, **named: Any) -> None:
        if type(self) is zipfile.ZipFile:  # importlib has a subclass for its own purposes
            opened.append(self)
        begin(self, *arguments, **named)

    monkeypatch.setattr(zipfile.ZipFile, "__init__", count)
    client.force_login(dataset.created_by)

    answers = [client.get(f"/datasets/{dataset.uid}/thumbnails/{number}.jpg") for number in range(1, 17)]

    assert {answer.status_code for answer in answers} == {200}
    assert len(opened) <= 1


def test_a_picture_that_is_not_there_or_not_ones_own_is_not_found(dataset: Dataset, client: Client) -> None:
    client.force_login(dataset.created_by)
    for number in ("17", "0", "9" * 5000):
        assert client.get(f"/datasets/{dataset.uid}/thumbnails/{number}.jpg").status_code == 404
    client.force_login(scenarios.person("cy"))
    assert client.get(f"/datasets/{dataset.uid}/thumbnails/1.jpg").status_code == 404


def test_a_member_that_no_engine_wrote_is_passed_over() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("index.jsonl", "{}\n")
        archive.writestr("000002.jpg", b"two")
        archive.writestr("000003.jpg", b"three", compress_type=zipfile.ZIP_DEFLATED)
        archive.writestr("x.jpg", b"x")
    pack = storage.put_bytes(file.getvalue()).sha256

    assert [thumbnails.read(pack, number) for number in range(5)] == [None, None, b"two", None, None]
