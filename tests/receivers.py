"""Receivers of webhooks on this machine: they keep what they were sent, and answer as a test wants."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass
class Receiver:
    port: int
    calls: list[Received] = field(default_factory=list)
    reply: Reply | None = None
    status: int = 204
    over: threading.Event = field(default_factory=threading.Event)  # what is slow waits for it, at most

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks?of=models"

    def answers(self, status: int, body: bytes = b"", **headers: str) -> None:
        def reply(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(body)

        self.reply = reply


@contextlib.contextmanager
def receiver(*, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            running.calls.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                if running.reply is not None:
                    running.reply(self)
                else:
                    self.send_response(running.status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_args: Any) -> None:
            """A caller that hangs up is what some tests are about."""

    server = Server((host, 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    running = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def verifies(call: Received, secret: str) -> bool:
    """Checks a call as the specification of Standard Webhooks says, by nothing of this product."""
    scheme, _, encoded = secret.partition("_")
    assert scheme == "whsec"
    message_id, timestamp = call.headers["webhook-id"], call.headers["webhook-timestamp"]
    signed = f"{message_id}.{timestamp}.{call.body.decode()}".encode()
    expected = base64.b64encode(hmac.new(base64.b64decode(encoded), signed, hashlib.sha256).digest()).decode()
    given = [part.split(",", 1) for part in call.headers["webhook-signature"].split(" ")]
    return any(version == "v1" and hmac.compare_digest(value, expected) for version, value in given)
