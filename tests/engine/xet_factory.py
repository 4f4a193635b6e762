"""Xorbs and shards as Xet clients write them, and as an attacker might."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import lz4.frame

PLAIN, LZ4, GROUPED = 0, 1, 2


def chunk(content: bytes, scheme: int = PLAIN, *, says: int | None = None) -> bytes:
    """One chunk with its header; `says` is the plain length that the header tells."""
    if scheme == GROUPED:
        body = lz4.frame.compress(b"".join(content[lane::4] for lane in range(4)))
    else:
        body = lz4.frame.compress(content) if scheme == LZ4 else content
    plain = len(content) if says is None else says
    return b"\0" + len(body).to_bytes(3, "little") + bytes([scheme]) + plain.to_bytes(3, "little") + body


def name(digest: bytes) -> str:
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))


def digest_of(xorb: bytes) -> bytes:
    """Any 32 bytes do: this site goes by SHA-256 alone."""
    return hashlib.blake2s(xorb).digest()


def segment(digest: bytes, size: int, start: int, end: int) -> bytes:
    return digest + struct.pack("<IIII", 0, size, start, end)


def entry(segments: Sequence[bytes], sha256: str = "", *, count: int | None = None, verified: bool = True) -> bytes:
    flags = (1 << 31 if verified else 0) | (1 << 30 if sha256 else 0)
    many = len(segments) if count is None else count
    head = b"\x11" * 32 + struct.pack("<IIQ", flags, many, 0)
    checks = b"\x22" * 48 * len(segments) if verified else b""
    told = struct.pack("<4Q", *struct.unpack(">4Q", bytes.fromhex(sha256))) + bytes(16) if sha256 else b""
    return head + b"".join(segments) + checks + told


def shard(*entries: bytes, ends: bool = True) -> bytes:
    head = b"HFRepoMetaData\0" + bytes(17) + struct.pack("<QQ", 2, 0)
    return head + b"".join(entries) + (b"\xff" * 32 + bytes(16) if ends else b"")


def one_file(content: bytes) -> tuple[dict[str, bytes], bytes, str]:
    """The xorb by its name, the shard and the SHA-256 of a file in three chunks, one of each scheme."""
    third = len(content) // 3
    pieces = [content[:third], content[third : 2 * third], content[2 * third :]]
    xorb = b"".join(chunk(piece, scheme) for scheme, piece in enumerate(pieces)) + b"XETBLOB footer"
    sha256 = hashlib.sha256(content).hexdigest()
    told = shard(entry([segment(digest_of(xorb), len(content), 0, 3)], sha256))
    return {name(digest_of(xorb)): xorb}, told, sha256
