"""Predictions for texts: what the socket answers."""

from __future__ import annotations

import json
import socket as sockets
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from archives_factory import encoded, picture
from texts_factory import LABELS, loaded_from, tiny_encoder

from finetuning.engine import frameworks, serve
from finetuning.engine.frameworks.transformers_models import with_head

CLASSIFIER, ENCODER = "a" * 40, "b" * 40


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("s")
    base = with_head(loaded_from(tiny_encoder(root / ENCODER)), 3)
    torch.manual_seed(0)
    tuned = frameworks.replace_head(base, LABELS, torch.randn(3, 32), torch.zeros(3))
    frameworks.write_release(root / CLASSIFIER, tuned)
    for name in (CLASSIFIER, ENCODER):
        document = {"task": "text-classification", "framework": "transformers", "architecture": "BertModel"}
        (root / name / "weights.json").write_text(json.dumps(document))
    path = root / "sock"
    with serve._Server(str(path), serve.Models(root, 2)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield path
        server.shutdown()


class UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("unix")
        self._path = path

    def connect(self) -> None:
        self.sock = sockets.socket(sockets.AF_UNIX)
        self.sock.connect(str(self._path))


def post(socket: Path, body: bytes, *, kind: str = "application/json", name: str = CLASSIFIER) -> tuple[int, Any]:
    connection = UnixConnection(socket)
    connection.request("POST", f"/predict/{name}?top=2", body=body, headers={"Content-Type": kind})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("key", ["text", "inputs"])
def test_a_text_is_classified(socket: Path, key: str) -> None:
    status, document = post(
        socket, json.dumps({key: "salt and butter"}).encode(), kind="application/json; charset=utf-8"
    )

    assert status == 200
    assert len(document["predictions"]) == 2
    first = document["predictions"][0]
    assert first["label"] == LABELS[first["index"]]
    assert 1 / 3 < first["confidence"] <= 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"salt", 422, "bad_json"),
        (b"[" * 100_000, 422, "bad_json"),
        (b'{"words": "salt"}', 422, "bad_json"),
        (b'{"text": ["salt"]}', 422, "bad_json"),
        (b'{"text": "\\ud800"}', 422, "bad_json"),
        (b'{"text": " "}', 422, "empty_text"),
        (json.dumps({"text": "x" * 100_001}).encode(), 422, "text_too_long"),
    ],
)
def test_what_is_no_text_is_refused(socket: Path, body: bytes, status: int, code: str) -> None:
    assert post(socket, body)[0] == status
    assert post(socket, body)[1]["code"] == code


def test_an_image_for_a_text_model_is_refused(socket: Path) -> None:
    status, document = post(socket, encoded(picture(1)), kind="image/png")

    assert (status, document["code"]) == (415, "wrong_input")


def test_an_encoder_without_classes_says_so(socket: Path) -> None:
    status, document = post(socket, b'{"text": "salt"}', name=ENCODER)

    assert (status, document["code"]) == (409, "no_classes")
