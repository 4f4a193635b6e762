"""Secrets that people carry about: a greppable prefix, 32 random base-62 characters, 6 of CRC-32 checksum; and the
keyed hash, which is all that is kept of them. What this site itself must be able to say again is sealed instead.

The checksum lets secret scanners and this site tell a typing error from an unknown secret without a query.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import string
import zlib

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

RANDOM_CHARACTERS = 32
CHECKSUM_CHARACTERS = 6
HINT_CHARACTERS = 4
_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


def new(prefix: str) -> str:
    body = "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return prefix + body + _checksum(body)


def is_well_formed(secret: str, prefix: str) -> bool:
    body = secret.removeprefix(prefix)
    if body == secret or len(body) != RANDOM_CHARACTERS + CHECKSUM_CHARACTERS:
        return False
    return secrets.compare_digest(_checksum(body[:RANDOM_CHARACTERS]).encode(), body[RANDOM_CHARACTERS:].encode())


def hint(secret: str) -> str:
    """Returns the last characters, to recognise a secret by."""
    return secret[-HINT_CHARACTERS:]


def keyed_hash(text: str, *, purpose: str = "") -> str:
    """Returns HMAC-SHA256 under SECRET_KEY, in hex; equal texts of different purposes differ. Looking a secret up
    by it leaks nothing in time: nobody without the key can steer the hash."""
    message = f"{purpose}:{text}" if purpose else text
    return hmac.new(settings.SECRET_KEY.encode(), message.encode(), hashlib.sha256).hexdigest()


def sealed(text: str, *, purpose: str) -> str:
    """Returns the text encrypted under SECRET_KEY, for a secret that this site signs with: the database, or a copy of
    it, does not tell it."""
    return _fernet(purpose).encrypt(text.encode()).decode()


def unsealed(token: str, *, purpose: str) -> str | None:
    """Returns what was sealed for the purpose; None where SECRET_KEY is another one by now."""
    try:
        return _fernet(purpose).decrypt(token.encode()).decode()
    except InvalidToken:
        return None


def _fernet(purpose: str) -> Fernet:
    key = HKDF(SHA256(), length=32, salt=None, info=f"sealed:{purpose}".encode()).derive(settings.SECRET_KEY.encode())
    return Fernet(base64.urlsafe_b64encode(key))


def _checksum(body: str) -> str:
    value, characters = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_CHARACTERS):
        value, rest = divmod(value, len(_ALPHABET))
        characters = _ALPHABET[rest] + characters
    return characters
