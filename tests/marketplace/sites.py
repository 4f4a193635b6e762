"""Real commands on a data directory of their own."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 60
PRODUCTION = {"ALLOWED_HOSTS": "models.example.com", "SECRET_KEY": secrets.token_urlsafe(64)}
_SWITCHES = ("DEBUG", "DEMO", "HOST", "HTTPS", "PRODUCTION", "TRUSTED_PROXY", "Q_CLUSTER_NAME", *PRODUCTION)
# A site has all of its own in its data directory, also where the suite itself asks servers.
_SERVERS = ("DATABASE_URL", "BROKER_URL")


def environment(data_dir: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in (*_SWITCHES, *_SERVERS)}
    return {**kept, "DATA_DIR": str(data_dir), "DJANGO_SETTINGS_MODULE": "marketplace.settings"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir, self.port = data_dir, free_port()
        self.environment = {**environment(data_dir), "PORT": str(self.port)}

    def manage(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**self.environment, **changes},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )

    @contextlib.contextmanager
    def running(self, *arguments: str, **changes: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command that goes on until the block ends."""
        with (self.data_dir / "command.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "manage.py", *arguments],
                cwd=ROOT,
                env={**self.environment, **changes},
                stdout=log,
                stderr=log,
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def log(self) -> str:
        return (self.data_dir / "command.log").read_text()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, Mapping[str, str]]:
        """Returns status and headers, once the port answers at all."""

        def answer() -> Any:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
            try:
                connection.request("GET", path, headers=dict(headers or {}))
                response = connection.getresponse()
                return response.status, dict(response.getheaders())
            except ConnectionError:
                return None
            finally:
                connection.close()

        return until(answer)


def until(question: Any) -> Any:
    """Asks until the answer is not None."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (answer := question()) is None:
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return answer
