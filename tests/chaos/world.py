"""A vendor's small model, a buyer's data set, and the buyer's way to launch runs over the API."""

from __future__ import annotations

import io
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.utils import timezone
from live_stack import Client, Stack
from shapes_factory import ARCHITECTURE, write_release

from chaos.saying import say
from finetuning.models import Dataset
from finetuning.services import datasets
from marketplace import storage
from marketplace.accounts.models import Scope, User
from marketplace.accounts.services import people, tokens
from models_catalog.models import Release
from models_catalog.presets import PRESETS
from models_catalog.services import licensing, publishing

IMAGES = Path("static/examples/shapes.zip")
CHECK_SECONDS = 300
# Small enough to end, long enough to be hit: about ten seconds on one core.
EPOCHS = 12
HYPER = {"batch_size": 8, "patience": EPOCHS, "augmentation": "light"}
STRATEGY = "full"
SEEDS = 5  # runs of one seed must end with the same weights
RETRY_SECONDS = 0.5


def build() -> tuple[str, str]:
    """Returns the buyer's token and the data set's id; both checks have passed."""
    vendor, buyer = (
        User.objects.create_user(name, f"{name}@example.com", "a long password") for name in ("maker", "user")
    )
    for person in (vendor, buyer):
        people.namespace_of(person)
    release = _publish(vendor)
    now = timezone.now()
    licensing.accept_terms(user=buyer, release=release, terms_hash=release.terms.terms_hash, now=now)
    dataset = datasets.receive(
        user=buyer,
        owner=people.namespace_of(buyer),
        name="shapes",
        task="image-classification",
        source=io.BytesIO(IMAGES.read_bytes()),
        filename="shapes.zip",
    )
    _wait(lambda: Dataset.objects.get(pk=dataset.pk).status == "valid")
    _, token = tokens.issue(user=buyer, name="chaos", scopes=Scope.values)
    return token, str(dataset.uid)


def _publish(vendor: User) -> Release:
    listing = publishing.create_listing(
        user=vendor,
        namespace=people.namespace_of(vendor),
        name="net",
        title="net",
        task="image-classification",
        framework="timm",
        architecture=ARCHITECTURE,
    )
    release = publishing.draft(
        user=vendor, listing=listing, version="1.0", terms=licensing.terms_row(PRESETS["apache-2.0"])
    )
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(write_release(Path(folder)).rglob("*")):
            if path.is_file():
                name = str(path.relative_to(folder))
                publishing.attach_artifact(
                    user=vendor, release=release, path=name, blob=storage.put_bytes(path.read_bytes())
                )
    if not release.artifacts.filter(path="README.md").exists():
        publishing.attach_texts(user=vendor, release=release, texts=[("README.md", "# A net")])
    publishing.submit(user=vendor, release=release)
    _wait(lambda: Release.objects.get(pk=release.pk).status in {"ready", "rejected"})
    release.refresh_from_db()
    assert release.status == "ready", release.verification
    return publishing.publish(user=vendor, release=release, now=timezone.now())


def _wait(is_so: Any) -> None:
    deadline = time.monotonic() + CHECK_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "a check did not end"
        time.sleep(0.2)


@dataclass(slots=True)
class Buyer:
    """Launches runs for as long as it is let; what the site has confirmed is a promise."""

    stack: Stack
    token: str
    dataset: str
    busy: int  # runs that it keeps on their way
    epochs: int  # of each
    promised: set[str] = field(default_factory=set)  # run ids that the site has answered with
    refused: list[str] = field(default_factory=list)  # answers that no fault explains
    launched: int = 0

    def launch(self) -> None:
        """Sends one launch, until the site says something definite: yes, or that the same run is on its way."""
        seed = self.launched % SEEDS
        order = {
            "listing": "maker/net",
            "dataset": self.dataset,
            "strategy": STRATEGY,
            "hyper": {**HYPER, "epochs": self.epochs, "seed": seed},
        }
        status, answer = self._call("POST", "runs/", order)
        if status == 201:
            self.promised.add(answer["id"])
            self.launched += 1
        elif status == 409 and answer.get("code") == "duplicate_run":
            self.promised.add(answer["run"])
            self.launched += 1
        elif status < 500 and status != 0:
            self.refused.append(f"a launch was refused: {status} {answer}")
            say(f"BROKEN {self.refused[-1]}")
            time.sleep(RETRY_SECONDS)

    def is_busy(self) -> bool:
        """Whether so many runs are on their way; while the site does not answer nobody knows, and none is launched."""
        status, answer = self._call("GET", "runs/", None)
        if status != 200:
            if 400 <= status < 500:
                self.refused.append(f"the list of runs was refused: {status} {answer}")
            return True
        rows = answer["results"] if isinstance(answer, dict) else answer
        return sum(row["status"] in {"queued", "starting", "running"} for row in rows) >= self.busy

    def _call(self, method: str, path: str, document: Any) -> tuple[int, Any]:
        try:
            return Client(self.stack, self.token).call(method, path, document)
        except (OSError, ValueError):
            time.sleep(RETRY_SECONDS)
            return 0, {}
