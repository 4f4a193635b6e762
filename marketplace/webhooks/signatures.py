"""The signature of Standard Webhooks (v1): HMAC-SHA256 over `id.timestamp.body`, by each secret that is live."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from datetime import datetime

PREFIX = "whsec_"
KEY_BYTES = 32  # the standard wants 24 to 64


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def headers(*, webhook_id: str, body: bytes, keys: Iterable[str], at: datetime) -> dict[str, str]:
    """Returns the three headers of one try. `at` is the time of the try, which receivers compare with their clock."""
    timestamp = str(int(at.timestamp()))
    message = b".".join((webhook_id.encode(), timestamp.encode(), body))
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(key, message) for key in keys),
    }


def _signature(secret: str, message: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    digest = hmac.new(key, message, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()
