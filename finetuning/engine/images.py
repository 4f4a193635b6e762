"""Turns the bytes of one untrusted image into RGB pixels, its identity and its fingerprint."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from finetuning.engine import clean_bytes
from finetuning.engine.clean_bytes import CleanFile
from finetuning.engine.spec import ArchiveLimits

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]

_FORMATS = ("JPEG", "PNG", "WEBP")
_FORMAT_OF_SUFFIX = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
# First bytes of what is often renamed to .jpg, to say more than "cannot be read".
_FOREIGN = {
    b"BM": "BMP",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"<!DOCTYPE": "HTML",
    b"<html": "HTML",
}
_ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = 1  # the orientation of an image that is shown as it is stored
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIXTEEN_BIT = 257  # 65535 / 255: scales the whole range, so two images of one set stay comparable
_BAND_PIXELS = 2**20
# What Pillow raises on hostile headers and EXIF, as met by mutating files.
_DECODER_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
FINGERPRINT_SIDE = 32
VIEW_BYTES = 3 * FINGERPRINT_SIDE**2
_HASH_SIDE = 8
_HASHED_AT_ONCE = 256


class BadImage(Exception):
    """One image that cannot be used; `code` is `bad_image`, `type_mismatch`, `image_too_large` or
    `image_too_small`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type[BadImage], tuple[str, str]]:
        return BadImage, (self.code, self.message)


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image. `image` is RGB, 8 bits, upright; `mode` is how the file stores it, `orientation` the EXIF
    value that was applied (1: none), `clean` the file cut down to what `image` was decoded from: empty where the
    pixels must be encoded anew."""

    image: Image.Image
    mode: str
    format: str
    is_animated: bool
    is_misnamed: bool
    orientation: int = 1
    clean: bytes = b""

    @property
    def is_rotated(self) -> bool:
        return self.orientation != 1


def decode(content: bytes, suffix: str, limits: ArchiveLimits, *, plain: CleanFile | None = None) -> Picture:
    """Decodes one image whose file name ends in `suffix`; `plain` is its clean copy where it is a JPEG that has one.
    Raises BadImage, and nothing else."""
    try:
        return _decode_plain(plain, content, suffix, limits) or _decode(content, suffix, limits)
    except BadImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(limits) from error
    except Exception as error:  # decoders meet hostile bytes: any error means a bad image
        raise BadImage("bad_image", "The image is damaged or incomplete.") from error


def declared_pixels(content: bytes) -> int:
    """Returns how many pixels the header declares, or 0 where it cannot be read."""
    try:
        if size := _webp_size(content):
            return size[0] * size[1]
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return image.width * image.height
    except _DECODER_ERRORS:  # decode will say what is wrong
        return 0


def _decode_plain(plain: CleanFile | None, content: bytes, suffix: str, limits: ArchiveLimits) -> Picture | None:
    """Returns what the clean copy of a JPEG holds; None where it does not decode to its end."""
    if plain is None:
        return None
    _check_size(plain.size, limits)
    try:
        pixels = Image.frombytes(plain.mode, plain.size, plain.content, "jpeg", plain.mode, "")
    except _DECODER_ERRORS:
        return None
    orientation = _orientation_of_file(content) if plain.has_exif else UPRIGHT
    return Picture(
        image=upright(to_rgb(pixels), orientation),
        mode=plain.mode,
        format="JPEG",
        is_animated=False,
        is_misnamed=_is_misnamed(suffix, "JPEG"),
        orientation=orientation,
        clean=plain.content,
    )


def _decode(content: bytes, suffix: str, limits: ArchiveLimits) -> Picture:
    if size := _webp_size(content):  # Pillow allocates two WebP canvases when it opens a file
        _check_size(size, limits)
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise _unidentified(content) from error
    with image:
        _check_size(image.size, limits)
        image.load()
        stored = "JPEG" if image.format == "MPO" else str(image.format)  # two JPEGs of a stereo camera
        orientation = _orientation(image)
        pixels = upright(to_rgb(image), orientation)
        pixels.info = {}  # or the encoders would write its profile and comments again
        return Picture(
            image=pixels,
            mode=image.mode,
            format=stored,
            is_animated=image.format != "MPO" and getattr(image, "n_frames", 1) > 1,
            is_misnamed=_is_misnamed(suffix, stored),
            orientation=orientation,
            clean=(clean_bytes.png(content) or b"") if stored == "PNG" else b"",
        )


def _is_misnamed(suffix: str, stored: str) -> bool:
    return _FORMAT_OF_SUFFIX.get(suffix.lower(), stored) != stored


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Returns the image turned as its EXIF orientation asks."""
    method = _TRANSPOSE.get(orientation)
    return image.transpose(method) if method else image


def _check_size(size: tuple[int, int], limits: ArchiveLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise _too_large(limits)
    if min(width, height) < limits.min_side:
        raise BadImage("image_too_small", f"The image is {width} x {height} pixels.")


def _too_large(limits: ArchiveLimits) -> BadImage:
    millions = limits.max_pixels / 1e6
    return BadImage("image_too_large", f"The image has more than {millions:g} million pixels.")


def _unidentified(content: bytes) -> BadImage:
    start = content[:256].lstrip()
    for magic, name in _FOREIGN.items():
        if start[: len(magic)].lower() == magic.lower():
            return BadImage("type_mismatch", f"The file is {name}, not a JPEG, PNG or WebP image.")
    return BadImage("bad_image", "The file is not a readable JPEG, PNG or WebP image.")


def _webp_size(content: bytes) -> tuple[int, int] | None:
    """Returns the canvas of a WebP file from its header (RFC 9649), or None for anything else."""
    if len(content) < 30 or content[:4] != b"RIFF" or content[8:12] != b"WEBP":
        return None
    kind = content[12:16]
    if kind == b"VP8X":
        return (
            int.from_bytes(content[24:27], "little") + 1,
            int.from_bytes(content[27:30], "little") + 1,
        )
    if kind == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", content, 26)
    return width & 0x3FFF, height & 0x3FFF


def _orientation_of_file(content: bytes) -> int:
    """Returns the orientation that an image file asks for, without decoding its pixels."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return _orientation(image)
    except _DECODER_ERRORS:
        return UPRIGHT


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, or 1 where the EXIF is absent or broken: the pixels are still good."""
    try:
        value = image.getexif().get(_ORIENTATION, UPRIGHT)
    except _DECODER_ERRORS:
        return UPRIGHT
    return value if isinstance(value, int) and value in _TRANSPOSE else UPRIGHT


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns the image as RGB, 8 bits. 16-bit greys are scaled by their full range; transparency is laid
    over white, as a viewer shows it."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64).clip(0, 65_535)
        grey = ((values + _SIXTEEN_BIT // 2) // _SIXTEEN_BIT).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        pixels = Image.new("RGB", image.size, "white")
        for box in _bands(image.size):  # a whole copy in RGBA would double the peak memory
            layer = image.crop(box).convert("RGBA")
            pixels.paste(layer, box, mask=layer.getchannel("A"))
        return pixels
    return image.convert("RGB") if image.mode != "RGB" else image


def _bands(size: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yields boxes of whole rows, about a million pixels each, from top to bottom."""
    width, height = size
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(height, top + rows)


def pixel_sha256(image: Image.Image) -> str:
    """Returns the identity of an RGB image: 64 hex digits over its size and pixels."""
    digest = hashlib.sha256(struct.pack("<LL", *image.size))
    if image.width * image.height <= _BAND_PIXELS:
        digest.update(image.tobytes())
    else:
        for box in _bands(image.size):  # all pixels at once would take as much memory again
            digest.update(image.crop(box).tobytes())
    return digest.hexdigest()


def small(image: Image.Image) -> bytes:
    """Returns the 32 x 32 RGB pixels by which pictures are compared."""
    side = (FINGERPRINT_SIDE, FINGERPRINT_SIDE)
    return image.resize(side, Image.Resampling.BILINEAR, reducing_gap=3.0).tobytes()


def views(pixels: bytes | memoryview) -> Bytes:
    """Returns several `small` ones as (N, 32, 32, 3) uint8."""
    return np.frombuffer(pixels, np.uint8).reshape(-1, FINGERPRINT_SIDE, FINGERPRINT_SIDE, 3)


def perceptual_hashes(pictures: Bytes) -> Hashes:
    """Returns the 64-bit hash of each of `views` (N, 32, 32, 3): the signs of the lowest 8 x 8 coefficients of
    the grey picture's DCT against their median."""
    hashes = np.empty(len(pictures), ">u8")
    for start in range(0, len(pictures), _HASHED_AT_ONCE):
        part = pictures[start : start + _HASHED_AT_ONCE]
        grey = part[..., 0].astype(np.float64) + part[..., 1] + part[..., 2]
        low = (_cosines() @ (grey / 3) @ _cosines().T).reshape(len(part), -1)
        middle = np.sort(low, axis=1)[:, low.shape[1] // 2 - 1 :][:, :2].mean(axis=1, keepdims=True)  # their median
        # Rounding keeps noise of the last bits from deciding in flat images.
        bits = np.round(low, 3) > np.round(middle, 3)
        hashes[start : start + len(part)] = np.packbits(bits, axis=1).view(">u8").ravel()
    return hashes.astype(np.uint64)


@cache
def _cosines() -> npt.NDArray[np.float64]:
    """Returns the first 8 rows of the DCT-II of length 32: (8, 32)."""
    position = np.arange(FINGERPRINT_SIDE)
    frequency = np.arange(_HASH_SIDE)[:, None]
    return np.asarray(np.cos(np.pi * (2 * position + 1) * frequency / (2 * FINGERPRINT_SIDE)))


def shrink(image: Image.Image, short_side: int) -> Image.Image:
    """Returns the image with its short side at most `short_side`, aspect kept."""
    factor = short_side / min(image.size)
    if factor >= 1:
        return image
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def reduced(image: Image.Image, short_side: int) -> Image.Image:
    """Returns the image averaged over whole pixels, its short side still at least `short_side`: most of the work of
    several small views of a large image, done once."""
    factor = min(image.size) // short_side
    return image.reduce(factor) if factor > 1 else image


def encode_jpeg(image: Image.Image) -> bytes:
    """Returns a JPEG without metadata whose errors no eye sees, at a fourth of a PNG's size."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def encode_png(image: Image.Image) -> bytes:
    """Returns the image as PNG without metadata; level 1 costs a tenth of the time for a tenth more bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def encode_thumbnail(image: Image.Image, side: int) -> bytes:
    """Returns a JPEG that fits into `side` x `side`, without metadata."""
    factor = side / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    thumbnail = image if factor >= 1 else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    thumbnail.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
