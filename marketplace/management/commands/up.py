"""Starts the whole product in the foreground and keeps it alive until Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketplace import demo
from marketplace.queue_settings import FAST, TRAIN
from marketplace.supervision.supervisor import Child, Supervisor

WEB_THREADS = 8
ANSWER_SECONDS = 60.0


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=settings.HOST)
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument("--no-demo", action="store_true", help="leave an empty catalog empty")

    def handle(self, *, host: str, port: int, no_demo: bool, **_options: Any) -> None:
        lock = _lock(Path(settings.DATA_DIR) / "up.lock")
        call_command("bootstrap", no_demo=no_demo, stdout=self.stdout)
        self.stdout.flush()
        supervisor = Supervisor(_children(host, port), report=self._report)
        supervisor.run(when_started=lambda: self._welcome(host, port))
        os.close(lock)

    def _report(self, line: str) -> None:
        self.stderr.write(line)

    def _welcome(self, host: str, port: int) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < deadline and not _answers(host, port):
            time.sleep(0.1)
        self.stdout.write(self.style.SUCCESS(f"\nReady: http://{host}:{port}/"))
        if not settings.PRODUCTION:
            for username, password, purpose in demo.ACCOUNTS:
                self.stdout.write(f"  {username:<8} password {password}   {purpose}")
        self.stdout.write("Ctrl-C stops everything.")
        self.stdout.flush()


def _lock(path: Path) -> int:
    """Holds the data directory for this one `up`. Raises CommandError where another one has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CommandError(f"Another `up` runs on {path.parent}. Stop it, or set DATA_DIR.") from error
    return descriptor


def _children(host: str, port: int) -> list[Child]:
    manage = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py")]
    web = ["-m", "waitress", f"--listen={host}:{port}", f"--threads={WEB_THREADS}", "--channel-timeout=600"]
    limit = f"--max-request-body-size={max(settings.MAX_UPLOAD_BYTES, settings.MAX_ARTIFACT_BYTES) + 2**20}"
    web_environment = {"PYTHONPATH": str(settings.BASE_DIR)}
    return [
        Child("web", [sys.executable, *web, limit, "marketplace.wsgi:application"], web_environment),
        Child("slot fast", [*manage, "slot", FAST], {"Q_CLUSTER_NAME": FAST}),
        Child("slot train", [*manage, "slot", TRAIN], {"Q_CLUSTER_NAME": TRAIN}),
        Child("reaper", [*manage, "reaper"]),
        Child("predictor", [*manage, "predictor"]),
    ]


def _answers(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
