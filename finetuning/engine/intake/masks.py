"""One mask of an upload: decoded, checked against its image, in the stored image's size."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from finetuning.engine import images
from finetuning.engine.gathering import Prepared
from finetuning.engine.intake.class_lists import ClassList
from finetuning.engine.palettes import IGNORED, Classes
from finetuning.engine.spec import ArchiveLimits

_INDEXED = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_COLORED = ("RGB", "RGBA")
_MAX_SHOWN = 20
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
Size = tuple[int, int]


class BadMask(Exception):
    """A mask that does not fit its image or its classes. `code`: `bad_mask`, `mask_size`, `bad_class`,
    `unknown_color`, `colors_missing`, `rotation_unclear`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True)
class Polygon:
    """One closed outline of class `number`: x, y, x, y, ... in pixels of the upright image."""

    number: int
    points: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """The outlines of one image of (width, height); what they leave free is class 0."""

    size: Size
    polygons: tuple[Polygon, ...]


@dataclass(frozen=True, slots=True)
class Mask:
    """`png` holds the ids (mode L) in the stored image's size; `pixels` (256,) counts each id in it."""

    png: bytes
    pixels: npt.NDArray[np.int64]
    mode: str


def decoded(content: bytes, classes: ClassList | None, limits: ArchiveLimits) -> tuple[Image.Image, str]:
    """Returns the ids as an image of mode L, and how the file stores them. Raises BadMask."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.width * image.height > limits.max_pixels:
                raise BadMask("bad_mask", "the mask has too many pixels")
            image.load()
            mode = image.mode
            values = np.asarray(image.convert("RGB") if mode == "RGBA" else image)
    except BadMask:
        raise
    except Exception as error:  # decoders meet hostile bytes: any error means a bad mask
        raise BadMask("bad_mask", "the mask is no readable PNG") from error
    if mode in _COLORED:
        return Image.fromarray(_ids_of_colors(values, classes)), mode
    if mode not in _INDEXED:
        raise BadMask("bad_mask", f"the mask is of mode {mode}; use a grey, palette or RGB PNG")
    numbers = np.asarray(values).astype(np.int64)
    if numbers.size and (numbers.max() > IGNORED or numbers.min() < 0):
        strange = np.unique(numbers[(numbers > IGNORED) | (numbers < 0)])
        raise BadMask("bad_class", f"ids above {IGNORED}: {_listed(strange.tolist())}")
    return Image.fromarray(numbers.astype(np.uint8)), mode


def _ids_of_colors(values: Classes, classes: ClassList | None) -> Classes:
    if classes is None or not classes.ids:
        raise BadMask("colors_missing", "the mask is in colors, but no classes.csv with name,r,g,b says what they mean")
    table = sorted((red << 16 | green << 8 | blue, number) for (red, green, blue), number in classes.ids.items())
    known, ids = np.array([code for code, _ in table]), np.array([number for _, number in table], np.uint8)
    codes = values[..., 0].astype(np.int64) << 16 | values[..., 1].astype(np.int64) << 8 | values[..., 2]
    places = np.searchsorted(known, codes).clip(max=len(known) - 1)
    strange = known[places] != codes
    if strange.any():
        found = [f"({code >> 16}, {code >> 8 & 255}, {code & 255})" for code in np.unique(codes[strange]).tolist()]
        raise BadMask("unknown_color", f"colors that classes.csv does not name: {_listed(found)}")
    numbers: Classes = ids[places]
    return numbers


def drawn(drawing: Drawing) -> Image.Image:
    """Returns the outlines filled, the largest first, so that small ones on top stay visible."""
    image = Image.new("L", drawing.size, 0)
    pen = ImageDraw.Draw(image)
    for polygon in sorted(drawing.polygons, key=lambda polygon: -_area(polygon.points)):
        pen.polygon(list(polygon.points), fill=polygon.number)
    return image


def _area(points: tuple[float, ...]) -> float:
    """Returns the area inside the outline (the shoelace formula)."""
    x, y = np.array(points[::2]), np.array(points[1::2])
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def fitted(mask: Image.Image, prepared: Prepared, mode: str) -> Mask:
    """Returns the mask turned and shrunk as its image was. Raises BadMask (`mask_size`, `rotation_unclear`)."""
    mask = _turned(mask, prepared)
    if mask.size != (prepared.width, prepared.height):
        mask = mask.resize((prepared.width, prepared.height), Image.Resampling.NEAREST)
    counts = np.bincount(np.asarray(mask).ravel(), minlength=IGNORED + 1)
    return Mask(images.encode_png(mask), counts, mode)


def _turned(mask: Image.Image, prepared: Prepared) -> Image.Image:
    """Returns the mask upright. Where the camera turned the photo, the mask's size must tell whether it was
    drawn before or after the turn."""
    shown, orientation = prepared.uploaded_size, prepared.orientation
    as_stored = shown[::-1] if orientation in _QUARTER_TURNS else shown
    if mask.size not in (shown, as_stored):
        raise BadMask("mask_size", f"the mask is {_size(mask.size)} pixels, the image {_size(shown)}")
    if orientation != 1 and shown == as_stored:
        raise BadMask(
            "rotation_unclear",
            "the photo is turned by its EXIF orientation, and the sizes do not tell whether its mask is too",
        )
    return mask if mask.size == shown else images.upright(mask, orientation)


def _size(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


def _listed(values: list[int] | list[str]) -> str:
    shown = ", ".join(str(value) for value in values[:_MAX_SHOWN])
    return f"{shown}, and {len(values) - _MAX_SHOWN} more" if len(values) > _MAX_SHOWN else shown
