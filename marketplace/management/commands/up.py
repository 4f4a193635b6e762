"""Starts the whole product, or a machine's part of it, in the foreground and keeps it alive until Ctrl-C."""

from __future__ import annotations

import errno
import fcntl
import http.client
import os
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, close_old_connections

from finetuning.runner import unconfined
from marketplace import demo, health
from marketplace.management.commands.web import require_proxy
from marketplace.queue_settings import FAST, TRAIN
from marketplace.supervision import drain
from marketplace.supervision.processes import GRACE_SECONDS
from marketplace.supervision.supervisor import Child, Supervisor

WEB, REAPER, PREDICTOR = "web", "reaper", "predictor"
PROCESSES = (WEB, FAST, TRAIN, REAPER, PREDICTOR)
PROBE_SECONDS = 1.0
WAIT_SECONDS = 2.0  # between two looks at a database that another machine brings up to date
_MANAGE = (sys.executable, str(Path(settings.BASE_DIR) / "manage.py"))
_BACKLOG = 1024
_INTERRUPTED = 130  # as a shell reports Ctrl-C


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-demo", action="store_true", help="leave an empty catalog empty")
        parser.add_argument(
            "--only",
            nargs="+",
            choices=PROCESSES,
            default=PROCESSES,
            metavar="PROCESS",
            help=f"of {', '.join(PROCESSES)}: what runs on this machine, where the others run elsewhere",
        )

    def handle(self, *, no_demo: bool, only: Sequence[str], **_options: Any) -> None:
        _require_sandbox(only)
        lock = _lock(Path(settings.DATA_DIR) / "up.lock")
        if WEB in only:
            self._serve(only, no_demo=no_demo)
        else:
            self._work(only)
        os.close(lock)

    def _serve(self, names: Sequence[str], *, no_demo: bool) -> None:
        require_proxy()
        with _bound(settings.HOST, settings.PORT) as listener:
            try:
                call_command("bootstrap", no_demo=no_demo, stdout=self.stdout)
            except KeyboardInterrupt as error:
                raise CommandError("Stopped before it was ready.", returncode=_INTERRUPTED) from error
            self.stdout.flush()
            _refuse_known_passwords()
            # From here on the port is ours for good: while the web server restarts, callers wait in line.
            _listen(listener)
            descriptor = listener.fileno()
            web = Child(WEB, [*_MANAGE, "web", f"--descriptor={descriptor}"], descriptors=(descriptor,))
            supervisor = Supervisor([web, *_workers(names)], report=self.stderr.write)
            supervisor.run(is_ready=partial(_answers, listener), when_ready=self._welcome)

    def _work(self, names: Sequence[str]) -> None:
        """Works beside a site on another machine, which alone changes the database's tables."""
        while (state := _state_of_site(names)) is not None:
            self.stdout.write(f"Waiting: {state}.")
            self.stdout.flush()
            time.sleep(WAIT_SECONDS)
        supervisor = Supervisor(_workers(names), report=self.stderr.write)
        supervisor.run(is_ready=lambda: True, when_ready=lambda: self._said(f"Ready: {', '.join(names)}"))

    def _said(self, text: str) -> None:
        self.stdout.write(self.style.SUCCESS(text))
        self.stdout.flush()

    def _welcome(self) -> None:
        host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
        self.stdout.write(self.style.SUCCESS(f"\nReady: http://{host}:{settings.PORT}/"))
        for username, password, purpose in demo.open_accounts():
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


def _bound(host: str, port: int) -> socket.socket:
    """Returns a socket that has the address. Raises CommandError where that cannot be."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise _no_address(error) from error
    return listener


def _listen(listener: socket.socket) -> None:
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        raise _no_address(error) from error


def _no_address(error: OSError) -> CommandError:
    if error.errno == errno.EADDRINUSE:
        return CommandError(f"Port {settings.PORT} is taken; set PORT.")
    if error.errno == errno.EACCES:
        return CommandError(f"Port {settings.PORT} is for the system's administrator; set PORT to 1024 or more.")
    return CommandError(f"This machine has no address {settings.HOST}; set HOST. ({error.strerror})")


def _refuse_known_passwords() -> None:
    if not settings.DEMO and (accounts := demo.open_accounts()):
        names = ", ".join(name for name, _, _ in accounts)
        raise CommandError(
            f"The demo accounts {names} have passwords that everybody knows, and others can reach this site. "
            "Change them, use another DATA_DIR, or set DEMO=1."
        )


def _state_of_site(names: Sequence[str]) -> str | None:
    """Returns why nothing can work beside the web machine yet; None where it can."""
    if TRAIN in names and not settings.SIGNING_KEY_FILE.exists():
        return f"receipts are signed with the site's key: copy receipts.pem of the web machine to {settings.SIGNING_KEY_FILE}"
    try:
        return "the web machine has not applied this version's migrations" if health.migrations_wait() else None
    except DatabaseError as error:
        close_old_connections()
        return f"the database does not answer ({str(error).strip().splitlines()[0]})"


def _require_sandbox(names: Sequence[str]) -> None:
    if {FAST, TRAIN, PREDICTOR}.isdisjoint(names):
        return
    if settings.SANDBOX == "required" and (missing := unconfined()):
        raise CommandError(
            f"This machine cannot confine the engine, which reads files of others: {', '.join(missing)} missing. "
            "See docs/operations.md, or set SANDBOX=degraded to work all the same."
        )


def _workers(names: Sequence[str]) -> list[Child]:
    grace = drain.slot_seconds() + GRACE_SECONDS
    found = [
        *(
            Child(f"slot {name}", [*_MANAGE, "slot", name], {"Q_CLUSTER_NAME": name}, grace_seconds=grace)
            for name in (FAST, TRAIN)
        ),
        Child(REAPER, [*_MANAGE, REAPER]),
        Child(PREDICTOR, [*_MANAGE, PREDICTOR]),
    ]
    return [child for child in found if child.name.removeprefix("slot ") in names]


def _answers(listener: socket.socket) -> bool:
    """Whether the site says that it is well; nobody else can answer on our socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    connection = http.client.HTTPConnection(host, port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", "/healthz", headers={"Host": settings.ALLOWED_HOSTS[0].lstrip(".")})
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
