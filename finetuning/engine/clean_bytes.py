"""What of an image file its pixels need, copied byte by byte: no metadata, nothing after the end.

A file that departs in anything from the plain form of its format gives None: its pixels are then encoded anew.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_START, _END = b"\xff\xd8", b"\xff\xd9"
# Marker codes of ITU T.81, table B.1.
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive, Huffman-coded
_HUFFMAN_TABLES, _SCAN, _QUANTIZATION_TABLES, _RESTART_INTERVAL = 0xC4, 0xDA, 0xDB, 0xDD
_JFIF, _EXIF, _ADOBE, _COMMENT = 0xE0, 0xE1, 0xEE, 0xFE
_APPLICATION = range(0xE0, 0xF0)
_KEPT = frozenset({_HUFFMAN_TABLES, _QUANTIZATION_TABLES, _RESTART_INTERVAL})
# In a scan's data 0xFF is followed by 0 (the byte 0xFF itself) or by a restart marker; all else ends it.
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7]")
_MODES = {1: "L", 3: "RGB"}
_BITS = 8
# What decoders ask of these two segments, without density, thumbnail and version.
_PLAIN_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_PLAIN_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
_JFIF_BYTES, _ADOBE_BYTES, _ADOBE_TRANSFORM = 14, 12, 11

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK = struct.Struct(">L4s")
_CHECK_BYTES = 4
_HEADER = struct.Struct(">LLBB")  # width, height, bits, color type
_PALETTE = 3  # color type
_OPAQUE = frozenset({0, 2, _PALETTE})  # color types: grey, RGB, palette
_ANCILLARY = 0x20  # a bit of a chunk's first letter
_NOT_PLAIN = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})  # transparency and animation

# A photograph's file is smaller than its pixels; one that is larger carries something else.
_BYTES_A_PIXEL, _SPARE_BYTES = 3, 4096


@dataclass(frozen=True, slots=True)
class CleanFile:
    """`content` decodes to an image of `size` (width, height) in `mode`, "RGB" or "L". `has_exif`: the file said more
    of itself, its orientation perhaps."""

    content: bytes
    size: tuple[int, int]
    mode: str
    has_exif: bool


def jpeg(content: bytes) -> CleanFile | None:
    """Returns a JPEG's frame, tables and scans up to the end of its first image, with a JFIF or Adobe segment, which
    tell how colors are stored, in their shortest form. None for anything but 8-bit grey or three components, Huffman
    coded."""
    if not content.startswith(_START):
        return None
    parts = [_START]
    size, mode, scans, has_exif = (0, 0), "", 0, False
    at = len(_START)
    try:
        while content[at : at + 2] != _END:
            code, end = _segment(content, at)
            if code in _KEPT:
                parts.append(content[at:end])
            elif code in _FRAMES and not mode:
                bits, height, width, components = struct.unpack_from(">BHHB", content, at + 4)
                if bits != _BITS or not height:
                    return None
                size, mode = (width, height), _MODES[components]
                parts.append(content[at:end])
            elif code == _SCAN and mode:
                found = _AFTER_SCAN.search(content, end)
                if found is None:
                    return None
                scans, end = scans + 1, found.start()
                parts.append(content[at:end])
            elif (code in _APPLICATION or code == _COMMENT) and not scans:
                has_exif = has_exif or code == _EXIF
                parts.append(_of_colors(code, content[at + 4 : end]))
            else:
                return None
            at = end
    except (KeyError, struct.error):
        return None
    clean = b"".join([*parts, _END])
    return CleanFile(clean, size, mode, has_exif) if scans and _is_bounded(clean, size) else None


def _segment(content: bytes, at: int) -> tuple[int, int]:
    """Returns the marker code at a place, and where its segment ends. Raises struct.error where there is none."""
    filler, code, length = struct.unpack_from(">BBH", content, at)
    if filler != 0xFF or length < 2 or at + 2 + length > len(content):
        raise struct.error("no segment")
    return code, at + 2 + length


def _of_colors(code: int, body: bytes) -> bytes:
    """Returns what an application's segment says of the colors' form, in its shortest form."""
    if code == _JFIF and body.startswith(b"JFIF\0") and len(body) >= _JFIF_BYTES:
        return _PLAIN_JFIF
    if code == _ADOBE and body.startswith(b"Adobe") and len(body) >= _ADOBE_BYTES:
        return _PLAIN_ADOBE + body[_ADOBE_TRANSFORM : _ADOBE_TRANSFORM + 1]
    return b""


def png(content: bytes) -> bytes | None:
    """Returns a PNG's header, palette and pixels: the chunks IHDR, PLTE, IDAT and IEND. None where it is
    transparent, animated, of 16 bits, or of another form than the standard's."""
    if not content.startswith(_SIGNATURE):
        return None
    try:
        chunks = list(_chunks(content))
        width, height, bits, colors = _HEADER.unpack_from(content, len(_SIGNATURE) + _CHUNK.size)
    except struct.error:
        return None
    needed = [kind for kind, _ in chunks if not kind[0] & _ANCILLARY]
    data = needed.count(b"IDAT")
    wanted = [b"IHDR", *([b"PLTE"] if colors == _PALETTE else []), *[b"IDAT"] * data, b"IEND"]
    if bits > _BITS or colors not in _OPAQUE or not data or needed != wanted:
        return None
    if any(kind in _NOT_PLAIN for kind, _ in chunks):
        return None
    clean = b"".join([_SIGNATURE, *(chunk for kind, chunk in chunks if not kind[0] & _ANCILLARY)])
    return clean if _is_bounded(clean, (width, height)) else None


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields each chunk's kind and its bytes, to the end of the image. Raises struct.error where it has none."""
    at, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = _CHUNK.unpack_from(content, at)
        end = at + _CHUNK.size + length + _CHECK_BYTES
        if end > len(content):
            raise struct.error("no chunk")
        yield kind, content[at:end]
        at = end


def _is_bounded(content: bytes, size: tuple[int, int]) -> bool:
    return len(content) <= _BYTES_A_PIXEL * size[0] * size[1] + _SPARE_BYTES
