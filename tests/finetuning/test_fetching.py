"""Weights that lie elsewhere are fetched: the real engine, from a server on this machine."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import doorbell
import pytest
import scenarios
import torch
from django.utils import timezone
from shapes_factory import ARCHITECTURE

from finetuning import tasks
from finetuning.engine import spec as engine
from finetuning.engine.frameworks.timm_models import build
from finetuning.models import Attempt
from finetuning.services import workspaces
from models_catalog.models import Release
from models_catalog.services import publishing

pytestmark = pytest.mark.django_db(transaction=True)
LABELS = ["disc", "square"]
CONFIG = {"architecture": ARCHITECTURE, "num_classes": 2, "label_names": LABELS}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[str]:
    """The address of a file of weights."""
    torch.manual_seed(0)
    torch.save(build(ARCHITECTURE, CONFIG).module.state_dict(), tmp_path / "net.pth")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/net.pth"
        server.shutdown()


def remote(url: str, digest: str) -> Release:
    vendor = scenarios.person("vera")
    return publishing.publish_remote(
        user=vendor,
        release=scenarios.draft_release(vendor, architecture=ARCHITECTURE),
        now=timezone.now(),
        remote_url=url,
        remote_sha256_prefix=digest[:8],
        labels=LABELS,
    )


def test_fetched_weights_become_a_release_that_can_be_tuned(source: str, tmp_path: Path) -> None:
    release = remote(source, hashlib.sha256((tmp_path / "net.pth").read_bytes()).hexdigest())

    tasks.fetch_weights(release.pk)

    release.refresh_from_db()
    local = release.listing.latest_release
    assert local is not None
    assert local != release, release.report
    assert (local.is_remote, local.status, local.labels) == (False, "published", LABELS)
    assert {artifact.path for artifact in local.artifacts.all()} >= {"config.json", "model.safetensors"}


def test_a_file_that_changed_at_its_source_is_not_taken(source: str) -> None:
    release = remote(source, "0" * 64)

    tasks.fetch_weights(release.pk)

    release.refresh_from_db()
    assert release.listing.latest_release == release
    assert "not the one that was published" in release.report["fetch_problem"]


def test_a_fetch_whose_directory_another_engine_still_holds_is_asked_for_again(source: str) -> None:
    release = remote(source, "")
    path = workspaces.directory("release", release.pk, engine.Verb.CONVERT)
    path.mkdir(parents=True)
    doorbell.silence()
    with (path / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        tasks.fetch_weights(release.pk)

    release.refresh_from_db()
    assert (Attempt.objects.get(release=release).outcome, release.report) == ("app:busy", {})
    assert [message["args"] for message in doorbell.all_taken()] == [(release.pk,)]

    tasks.fetch_weights(release.pk)
    release.refresh_from_db()
    assert release.listing.latest_release != release
