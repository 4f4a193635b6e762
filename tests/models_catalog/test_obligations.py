"""What goes along with a release: the same for everybody, whole, and readable by programs."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from typing import Any

import pytest
import scenarios
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from django.test import Client
from django.utils import timezone

from marketplace.accounts.models import User
from models_catalog.models import Download, LineageEdge, Release
from models_catalog.models.lineage import Relation
from models_catalog.presets import PRESETS
from models_catalog.services import lineage, obligations, publishing
from models_catalog.services.licensing import terms_row
from models_catalog.services.manifests import manifest_sha256

pytestmark = pytest.mark.django_db
MIT = dataclasses.replace(PRESETS["mit"], text="Permission is hereby granted, as MIT says.")
APACHE = dataclasses.replace(PRESETS["apache-2.0"], text="Apache says so.")
PAGE, API = "/models/mo/small/versions/1.0/", "/api/v1/listings/mo/small/releases/1.0/"


def with_notice(vendor: User, name: str, terms: Any, notice: str) -> Release:
    draft = scenarios.draft_release(vendor, name=name, terms=terms)
    publishing.attach_texts(user=vendor, release=draft, texts=[("NOTICE", notice)])
    return draft


def publish(vendor: User, draft: Release) -> Release:
    return publishing.publish(user=vendor, release=scenarios.verify(vendor, draft), now=timezone.now())


@pytest.fixture
def child() -> Release:
    """mo/small, made from vera/net and trained on tomatoes; both under Apache's terms, each with a notice."""
    vera, mo = scenarios.person("vera"), scenarios.person("mo")
    parent = publish(vera, with_notice(vera, "net", APACHE, "Copyright Vera"))
    scenarios.licensed(mo, parent)
    draft = with_notice(mo, "small", APACHE, "Copyright Mo")
    lineage.declare(user=mo, release=draft, parent=parent, relation=Relation.FINETUNE, now=timezone.now())
    data = terms_row(PRESETS["cc0-1.0"])
    LineageEdge.objects.create(
        child=draft, relation=Relation.TRAINED_ON, dataset_sha256="d" * 64, dataset_name="tomatoes", terms=data
    )
    return publish(mo, draft)


def texts(release: Release) -> dict[str, str]:
    row = Release.objects.select_related("listing__namespace", "terms").get(pk=release.pk)
    return {item.path: item.text for item in obligations.documents(row)}


def test_notices_credit_and_changes_go_up_the_whole_chain(child: Release) -> None:
    found = texts(child)

    assert found["NOTICE.txt"].index("Copyright Mo") < found["NOTICE.txt"].index("Copyright Vera")
    assert "small (mo/small@1.0) by mo, licensed under Apache License 2.0." in found["ATTRIBUTION.txt"]
    assert "net (vera/net@1.0) by vera, licensed under Apache License 2.0." in found["ATTRIBUTION.txt"]
    assert "Based on a model under Apache License 2.0." in found["ATTRIBUTION.txt"]
    assert "The data “tomatoes”, licensed under Creative Commons Zero 1.0." in found["ATTRIBUTION.txt"]
    assert "Fine-tuned from vera/net@1.0" in found["CHANGES.md"]
    assert "changed: NOTICE, model.safetensors" in found["CHANGES.md"]
    assert "Trained on the dataset “tomatoes”" in found["CHANGES.md"]


def test_each_license_text_is_there_once(child: Release) -> None:
    found = texts(child)

    licenses = {path: text for path, text in found.items() if path.startswith("licenses/")}
    assert licenses.pop("licenses/CC0-1.0.txt").strip() == PRESETS["cc0-1.0"].text.strip()
    assert licenses == {"licenses/Apache-2.0.txt": "Apache says so.\n"}


def test_two_texts_of_one_license_are_both_there() -> None:
    vera = scenarios.person("vera")
    draft = scenarios.draft_release(vera, terms=MIT)
    publishing.attach_texts(user=vera, release=draft, texts=[("LICENSE", "MIT, Copyright Vera")])

    found = texts(publish(vera, draft))

    assert found["licenses/MIT.txt"] == "Permission is hereby granted, as MIT says.\n"
    assert found["licenses/LICENSE.txt"] == "MIT, Copyright Vera\n"


def test_the_bundle_is_the_same_bytes_and_leaves_the_manifest_as_it_is(child: Release, client: Client) -> None:
    first = client.get(f"{PAGE}obligations.zip")
    client.force_login(User.objects.get(username="vera"))
    second = client.get(f"{API}obligations.zip")

    assert b"".join(first) == b"".join(second)  # type: ignore[arg-type]  # they stream
    assert first["ETag"] == second["ETag"]
    assert manifest_sha256(child) == child.manifest_sha256


def test_an_ancestor_that_left_the_catalog_is_told_by_digest_and_license_alone(child: Release) -> None:
    vera = User.objects.get(username="vera")
    parent = Release.objects.get(listing__name="net")
    publishing.yank(user=vera, release=parent, reason="secret now", now=timezone.now())

    found = texts(child)

    named = [path for path, text in found.items() if "vera/net" in text or '"vera"' in text]
    assert named == []
    assert parent.manifest_sha256 in found[obligations.BOM_FILE]
    assert "Copyright Vera" in found["NOTICE.txt"]


# The ML-BOM


def test_the_bom_is_valid_and_says_what_the_model_is_made_of(child: Release) -> None:
    Release.objects.filter(pk=child.pk).update(
        metrics={"metrics": {"accuracy": {"value": 0.93, "low": 0.9, "high": 0.95}, "items": 40}}
    )
    text = texts(child)[obligations.BOM_FILE]

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    own, parent = bom["metadata"]["component"], Release.objects.get(listing__name="net")
    assert (own["type"], own["group"], own["name"]) == ("machine-learning-model", "mo", "small")
    assert own["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert own["hashes"] == [{"alg": "SHA-256", "content": child.manifest_sha256}]
    assert {part["name"] for part in own["components"]} == {"NOTICE", "README.md", "config.json", "model.safetensors"}
    card = own["modelCard"]
    assert card["modelParameters"]["datasets"] == [{"ref": f"dataset:{'d' * 64}"}]
    [figure, count] = card["quantitativeAnalysis"]["performanceMetrics"]
    assert figure == {
        "type": "accuracy",
        "value": "0.93",
        "confidenceInterval": {"lowerBound": "0.9", "upperBound": "0.95"},
    }
    assert count == {"type": "items", "value": "40"}
    kinds = {part["name"]: part["type"] for part in bom["components"]}
    assert kinds == {"net": "machine-learning-model", "tomatoes": "data"}
    [data] = [part for part in bom["components"] if part["type"] == "data"]
    assert (data["licenses"], data["data"]) == (
        [{"license": {"id": "CC0-1.0"}}],
        [{"type": "dataset", "name": "tomatoes"}],
    )
    depends = {entry["ref"]: entry.get("dependsOn", []) for entry in bom["dependencies"]}
    wanted = {f"model:{parent.manifest_sha256}", f"dataset:{'d' * 64}"}
    assert set(depends[f"model:{child.manifest_sha256}"]) == wanted


def test_a_license_that_spdx_does_not_know_is_told_by_name() -> None:
    vera = scenarios.person("vera")
    terms = dataclasses.replace(MIT, name="Vera's own", license_id="other", spdx_id="Vera-1.0")

    text = texts(publish(vera, scenarios.draft_release(vera, terms=terms)))[obligations.BOM_FILE]

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert json.loads(text)["metadata"]["component"]["licenses"] == [{"license": {"name": "Vera's own"}}]


# Pages, API, archive


@pytest.mark.usefixtures("child")
def test_documents_are_read_by_page_and_api_before_anything_is_accepted(client: Client) -> None:
    page = client.get(f"{PAGE}obligations/").content.decode()
    listed = client.get(f"{API}obligations/").json()

    assert "net (vera/net@1.0) by vera" in page
    for item in listed:
        assert item["path"] in page
        by_api = client.get(f"{API}obligations/{item['path']}")
        by_page = client.get(f"{PAGE}obligations/{item['path']}")
        assert by_api["ETag"] == by_page["ETag"] == f'"{item["sha256"]}"'
        assert by_page["Content-Type"].startswith(("text/plain", "application/vnd.cyclonedx+json"))
    assert client.get(f"{PAGE}obligations/../NOTICE").status_code == 404
    assert client.get(f"{API}obligations/none.txt").status_code == 404


def test_what_a_vendor_wrote_is_never_served_as_a_page() -> None:
    vera = scenarios.person("vera")
    publish(vera, with_notice(vera, "net", MIT, "<script>alert(1)</script>"))

    answer = Client().get("/models/vera/net/versions/1.0/obligations/NOTICE.txt")

    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_a_draft_has_no_obligations_yet(client: Client) -> None:
    vera = scenarios.person("vera")
    scenarios.draft_release(vera)
    client.force_login(vera)

    assert client.get("/api/v1/listings/vera/net/releases/1.0/obligations/").json()["code"] == "not_published"


@pytest.mark.parametrize("path", [f"{PAGE}everything.zip", f"{API}everything.zip"])
def test_everything_is_one_archive_for_those_who_may_have_the_files(child: Release, client: Client, path: str) -> None:
    bo = scenarios.person("bo")
    client.force_login(bo)
    assert client.get(path).status_code == 403
    scenarios.licensed(bo, child)

    answer = client.get(path)

    archive = zipfile.ZipFile(io.BytesIO(b"".join(answer)))  # type: ignore[arg-type]  # it streams
    assert archive.testzip() is None
    own = {file.path for file in child.artifacts.all()}
    assert set(archive.namelist()) == own | {f"OBLIGATIONS/{name}" for name in texts(child)}
    assert archive.read("model.safetensors") == b"weights of mo/small@1.0"
    assert Download.objects.filter(user=bo).count() == len(own)


def test_no_file_of_a_vendor_passes_for_a_document_of_the_site(client: Client) -> None:
    vera = scenarios.person("vera")
    draft = scenarios.draft_release(vera, terms=MIT)
    publishing.attach_texts(user=vera, release=draft, texts=[("obligations/NOTICE.txt", "none at all")])
    publish(vera, draft)
    client.force_login(vera)

    answer = client.get("/models/vera/net/versions/1.0/everything.zip")

    names = zipfile.ZipFile(io.BytesIO(b"".join(answer))).namelist()  # type: ignore[arg-type]  # it streams
    assert len({name.lower() for name in names}) == len(names)
    assert {"obligations/NOTICE.txt", "OBLIGATIONS-2/NOTICE.txt"} <= set(names)


@pytest.mark.usefixtures("child")
def test_a_look_at_the_archive_s_head_counts_nothing(client: Client) -> None:
    client.force_login(User.objects.get(username="mo"))

    head = client.head(f"{PAGE}everything.zip")
    part = client.get(f"{PAGE}everything.zip", headers={"Range": "bytes=0-99"})

    assert (head.status_code, part.status_code, len(b"".join(part))) == (200, 206, 100)  # type: ignore[arg-type]
    assert not Download.objects.exists()
