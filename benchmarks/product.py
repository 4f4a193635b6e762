"""The whole product on a data directory of its own, with a small model, a licensed buyer and their data, for
benchmarks of the site. Needs the tests beside it, whose worlds these are."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT

END_SECONDS = 60
_KIB_A_MIB = 1024
FILES = ("README.md", "config.json", "model.safetensors")  # of each listing that `fill` writes


@dataclass(frozen=True, slots=True)
class World:
    """`stack` is the running product, `token` the buyer's for the API, `dataset` the id of their data."""

    stack: Any
    token: str
    dataset: str

    def launch(self, **changes: Any) -> str:
        """Returns the id of a run that the site has confirmed."""
        from live_stack import Client  # noqa: PLC0415 - the tests' folder is on the path only once it is asked for

        order = {"listing": "maker/net", "dataset": self.dataset, **changes}
        status, answer = Client(self.stack, self.token).call("POST", "runs/", order)
        if status != HTTPStatus.CREATED:
            raise SystemExit(f"A run was refused with {status}: {answer}")
        return str(answer["id"])


@contextlib.contextmanager
def running(folder: Path, *, workers: int = 1, **changes: str) -> Iterator[World]:
    """Starts the product in `folder` with so many workers for runs, and stops it. Settings are read here first:
    nothing of the site may be imported before."""
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/engine")]
    environment = {"ENGINE_THREADS": "1", **changes}
    os.environ |= {"DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "marketplace.settings", **environment}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # whoever ends this leaves no product behind
    import django  # noqa: PLC0415 - after its settings are known
    from live_stack import Stack  # noqa: PLC0415 - as above

    with Stack(folder, "--no-demo", **environment) as stack:
        django.setup()
        from chaos import world  # noqa: PLC0415 - it imports the site

        token, dataset = world.build()
        with contextlib.ExitStack() as further:
            for _ in range(workers - 1):
                further.enter_context(_slot(stack))
            yield World(stack, token, dataset)


@contextlib.contextmanager
def _slot(stack: Any) -> Iterator[None]:
    """One more worker for runs, as an operator adds them on another machine."""
    with stack.log.open("ab") as log:
        command = [sys.executable, "manage.py", "slot", "train"]
        environment = {**stack.environment, "Q_CLUSTER_NAME": "train"}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(END_SECONDS)


def wait(is_so: Any, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise SystemExit(f"Not within {seconds:.0f} s.")
        time.sleep(0.5)


def fill(count: int) -> None:
    """Writes published listings in bulk, past the services, beside the one that is real: `maker/net0` and so on, with
    files of which only the names are there."""
    from django.db.models import OuterRef, Subquery  # noqa: PLC0415 - after the settings are known
    from django.utils import timezone  # noqa: PLC0415 - as above

    from models_catalog.models import Artifact, Listing, Release  # noqa: PLC0415 - as above

    real = Release.objects.select_related("listing").get(status="published")
    made = Listing.objects.bulk_create(
        Listing(
            namespace_id=real.listing.namespace_id,
            name=f"net{number}",
            title=f"Net {number}",
            task="image-classification",
            framework="timm",
            architecture="resnet18",
        )
        for number in range(count)
    )
    releases = Release.objects.bulk_create(
        Release(
            listing=listing,
            version="1.0",
            status="published",
            terms_id=real.terms_id,
            manifest_sha256=f"{number:064x}",
            published_at=timezone.now(),
        )
        for number, listing in enumerate(made)
    )
    Artifact.objects.bulk_create(
        (Artifact(release=release, path=path, sha256="0" * 64, bytes=1) for release in releases for path in FILES),
        batch_size=500,
    )
    own = Release.objects.filter(listing=OuterRef("pk")).values("pk")
    Listing.objects.filter(latest_release__isnull=True).update(latest_release=Subquery(own))


def web_process(stack: Any, folder: Path) -> int:
    """Returns the number of the web process."""
    from chaos.product import service_of  # noqa: PLC0415 - the tests' folder is on the path only by now

    found = service_of(stack, folder, "web")
    if found is None:
        raise SystemExit("The web process is not there.")
    return int(found.pid)


def peak_mib(pid: int) -> float:
    """Returns the most memory that the process has held so far, resident."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / _KIB_A_MIB
    raise SystemExit(f"process {pid} tells no peak")


def processor_seconds(pid: int) -> float:
    """Returns the processor time that the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
