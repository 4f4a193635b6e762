"""The key that signs receipts of evaluations: made once, kept beside the data, readable by its owner only.

A receipt carries its public half.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.conf import settings

KEY_FILE = "receipts.pem"


def lay_key(directory: Path) -> None:
    """Copies the key into a run directory, under `KEY_FILE`, readable by its owner only."""
    _write(directory / KEY_FILE, _key().read_bytes())


def _key() -> Path:
    """Returns where the key lies. Made on first use; of several processes at once the first one's stays."""
    path = Path(settings.DATA_DIR) / KEY_FILE
    if not path.exists():
        content = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{KEY_FILE}-") as folder:
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
