"""Uploads in pieces, one after another, through whatever is done to the product."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from live_stack import Stack

from chaos.saying import say

FILE_BYTES = 3 * 2**20
PIECE_BYTES = 256 * 1024
RETRY_SECONDS = 0.5
PAUSE_SECONDS = 0.2  # between pieces: a file is on its way for longer than most faults are apart
# Refusals after which one asks where to go on: another piece arrives still, or less is there than was told.
_EXPECTED = frozenset({"wrong_offset", "upload_locked", "upload_lost"})


@dataclass(slots=True)
class Sender:
    stack: Stack
    token: str
    over: threading.Event = field(default_factory=threading.Event)
    whole: int = 0  # files that arrived as they were sent
    refused: list[str] = field(default_factory=list)  # what no fault explains

    def run(self) -> None:
        draw = random.Random(0)
        while not self.over.is_set():
            self._send(draw.randbytes(FILE_BYTES))

    def _send(self, content: bytes) -> None:
        place = ""
        while not place and not self.over.is_set():
            status, headers, _ = self._ask("POST", "/api/v1/uploads/", {"Upload-Length": str(len(content))})
            if status == 201:
                place = "/" + headers["Location"].split("/", 3)[3]
        while not self.over.is_set():
            status, headers, _ = self._ask("HEAD", place, {})
            if status == 200 and self._send_rest(place, content, int(headers["Upload-Offset"])):
                self._compare(place, content)
                return

    def _send_rest(self, place: str, content: bytes, offset: int) -> bool:
        """Whether the last piece was taken."""
        while not self.over.is_set():
            piece = content[offset : offset + PIECE_BYTES]
            headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
            status, told, _ = self._ask("PATCH", place, headers, piece)
            if status != 204:
                return False
            offset = int(told["Upload-Offset"])
            if offset == len(content):
                return True
            self.over.wait(PAUSE_SECONDS)
        return False

    def _compare(self, place: str, content: bytes) -> None:
        while not self.over.is_set():
            status, _, body = self._ask("GET", place, {})
            if status == 200:
                if json.loads(body)["sha256"] == hashlib.sha256(content).hexdigest():
                    self.whole += 1
                else:
                    self._refuse(f"an upload arrived as another: {body.decode()}")
                return

    def _ask(
        self, method: str, place: str, headers: dict[str, str], body: bytes = b""
    ) -> tuple[int, Mapping[str, str], bytes]:
        common = {"Authorization": f"Bearer {self.token}", "Tus-Resumable": "1.0.0"}
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.stack.port, timeout=60)
            connection.request(method, place, body=body, headers={**common, **headers})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self.over.wait(RETRY_SECONDS)
            return 0, {}, b""
        if answer.status >= 500:
            self.over.wait(RETRY_SECONDS)
        elif answer.status >= 400:
            code = json.loads(content or b"{}").get("code", "")
            if code not in _EXPECTED:
                self._refuse(f"{method} of a piece was refused: {answer.status} {code}")
            time.sleep(RETRY_SECONDS)
        return answer.status, answer.headers, content

    def _refuse(self, text: str) -> None:
        self.refused.append(text)
        say(f"BROKEN {text}")
