"""Predictions for images and texts over HTTP on a Unix socket, with the least recently used models dropped first."""

from __future__ import annotations

import json
import os
import re
import socketserver
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import torch
from PIL import Image

from finetuning.engine import frameworks, runtime, tasks
from finetuning.engine.answers import Answer
from finetuning.engine.events import EventWriter
from finetuning.engine.frameworks import Loaded
from finetuning.engine.images import BadImage, decode
from finetuning.engine.problems import Rejected
from finetuning.engine.spec import ArchiveLimits, Framework, ServeSpec, Task, WeightsSpec

MAX_BODY_BYTES = 20 * 2**20
_LONGEST_NUMBER = 12  # digits
_SHA = re.compile(r"[0-9a-f]{40}")


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True, slots=True)
class Served:
    loaded: Loaded
    answer: Answer


class Models:
    """Loaded releases by revision; the lock makes loading and inference one at a time, because two at once
    on the same cores are slower than one after the other."""

    def __init__(self, root: Path, capacity: int) -> None:
        self._root, self._capacity = root, capacity
        self._served: OrderedDict[str, Served] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        return list(self._served)

    def predict(self, name: str, given: Image.Image | str, top: int | None) -> dict[str, Any]:
        """Answers for an RGB image or a text, as the release's task does."""
        started = time.perf_counter()
        with self._lock:
            warm = name in self._served
            served = self._get(name)
            loaded = served.loaded
            if isinstance(given, str) is not (loaded.task is Task.TEXT_CLASSIFICATION):
                wanted = "an image" if isinstance(given, str) else 'JSON: {"text": "..."}'
                raise Refused(415, "wrong_input", f"This model takes {wanted}.")
            if not loaded.labels:
                raise Refused(409, "no_classes", "This model is an encoder without classes: fine-tune it first.")
            with torch.inference_mode():
                document = served.answer(given, top)
        return {
            **document,
            "milliseconds": round(1000 * (time.perf_counter() - started), 1),
            "warm": warm,
        }

    def _get(self, name: str) -> Served:
        if name not in self._served:
            self._served[name] = self._load(name)
            while len(self._served) > self._capacity:
                self._served.popitem(last=False)
        self._served.move_to_end(name)
        return self._served[name]

    def _load(self, name: str) -> Served:
        try:
            document = json.loads((self._root / name / "weights.json").read_text())
            spec = WeightsSpec(
                task=Task(document["task"]),
                framework=Framework(document["framework"]),
                architecture=document["architecture"],
                directory=name,
            )
            loaded = frameworks.load(spec, self._root)
            return Served(loaded, tasks.module_of(spec.task).answering(loaded))
        except FileNotFoundError as error:
            raise Refused(404, "not_laid_out", "This release is not laid out for predictions.") from error
        except Rejected as error:
            raise Refused(500, "release_broken", error.problems[0].message) from error


def _number(text: str) -> int:
    """Returns the number, or 0 for what is none; int() refuses very long ones with an exception."""
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_NUMBER else 0


def read_image(content: bytes) -> Image.Image:
    try:
        return decode(content, "", ArchiveLimits(min_side=1)).image
    except BadImage as error:
        raise Refused(422, error.code, error.message) from error


def read_text(content: bytes) -> str:
    """Returns the text of `{"text": ...}`, or of `{"inputs": ...}`, as hub clients send it."""
    try:
        document = json.loads(content)
        text = document.get("text", document.get("inputs"))
        text.encode()  # half of a surrogate pair, which JSON can spell, is no text
    except (ValueError, RecursionError, AttributeError) as error:
        raise Refused(422, "bad_json", 'Send a JSON object with one text: {"text": "..."}.') from error
    if not text.strip():
        raise Refused(422, "empty_text", "The text is empty.")
    limit = ArchiveLimits().max_text_characters
    if len(text) > limit:
        raise Refused(422, "text_too_long", f"The text is over {limit:,} characters long.")
    return str(text)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"loaded": self.server.models.names})

    def do_POST(self) -> None:
        try:
            address = urlsplit(self.path)
            verb, _, name = address.path.strip("/").partition("/")
            if verb != "predict" or not _SHA.fullmatch(name):
                raise Refused(404, "not_found", "POST /predict/<revision>.")
            is_json = (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower() == "application/json"
            length = _number(self.headers.get("Content-Length") or "")
            if not 0 < length <= MAX_BODY_BYTES:
                raise Refused(413, "too_large", "Send an image or a text of 1 byte to 20 MiB.")
            asked = parse_qs(address.query).get("top")
            top = max(1, _number(asked[0])) if asked else None
            content = self.rfile.read(length)
            given = read_text(content) if is_json else read_image(content)
            self._answer(200, self.server.models.predict(name, given, top))
        except Refused as refused:
            self.close_connection = True
            self._answer(refused.status, {"code": refused.code, "message": refused.message})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"  # a Unix socket's peer has no address

    def log_message(self, *_arguments: Any) -> None:
        """Requests are logged by the site."""


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path: str, models: Models) -> None:
        self.models = models
        super().__init__(path, _Handler)


def run(spec: ServeSpec, _run_dir: Path, events: EventWriter) -> dict[str, Any]:
    """Serves until SIGTERM."""
    path = Path(spec.socket)
    path.unlink(missing_ok=True)
    os.chdir(path.parent)  # the kernel takes 107 bytes for a socket's path, so it is given the name alone
    with _Server(path.name, Models(Path(spec.releases), spec.capacity)) as server:
        path.chmod(0o600)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        events.stage("serve", "Ready")
        while not runtime.stop_requested():
            time.sleep(0.2)
        server.shutdown()
    path.unlink(missing_ok=True)
    return {}
