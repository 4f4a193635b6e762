"""License files: a grant as text that proves itself without this site. Pure but for the key that is given.

The envelope is Keygen's (docs/adr): between two marks, in base64, `{"enc", "sig", "alg"}`; `enc` is the base64 of the
payload's JSON, `sig` the Ed25519 signature over `license/` and `enc`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from marketplace.signing import canonical, key_id

FORMAT = "model-license/1"
ALGORITHM = "base64+ed25519"
BEGIN, END = "-----BEGIN LICENSE FILE-----", "-----END LICENSE FILE-----"
LINE = 64
MAX_BYTES = 4 * 2**20
PUBLIC_KEY_BYTES = 32


class Fault(StrEnum):
    UNREADABLE = "unreadable"
    WRONG_KEY = "wrong_key"
    TAMPERED = "tampered"
    EXPIRED = "expired"


class LicenseFileError(Exception):
    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


def armor(payload: dict[str, Any], *, sign: Callable[[bytes], bytes]) -> str:
    """Returns the file's text."""
    enc = base64.b64encode(canonical(payload)).decode()
    signature = base64.b64encode(sign(b"license/" + enc.encode())).decode()
    body = base64.b64encode(canonical({"enc": enc, "sig": signature, "alg": ALGORITHM})).decode()
    lines = [body[start : start + LINE] for start in range(0, len(body), LINE)]
    return "\n".join([BEGIN, *lines, END, ""])


def verify(text: str, key: Ed25519PublicKey, *, now: datetime) -> dict[str, Any]:
    """Returns the payload of a file that the key's owner signed and that has not expired. Raises
    LicenseFileError, whose `fault` tells what cannot be read, a wrong key, a changed file and an expired one
    apart."""
    envelope = _parsed(_between_marks(text), "is no license file")
    enc, signature = str(envelope.get("enc", "")), str(envelope.get("sig", ""))
    if envelope.get("alg") != ALGORITHM:
        raise LicenseFileError(Fault.UNREADABLE, f"The file is not signed by {ALGORITHM}.")
    payload = _parsed(enc, "holds no license")
    try:
        key.verify(base64.b64decode(signature, validate=True), b"license/" + enc.encode())
    except (InvalidSignature, binascii.Error) as error:
        raise _not_this_key(payload, key) from error
    expires = payload.get("expires_at")
    if expires is not None and datetime.fromisoformat(str(expires)) <= now:
        raise LicenseFileError(Fault.EXPIRED, f"The license ended at {expires}.")
    return payload


def public_key_from(text: str) -> Ed25519PublicKey:
    """Reads a public key: PEM, or its 32 bytes as hex or base64. Raises ValueError."""
    text = text.strip()
    if text.startswith("-----BEGIN"):
        try:
            key = load_pem_public_key(text.encode())
        except UnsupportedAlgorithm as error:
            raise ValueError("not an Ed25519 key") from error
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("not an Ed25519 key")
        return key
    raw = bytes.fromhex(text) if len(text) == 2 * PUBLIC_KEY_BYTES else base64.b64decode(text, validate=True)
    return Ed25519PublicKey.from_public_bytes(raw)


def _between_marks(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines()]
    if len(text) > MAX_BYTES or len(lines) < 3 or (lines[0], lines[-1]) != (BEGIN, END):  # noqa: PLR2004 - marks and a line
        raise LicenseFileError(Fault.UNREADABLE, f"A license file begins with {BEGIN} and ends with {END}.")
    return "".join(lines[1:-1])


def _parsed(encoded: str, problem: str) -> dict[str, Any]:
    try:
        document = json.loads(base64.b64decode(encoded, validate=True))
    except (ValueError, RecursionError) as error:
        raise LicenseFileError(Fault.UNREADABLE, f"The file {problem}.") from error
    if not isinstance(document, dict):
        raise LicenseFileError(Fault.UNREADABLE, f"The file {problem}.")
    return document


def _not_this_key(payload: dict[str, Any], key: Ed25519PublicKey) -> LicenseFileError:
    named = payload.get("key_id")
    if named != key_id(key):
        text = f"The file names the key {named}; the one given is {key_id(key)}."
        return LicenseFileError(Fault.WRONG_KEY, text)
    return LicenseFileError(Fault.TAMPERED, "The file was changed after it was signed.")
