"""Untrusted images become upright 8-bit RGB, or a BadImage with a code."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from archives_factory import encoded, picture
from PIL import Image, PngImagePlugin

from finetuning.engine import clean_bytes, images
from finetuning.engine.images import BadImage
from finetuning.engine.packs import Item, PackReader, PackWriter
from finetuning.engine.spec import ArchiveLimits, Split

LIMITS = ArchiveLimits()


def png_header(width: int, height: int) -> bytes:
    """Returns a PNG that declares a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    head = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def webp_header(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<L", 10) + b"\x02\0\0\0" + canvas
    return b"RIFF" + struct.pack("<L", len(body)) + body


def text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("bomb", "x" * 30_000_000, zip=True)
    return encoded(picture(1), "PNG", pnginfo=info)


JPEG = encoded(picture(1), "JPEG")
BAD = {
    "truncated jpeg": (JPEG[: len(JPEG) // 2], ".jpg", "bad_image"),
    "truncated png": (encoded(picture(1))[:-200], ".png", "bad_image"),
    "empty": (b"", ".png", "bad_image"),
    "noise": (b"\x01\x02\x03" * 50, ".png", "bad_image"),
    "text bomb": (text_bomb(), ".png", "bad_image"),
    "huge header": (png_header(30_000, 30_000), ".png", "image_too_large"),
    "over 40 Mpx": (png_header(8_000, 5_001), ".png", "image_too_large"),
    "huge webp canvas": (webp_header(16_000, 16_000), ".webp", "image_too_large"),
    "one pixel": (encoded(Image.new("RGB", (1, 1))), ".png", "image_too_small"),
    "one column": (encoded(Image.new("RGB", (1, 90))), ".png", "image_too_small"),
    "no pixels": (png_header(0, 0), ".png", "bad_image"),
    "bmp": (encoded(picture(1), "BMP"), ".jpg", "type_mismatch"),
    "gif": (encoded(picture(1), "GIF"), ".jpg", "type_mismatch"),
    "tiff": (encoded(picture(1), "TIFF"), ".jpg", "type_mismatch"),
    "svg": (b"<svg onload='alert(1)'/>", ".png", "type_mismatch"),
    "html": (b"\n<!doctype html><script>", ".png", "type_mismatch"),
}


@pytest.mark.parametrize(("content", "suffix", "code"), BAD.values(), ids=BAD.keys())
def test_bad_image_has_a_code(content: bytes, suffix: str, code: str) -> None:
    with pytest.raises(BadImage) as fault:
        images.decode(content, suffix, LIMITS, plain=clean_bytes.jpeg(content))

    assert fault.value.code == code


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    source = picture(2).convert(mode)

    decoded = images.decode(encoded(source), ".png", LIMITS)

    assert decoded.image.mode == "RGB"
    assert decoded.image.size == source.size
    assert decoded.mode == mode


def test_cmyk_jpeg_keeps_its_colours() -> None:
    red = Image.new("RGB", (32, 32), (200, 30, 30)).convert("CMYK")

    decoded = images.decode(encoded(red, "JPEG", quality=95), ".jpg", LIMITS)

    assert np.abs(np.asarray(decoded.image, dtype=int).mean((0, 1)) - [200, 30, 30]).max() < 8


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65_535, 256 * 4).reshape(4, 256).astype(np.uint16)

    decoded = images.decode(encoded(Image.fromarray(ramp)), ".png", LIMITS)

    grey = np.asarray(decoded.image)[..., 0].astype(int)
    assert np.abs(grey - np.round(ramp / 257)).max() <= 1
    assert grey.min() == 0
    assert grey.max() == 255


def test_transparency_lies_over_white() -> None:
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    keyed = Image.new("P", (8, 8), 0)

    over_white = images.decode(encoded(clear), ".png", LIMITS).image
    palette = images.decode(encoded(keyed, "PNG", transparency=0), ".png", LIMITS).image

    assert over_white.getpixel((3, 3)) == (255, 255, 255)
    assert palette.getpixel((3, 3)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = Image.new("RGB", (40, 24), "white")
    upright.paste((255, 0, 0), (0, 0, 8, 8))
    undo = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    method = undo.get(orientation) or images._TRANSPOSE.get(orientation)
    stored = upright.transpose(method) if method else upright
    exif = Image.Exif()
    exif[0x0112] = orientation

    decoded = images.decode(encoded(stored, "PNG", exif=exif), ".png", LIMITS)

    assert decoded.image.tobytes() == upright.tobytes()
    assert decoded.is_rotated == (orientation > 1)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_broken_exif_does_not_spoil_the_pixels() -> None:
    content = encoded(picture(3), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")

    assert images.decode(content, ".jpg", LIMITS).image.size == (48, 48)


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", ".png"), ("WEBP", ".webp")])
def test_animation_gives_its_first_frame(kind: str, suffix: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)

    decoded = images.decode(content, suffix, LIMITS)

    assert decoded.is_animated
    assert decoded.image.getpixel((5, 5)) == (255, 0, 0)


def test_a_readable_format_under_another_name_is_accepted_and_noted() -> None:
    decoded = images.decode(encoded(picture(4)), ".jpg", LIMITS)

    assert decoded.is_misnamed


def test_encoded_images_carry_no_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    content = encoded(picture(5), "JPEG", exif=exif, comment=b"secret", icc_profile=b"secret profile")
    decoded = images.decode(content, ".jpg", LIMITS).image

    stored = images.encode_png(decoded) + images.encode_thumbnail(decoded, 32)

    assert b"secret" not in stored


def test_png_keeps_pixels_and_thumbnail_fits() -> None:
    image = picture(6, side=80).crop((0, 0, 80, 40))

    again = Image.open(io.BytesIO(images.encode_png(image)))
    thumbnail = Image.open(io.BytesIO(images.encode_thumbnail(image, 32)))

    assert again.tobytes() == image.tobytes()
    assert thumbnail.size == (32, 16)


def test_identity_is_of_pixels_and_size_not_of_files() -> None:
    image = picture(7)
    fast, small = encoded(image, "PNG", compress_level=0), encoded(image, "PNG", compress_level=9)
    identities = {images.pixel_sha256(images.decode(c, ".png", LIMITS).image) for c in (fast, small)}
    wide, tall = Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4))

    assert len(identities) == 1
    assert images.pixel_sha256(wide) != images.pixel_sha256(tall)


def test_pack_reads_back_by_index(tmp_path: Path) -> None:
    items = [
        Item(
            index=number,
            file=f"{number:06d}.png",
            name=f"\u732b/{number}.png",
            label=0,
            split=Split.TRAIN,
            width=48,
            height=48,
            sha256="a" * 64,
            pixel_sha256="b" * 64,
            phash="0" * 16,
        )
        for number in (1, 2, 3)
    ]
    with PackWriter(tmp_path / "x.pack", items) as pack:
        for item in items:
            pack.add(item, images.encode_png(picture(item.index)))

    reader = PackReader(tmp_path / "x.pack")

    assert reader.items == items
    assert reader.image(items[2]).tobytes() == picture(3).tobytes()
    assert [image.tobytes() for image in reader.images(items)] == [picture(n).tobytes() for n in (1, 2, 3)]
