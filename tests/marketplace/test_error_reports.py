"""What a Sentry server is told, by a program with the site's own settings."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import django
django.setup()
import logging
import sentry_sdk
from django.test import RequestFactory
from structlog.contextvars import bound_contextvars
from marketplace.request_ids import RequestIds

def view(request):
    local = request.headers["Authorization"]
    logging.getLogger("marketplace").error("it broke")
    raise RuntimeError("on purpose\\nDETAIL:  Key (email)=(mkt_detail) already exists.")

request = RequestFactory().post(
    "/x/mkt_path/?key=mkt_query", {"password": "mkt_body"}, HTTP_AUTHORIZATION="mkt_header", HTTP_X_REQUEST_ID="number-of-it"
)
import urllib.request
import http.server, threading

class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print("hook", sorted(name.lower() for name in self.headers))
        self.send_response(204)
        self.end_headers()

hook = http.server.HTTPServer(("127.0.0.1", 0), Hook)
threading.Thread(target=hook.serve_forever, daemon=True).start()
urllib.request.urlopen(f"http://127.0.0.1:{hook.server_port}/services/mkt_hook", b"", timeout=10).close()
try:
    RequestIds(view)(request)
except RuntimeError:
    with bound_contextvars(request_id="number-of-it"):
        sentry_sdk.capture_exception()
sentry_sdk.flush(10)
"""


@pytest.fixture
def told() -> Iterator[tuple[str, list[bytes]]]:
    """Yields a project's address, and what arrived there."""
    arrived: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arrived.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://key@127.0.0.1:{server.server_port}/1", arrived
    finally:
        server.shutdown()
        server.server_close()


def run(tmp_path: Path, dsn: str) -> str:
    """Returns what the program printed."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "marketplace.settings", "DATA_DIR": str(tmp_path)}
    told = {**environment, "SENTRY_DSN": dsn}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=told, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_an_error_is_told_with_its_number_and_nothing_of_what_was_sent(
    told: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    dsn, arrived = told
    printed = run(tmp_path, dsn)

    assert "hook" in printed
    assert not {"baggage", "sentry-trace"} & set(printed.split("'"))
    text = b"".join(arrived).decode()
    assert "on purpose" in text
    assert "it broke" in text
    assert text.count("number-of-it") >= 2
    assert "mkt_" not in text


def test_without_an_address_nobody_is_told(told: tuple[str, list[bytes]], tmp_path: Path) -> None:
    run(tmp_path, "")

    assert told[1] == []
