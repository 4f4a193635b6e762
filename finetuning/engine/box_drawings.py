"""Boxes as people see them: true ones in solid lines, found ones dashed, with a legend that says so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from finetuning.engine.palettes import color_of

SIDE = 512  # pixels: the longer side of a picture; small images are enlarged, so that names can be read
_LINE, _DASH, _GAP = 2, 8, 6  # pixels
_NAME_HEIGHT = 12  # pixels
_MARGIN = 4
_LEGEND = ("true", "found, with its confidence")
Pen = ImageDraw.ImageDraw
Edges = tuple[float, float, float, float]


def compared(
    image: Image.Image, truth: Sequence[Sequence[float]], found: Sequence[dict[str, Any]], labels: Sequence[str]
) -> Image.Image:
    """Returns the image with its true boxes (label, left, top, right, bottom) and the found ones (`{label, score,
    box}`), in pixels of the image, each class in its color; the legend below tells the two kinds of line apart."""
    factor = SIDE / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    legend = _NAME_HEIGHT + 2 * _MARGIN
    picture = Image.new("RGB", (size[0], size[1] + legend), "white")
    picture.paste(image.resize(size, Image.Resampling.BILINEAR), (0, 0))
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(_NAME_HEIGHT)
    for label, *edges in truth:
        left, top, right, bottom = (factor * edge for edge in edges)
        color = color_of(int(label))
        pen.rectangle((left, top, right, bottom), outline=color, width=_LINE)
        _name(pen, (left, top - _NAME_HEIGHT), labels[int(label)], color, font)
    for row in found:
        left, top, right, bottom = (factor * edge for edge in row["box"])
        color = color_of(row["label"])
        _dashed(pen, (left, top, right, bottom), color)
        _name(
            pen, (left, min(bottom, size[1] - _NAME_HEIGHT)), f"{labels[row['label']]} {row['score']:.0%}", color, font
        )
    _draw_legend(pen, size[1] + _MARGIN, font)
    return picture


def _dashed(pen: Pen, box: Edges, color: tuple[int, int, int]) -> None:
    left, top, right, bottom = box
    for start in range(int(left), int(right), _DASH + _GAP):
        end = min(start + _DASH, right)
        pen.line([(start, top), (end, top)], color, _LINE)
        pen.line([(start, bottom), (end, bottom)], color, _LINE)
    for start in range(int(top), int(bottom), _DASH + _GAP):
        end = min(start + _DASH, bottom)
        pen.line([(left, start), (left, end)], color, _LINE)
        pen.line([(right, start), (right, end)], color, _LINE)


def _name(pen: Pen, place: tuple[float, float], text: str, color: tuple[int, int, int], font: Any) -> None:
    """Writes on a ground of its own: a name is read on any picture."""
    at = (max(0.0, place[0]), max(0.0, place[1]))
    pen.rectangle(pen.textbbox(at, text, font=font), fill="black")
    pen.text(at, text, fill=color, font=font)


def _draw_legend(pen: Pen, top: float, font: Any) -> None:
    left, middle = float(_MARGIN), top + _NAME_HEIGHT / 2
    for text, step in zip(_LEGEND, (_DASH, _DASH + _GAP), strict=True):
        for start in range(3):
            pen.line([(left + start * step, middle), (left + start * step + _DASH, middle)], "black", _LINE)
        left += 3 * step + _MARGIN
        pen.text((left, top), text, fill="black", font=font)
        left += pen.textlength(text, font=font) + 4 * _MARGIN
