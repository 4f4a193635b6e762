from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.test import Client
from on_postgresql import URL, postgresql_answers
from sites import Site, until


@pytest.mark.django_db
def test_a_site_that_is_up_to_date_is_ready(client: Client) -> None:
    answer = client.get("/readyz")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "faults": []})


@pytest.mark.django_db
def test_metrics_tell_of_requests_runs_and_disk(client: Client) -> None:
    client.get("/healthz")

    text = client.get("/metrics").content.decode()

    assert 'http_request_seconds_count{method="GET",status="200",view="healthz"}' in text
    assert 'marketplace_runs{status="queued"} 0.0' in text
    assert "marketplace_oldest_queued_run_seconds 0.0" in text
    assert "marketplace_disk_free_bytes" in text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("token", "production", "address", "given", "status"),
    [
        ("", False, "127.0.0.1", "", 200),
        ("", False, "192.0.2.1", "", 403),
        ("", True, "127.0.0.1", "", 403),
        ("secret", True, "192.0.2.1", "Bearer secret", 200),
        ("secret", False, "127.0.0.1", "Bearer other", 403),
        ("secret", False, "127.0.0.1", "", 403),
    ],
)
def test_metrics_are_for_the_token_or_for_this_machine(
    client: Client, settings: Any, *, token: str, production: bool, address: str, given: str, status: int
) -> None:
    settings.METRICS_TOKEN, settings.PRODUCTION = token, production

    answer = client.get("/metrics", REMOTE_ADDR=address, headers={"Authorization": given})

    assert answer.status_code == status


@contextlib.contextmanager
def forwarded(port: int) -> Iterator[None]:
    """Connects the port with the PostgreSQL server while the block lasts."""
    there = urlsplit(URL)

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((there.hostname, there.port or 5432)) as server:
                back = threading.Thread(target=pump, args=(server, self.request), daemon=True)
                back.start()
                pump(self.request, server)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address, daemon_threads = True, True

    with Server(("127.0.0.1", port), Forward) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(65536):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)


def asked(url: str) -> tuple[int, str | None, str]:
    def answer() -> tuple[int, str | None, str] | None:
        try:
            with urllib.request.urlopen(url) as response:
                return response.status, None, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Retry-After"], error.read().decode()
        except urllib.error.URLError:
            return None

    return until(answer)


def test_a_database_that_is_away_is_503_everywhere_and_the_site_finds_it_again(site: Site) -> None:
    if not postgresql_answers():
        pytest.skip("no PostgreSQL: set POSTGRES_URL")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    there = urlsplit(URL)
    url = there._replace(netloc=f"{there.username}@127.0.0.1:{port}").geturl()
    with site.running("web", DATABASE_URL=url):
        address = f"http://127.0.0.1:{site.port}"
        away = [asked(address + path) for path in ("/", "/healthz", "/readyz", "/api/v1/listings/")]
        with forwarded(port):
            back = asked(address + "/readyz")  # that database has none of our tables

    assert [(status, retry) for status, retry, _ in away] == [(503, "10")] * 4
    assert "Nothing was changed" in away[0][2]
    assert json.loads(away[3][2])["code"] == "database_unavailable"
    assert (back[0], json.loads(back[2])["faults"]) == (503, ["migrations_missing"])
