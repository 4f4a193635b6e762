"""The site's Ed25519 key: made once, kept beside the data (or in SIGNING_KEY_FILE), readable by its owner only. It signs the receipts of
evaluations (in the engine's process), receipts of consent and license files.

A receipt carries the public half; `/api/v1/signing-key/` tells which half is this site's.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from django.conf import settings

KEY_FILE = "receipts.pem"
ALGORITHM = "Ed25519"
KEY_ID_CHARACTERS = 16


def lay_key(directory: Path) -> None:
    """Copies the key into a run directory, under `KEY_FILE`, readable by its owner only."""
    _write(directory / KEY_FILE, _key().read_bytes())


def sign(message: bytes) -> bytes:
    return _private().sign(message)


def public_key() -> Ed25519PublicKey:
    return _private().public_key()


def public_pem() -> str:
    return public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def key_id(key: Ed25519PublicKey) -> str:
    """Returns what a key is called: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:KEY_ID_CHARACTERS]


def canonical(document: object) -> bytes:
    """Returns the one JSON text that is signed: sorted keys, no spaces, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def envelope(receipt: dict[str, Any]) -> dict[str, Any]:
    """Returns the receipt with its signature, in the shape of the engine's receipts (docs/engine.md)."""
    signature = {
        "algorithm": ALGORITHM,
        "public_key": base64.b64encode(public_key().public_bytes_raw()).decode(),
        "value": base64.b64encode(sign(canonical(receipt))).decode(),
    }
    return {"receipt": receipt, "signature": signature}


def _private() -> Ed25519PrivateKey:
    key = load_pem_private_key(_key().read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"{KEY_FILE} must hold an Ed25519 key.")
    return key


def _key() -> Path:
    """Returns where the key lies. Made on first use; of several processes at once the first one's stays."""
    path = Path(settings.SIGNING_KEY_FILE)
    if not path.exists():
        content = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
            draft = Path(folder) / KEY_FILE
            _write(draft, content)
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(draft)  # a whole key or none appears under the name
    return path


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
