"""The client of the predictor, an engine process that keeps models warm behind a Unix socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Any

from django.conf import settings

from marketplace.errors import Invalid, Unavailable

TIMEOUT_SECONDS = 60
_LONGEST_SOCKET_PATH = 100  # bytes; the kernel takes 107


def socket_path() -> Path:
    """Returns where the predictor listens."""
    return Path(settings.PREDICTOR_DIR) / "predict.sock"


class _UnixConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_SECONDS)
        path = socket_path()
        if len(os.fsencode(path)) < _LONGEST_SOCKET_PATH:
            self.sock.connect(str(path))
            return
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:  # the same file by a short name
            self.sock.connect(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def predict(release: str, given: bytes | str, *, top: int | None = None) -> dict[str, Any]:
    """Returns the engine's answer (docs/engine.md, "serve") for the bytes of an image, or for a text. Raises Invalid
    with the engine's code for what it cannot read, Unavailable (`predictor_down`)."""
    is_text = isinstance(given, str)
    body = json.dumps({"text": given}).encode() if is_text else given
    kind = "application/json" if is_text else "application/octet-stream"
    address = f"/predict/{release}" if top is None else f"/predict/{release}?top={top}"
    connection = _UnixConnection("localhost")
    try:
        connection.request("POST", address, body=body, headers={"Content-Type": kind})
        answer = connection.getresponse()
        document = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable("predictor_down", "The prediction service is starting. Try again in a moment.") from error
    finally:
        connection.close()
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Unavailable("predictor_failed", str(document.get("message", "The prediction failed.")))
    if answer.status >= HTTPStatus.BAD_REQUEST:
        field = "text" if is_text else "image"
        raise Invalid(str(document.get("code", f"bad_{field}")), str(document.get("message", "")), field=field)
    return dict(document)
