"""The directories that the predictor reads: whole or not there, and nobody's files but the release's."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import scenarios
from django.conf import settings
from django.db import connection
from django.test import Client

from finetuning.services import playground, workspaces
from marketplace.accounts.models import Namespace
from marketplace.errors import Conflict, Invalid
from models_catalog.models import Release
from models_catalog.presets import PRESETS
from models_catalog.services import licensing, publishing

pytestmark = pytest.mark.django_db(transaction=True)
TEXTS = {"task": "text-classification", "framework": "transformers", "architecture": "BertModel"}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, settings: Any) -> None:
    settings.SERVING_DIR = tmp_path / "serving"


def served() -> dict[str, str]:
    root = Path(settings.SERVING_DIR)
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


def test_a_draft_is_never_laid_out_over_what_is_served() -> None:
    victim = scenarios.published_release(scenarios.person("vera"))
    name = workspaces.lay_out(victim)
    before = served()
    attacker = scenarios.person("mallory")
    listing = publishing.create_listing(
        user=attacker,
        namespace=Namespace.objects.get(user=attacker),
        name="trap",
        title="trap",
        task="image-classification",
        framework="timm",
        architecture="test_efficientnet",
    )
    draft = publishing.draft(
        user=attacker, listing=listing, version="1.0", terms=licensing.terms_row(PRESETS["apache-2.0"])
    )
    overwriting = [(f"{name}/config.json", "of the attacker"), (f"{name}/weights.json", "{}")]
    publishing.attach_texts(user=attacker, release=draft, texts=overwriting)

    with pytest.raises(Conflict) as caught:
        workspaces.lay_out(draft)

    assert caught.value.code == "not_published"
    assert served() == before


def test_only_flat_files_that_the_engine_reads_are_served() -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    for path in (
        "weights.json",
        "folder/model.safetensors",
        "tokenizer.json",
        "notes.txt",
        "model.keras",
        "other.keras",
    ):
        release.artifacts.create(path=path, sha256=release.artifacts.get(path="README.md").sha256, bytes=7)

    name = workspaces.lay_out(Release.objects.get(pk=release.pk))

    files = {path.removeprefix(f"{name}/"): text for path, text in served().items()}
    assert set(files) == {"config.json", "model.keras", "model.safetensors", "tokenizer.json", "weights.json"}
    assert json.loads(files["weights.json"])["architecture"] == "test_efficientnet"


def test_first_predictions_at_the_same_time_all_find_a_whole_directory() -> None:
    release = scenarios.published_release(scenarios.person("vera"))
    line = threading.Barrier(8)
    wrong: list[BaseException] = []

    def lay_out() -> None:
        mine = Release.objects.select_related("listing").get(pk=release.pk)
        try:
            line.wait()
            name = workspaces.lay_out(mine)
            assert json.loads((Path(settings.SERVING_DIR) / name / "weights.json").read_text())
        except BaseException as error:
            wrong.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=lay_out) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert [path.name for path in Path(settings.SERVING_DIR).iterdir()] == [release.sha]


@pytest.mark.parametrize("top", ["9" * 5000, "0", "-1", "21", "x", "٣" * 5])
def test_a_number_of_classes_that_cannot_be_is_refused(client: Client, top: str) -> None:
    vendor = scenarios.person("vera")
    scenarios.published_release(vendor)
    client.force_login(vendor)

    answer = client.post(f"/api/v1/predict/vera/net/?top={top}", b"x", content_type="image/png")

    assert (answer.status_code, answer.json()["code"]) == (422, "bad_top")


def test_the_largest_number_of_classes_is_taken() -> None:
    assert playground.read_top("20", "image-classification") == 20
    assert playground.read_top("100", "object-detection") == 100
    assert playground.read_top(None, "object-detection") is None
    with pytest.raises(Invalid):
        playground.read_top("", "image-classification")


@pytest.mark.parametrize(
    ("kind", "body", "content_type", "code"),
    [
        ({}, b"", "image/png", "image_missing"),
        ({}, b'{"text": "a"}', "application/json", "image_missing"),
        (TEXTS, b"\x89PNG", "image/png", "text_missing"),
        (TEXTS, b'{"text": " "}', "application/json", "text_missing"),
        (TEXTS, b'{"text": ["a"]}', "application/json", "text_missing"),
        (TEXTS, b'["a"]', "application/json", "text_missing"),
    ],
)
def test_what_a_model_does_not_take_is_refused_with_what_it_does(
    client: Client, kind: dict[str, str], body: bytes, content_type: str, code: str
) -> None:
    vendor = scenarios.person("vera")
    scenarios.published_release(vendor, **kind)
    client.force_login(vendor)

    answer = client.post("/api/v1/predict/vera/net/", body, content_type=content_type)

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert answer.json()["detail"].startswith(("Send a", "The image is empty"))


def test_a_model_without_classes_says_what_to_do_on_its_page_and_in_the_api(client: Client) -> None:
    vendor = scenarios.person("vera")
    release = scenarios.published_release(vendor, **TEXTS)
    Release.objects.filter(pk=release.pk).update(labels=[])
    client.force_login(vendor)

    answer = client.post("/api/v1/predict/vera/net/", b'{"text": "a"}', content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) == (403, "no_classes")
    assert "fine-tune it first" in client.get("/models/vera/net/try/").content.decode()


def test_what_a_text_model_is_made_of_is_served_and_no_other_folder() -> None:
    release = scenarios.published_release(scenarios.person("vera"), **TEXTS)
    blob = scenarios.blob(b"{}")
    for path in ("vocab.txt", "1_Pooling/config.json", "sentence_bert_config.json", "2_Dense/config.json"):
        release.artifacts.create(path=path, sha256=blob.sha256, bytes=2)

    name = workspaces.lay_out(Release.objects.get(pk=release.pk))

    files = {path.removeprefix(f"{name}/") for path in served()}
    assert files >= {"vocab.txt", "1_Pooling/config.json", "sentence_bert_config.json"}
    assert not any(path.startswith("2_Dense") for path in files)
