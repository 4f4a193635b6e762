"""Example data sets: built once, offered on the upload page, waiting for the demo's buyer."""

from __future__ import annotations

from pathlib import Path

import pytest
import scenarios
from django.test import Client
from django.urls import reverse

from finetuning.models import Dataset
from finetuning.services import examples
from marketplace import demo, packages
from marketplace.errors import Unavailable

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def _installed(settings: pytest.FixtureRequest, tmp_path: Path) -> None:
    settings.EXAMPLES_DIR = tmp_path / "examples"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("_installed")
def test_examples_are_downloaded_from_the_upload_page_and_wait_for_the_demos_buyer() -> None:
    client = Client()
    client.force_login(scenarios.person("bo"))
    before = client.get(reverse("dataset_new")).content.decode()

    missing = examples.build()

    assert missing == ["film-snippets"]
    assert "Example files" not in before
    page = client.get(reverse("dataset_new")).content.decode()
    assert {example.task for example in examples.available()} == {
        "image-classification",
        "object-detection",
        "semantic-segmentation",
        "text-classification",
    }
    for example in examples.available():
        address = reverse("dataset_example", args=[example.name])
        assert address in page
        download = client.get(address)
        assert download["Content-Disposition"] == f'attachment; filename="{example.file}"'
        assert b"".join(download.streaming_content) == example.path.read_bytes()  # type: ignore[attr-defined]
    assert client.get(reverse("dataset_example", args=["no-such-file"])).status_code == 404

    demo.people_of_demo()
    said: list[str] = []
    demo._seed_datasets(report=said.append)
    demo._seed_datasets(report=said.append)

    wanted = list(examples.available())
    held = Dataset.objects.filter(owner__user__username="buyer")
    assert {(one.name, one.status) for one in held} == {(example.title, "valid") for example in wanted}
    assert len(said) == len(wanted)


def test_a_source_that_cannot_be_fetched_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    with pytest.raises(Unavailable, match="could not be fetched"):
        packages.fetch_source(packages.RATED_SNIPPETS, tmp_path)
