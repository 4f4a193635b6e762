"""Masks as people see them: a color for each class, palette PNGs and overlays."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

IGNORED = 255  # the class of pixels that count nowhere
_IGNORED_COLOR = (255, 255, 255)
_GOLDEN_TURN = 0.618034  # of the hue circle: neighbors in the list are far apart on it
_SHADES = ((0.85, 0.95), (0.6, 0.75), (0.95, 0.6))  # (saturation, value), in turn
_OPACITY = 0.5
_MARGIN = 4  # pixels between the panels

Classes = npt.NDArray[np.uint8]


def color_of(position: int) -> tuple[int, int, int]:
    """Returns the RGB color of the class at this position of the labels, the same everywhere."""
    saturation, value = _SHADES[position % len(_SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(position * _GOLDEN_TURN % 1.0, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def hex_colors(count: int) -> list[str]:
    """Returns `#rrggbb` for each class, for legends."""
    return ["#{:02x}{:02x}{:02x}".format(*color_of(position)) for position in range(count)]


def picture(classes: Classes) -> Image.Image:
    """Returns classes (H, W) as an image of mode P: the pixel is the class, the palette its color."""
    image = Image.fromarray(classes).convert("L")
    colors = [channel for position in range(IGNORED) for channel in color_of(position)]
    image.putpalette([*colors, *_IGNORED_COLOR])
    return image


def palette_png(classes: Classes) -> bytes:
    buffer = io.BytesIO()
    picture(classes).save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def overlay(image: Image.Image, classes: Classes) -> Image.Image:
    """Returns the RGB image under its classes (H, W), half transparent; ignored pixels are white."""
    return Image.blend(image, picture(classes).convert("RGB"), _OPACITY)


def comparison(image: Image.Image, truth: Classes, predicted: Classes, *, side: int) -> Image.Image:
    """Returns truth and prediction over the image beside each other, each at most `side` pixels wide and high."""
    factor = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    both = Image.new("RGB", (2 * size[0] + _MARGIN, size[1]), "white")
    for left, classes in ((0, truth), (size[0] + _MARGIN, predicted)):
        both.paste(overlay(image, classes).resize(size, Image.Resampling.BILINEAR), (left, 0))
    return both
