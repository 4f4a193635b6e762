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


def predict(release: str, content: bytes, *, top: int = 5) -> dict[str, Any]:
    """Returns {predictions, milliseconds, warm}. Raises Invalid with the engine's code for a picture that it
    cannot read, Unavailable (`predictor_down`)."""
    connection = _UnixConnection("localhost")
    try:
        connection.request("POST", f"/predict/{release}?top={top}", body=content)
        answer = connection.getresponse()
        document = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unavailable("predictor_down", "The prediction service is starting. Try again in a moment.") from error
    finally:
        connection.close()
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise Unavailable("predictor_failed", str(document.get("message", "The prediction failed.")))
    if answer.status >= HTTPStatus.BAD_REQUEST:
        raise Invalid(str(document.get("code", "bad_image")), str(document.get("message", "")), field="image")
    return dict(document)
