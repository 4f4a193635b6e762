"""Predictions over HTTP on a Unix socket, with the least recently used models dropped first."""

from __future__ import annotations

import base64
import json
import os
import re
import socketserver
import threading
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import torch
from PIL import Image

from finetuning.engine import canvas, frameworks, palettes, preprocessing, runtime
from finetuning.engine.events import EventWriter
from finetuning.engine.frameworks import Loaded
from finetuning.engine.gathering import MAX_SHORT_SIDE
from finetuning.engine.images import BadImage, decode, shrink
from finetuning.engine.problems import Rejected
from finetuning.engine.spec import ArchiveLimits, Framework, Preprocessing, ServeSpec, Task, WeightsSpec

MAX_BODY_BYTES = 20 * 2**20
_LONGEST_NUMBER = 12  # digits
_SHA = re.compile(r"[0-9a-f]{40}")


class Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Models:
    """Loaded releases by revision; the lock makes loading and inference one at a time, because two at once
    on the same cores are slower than one after the other."""

    def __init__(self, root: Path, capacity: int) -> None:
        self._root, self._capacity = root, capacity
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def names(self) -> list[str]:
        return list(self._loaded)

    def predict(self, name: str, content: bytes, top: int) -> dict[str, Any]:
        try:
            picture = decode(content, "", ArchiveLimits(min_side=1))
        except BadImage as error:
            raise Refused(422, error.code, error.message) from error
        started = time.perf_counter()
        with self._lock:
            warm = name in self._loaded
            loaded = self._get(name)
            with torch.inference_mode():
                answer = _segmented if loaded.task is Task.SEMANTIC_SEGMENTATION else _classified
                document = answer(loaded, picture.image, top)
        return {
            **document,
            "milliseconds": round(1000 * (time.perf_counter() - started), 1),
            "warm": warm,
        }

    def _get(self, name: str) -> Loaded:
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
            while len(self._loaded) > self._capacity:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def _load(self, name: str) -> Loaded:
        try:
            document = json.loads((self._root / name / "weights.json").read_text())
            spec = WeightsSpec(
                task=Task(document["task"]),
                framework=Framework(document["framework"]),
                architecture=document["architecture"],
                directory=name,
            )
            return frameworks.load(spec, self._root)
        except FileNotFoundError as error:
            raise Refused(404, "not_laid_out", "This release is not laid out for predictions.") from error
        except Rejected as error:
            raise Refused(500, "release_broken", error.problems[0].message) from error


def _number(text: str) -> int:
    """Returns the number, or 0 for what is none; int() refuses very long ones with an exception."""
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_NUMBER else 0


def _classified(loaded: Loaded, image: Image.Image, top: int) -> dict[str, Any]:
    spec = loaded.preprocessing or Preprocessing()
    logits = loaded.module(preprocessing.transform(spec)(image).unsqueeze(0))[0]
    shares, places = logits.float().softmax(0).topk(min(top, len(loaded.labels)))
    return {
        "predictions": [
            {"label": loaded.labels[place], "index": place, "confidence": share}
            for share, place in zip(shares.tolist(), places.tolist(), strict=True)
        ]
    }


def _segmented(loaded: Loaded, image: Image.Image, _top: int) -> dict[str, Any]:
    """Returns the class of each pixel as a palette PNG, and each class's color and share of the pixels."""
    image = shrink(image, MAX_SHORT_SIDE)  # as in training: a mask of more pixels would show no more
    pixels, _ = canvas.evaluation_view(image, None, loaded.preprocessing or Preprocessing())
    classes = canvas.classes_on(loaded.module(pixels.unsqueeze(0))["out"][0], image.size)
    counts = np.bincount(classes.ravel(), minlength=len(loaded.labels))
    colors = palettes.hex_colors(len(loaded.labels))
    return {
        "mask": {
            "png": base64.b64encode(palettes.palette_png(classes)).decode(),
            "width": image.width,
            "height": image.height,
        },
        "classes": [
            {"label": label, "index": place, "color": colors[place], "share": int(counts[place]) / classes.size}
            for place, label in enumerate(loaded.labels)
        ],
    }


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
            length = _number(self.headers.get("Content-Length") or "")
            if not 0 < length <= MAX_BODY_BYTES:
                raise Refused(413, "too_large", "Send an image of 1 byte to 20 MiB.")
            top = _number(parse_qs(address.query).get("top", ["5"])[0])
            self._answer(200, self.server.models.predict(name, self.rfile.read(length), max(1, top)))
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
