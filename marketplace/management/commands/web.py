"""Serves the site with waitress, on HOST and PORT or on a socket that its starter has opened."""

from __future__ import annotations

import socket
import tempfile
from typing import Any

import waitress
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketplace.wsgi import application

THREADS = 8
IDLE_SECONDS = 600  # of a connection: an upload over a slow line may pause
# Each Hub client keeps eight open; at waitress's own 100 a dozen of them, idle, would shut everybody else out.
CONNECTIONS = 800  # below the 1,024 files that a process may usually open


class Command(BaseCommand):
    help = __doc__
    requires_system_checks = []  # it starts often: after every crash of its predecessor

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--descriptor", type=int, help="of a listening socket that this process has inherited")

    def handle(self, *, descriptor: int | None, **_options: Any) -> None:
        require_proxy()
        # waitress spools bodies before anybody has looked who sends them: not into /tmp, which may be memory.
        tempfile.tempdir = str(settings.FILE_UPLOAD_TEMP_DIR)
        waitress.serve(
            application,
            **_address(descriptor),
            **_proxy(settings.TRUSTED_PROXY),
            threads=THREADS,
            channel_timeout=IDLE_SECONDS,
            connection_limit=CONNECTIONS,
            asyncore_use_poll=True,  # select() fails on the 1,024th file, and so does everybody's answer
            max_request_body_size=max(settings.MAX_UPLOAD_BYTES, settings.MAX_ARTIFACT_BYTES) + 2**20,
            ident="",
        )


def require_proxy() -> None:
    """Raises CommandError where every page would only redirect to itself."""
    if settings.HTTPS and not settings.TRUSTED_PROXY:
        raise CommandError(
            "HTTPS is on, and this server itself speaks plain HTTP. "
            "Set TRUSTED_PROXY to the address of the proxy that ends TLS, or HTTPS=0."
        )


def _address(descriptor: int | None) -> dict[str, Any]:
    if descriptor is None:
        return {"host": settings.HOST, "port": settings.PORT}
    return {"sockets": [socket.socket(fileno=descriptor)]}


def _proxy(address: str) -> dict[str, Any]:
    """Headers of a proxy are believed from this address; waitress drops them from everybody else's requests."""
    if not address:
        return {}
    headers = {"x-forwarded-for", "x-forwarded-proto"}
    return {"trusted_proxy": address, "trusted_proxy_count": 1, "trusted_proxy_headers": headers}
