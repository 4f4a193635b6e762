"""From raw pixels to a network's input, in ONNX: what preprocessing.py, canvas.py and placement.py do with PIL."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from finetuning.engine import preprocessing
from finetuning.engine.exporting import graphs, resampling
from finetuning.engine.spec import Preprocessing

INPUT = "image (height, width, 3): uint8 RGB, upright, of any size"


def cropped(spec: Preprocessing) -> onnx.ModelProto:
    """Returns (image (height, width, 3) uint8) => (pixels (1, 3, S, S) float32): short side resized, center cut
    out, normalized. Raises UserFault (`export_unsupported`)."""
    return graphs.written(
        "view",
        f"(uint8[height, width, 3] image) => (float[1, 3, {spec.size}, {spec.size}] pixels)",
        f"""
        size = Shape <start = 0, end = 2> (image)
        short = ReduceMin <keepdims = 1> (size)
        target = Constant <value_ints = [{preprocessing.short_side(spec)}]> ()
        grown = Mul (size, target)
        scaled_size = Div (grown, short)
        {resampling.resized(spec.interpolation)}
        crop = Constant <value_ints = [{spec.size}, {spec.size}]> ()
        room = Sub (scaled_size, crop)
        wide_room = Cast <to = {onnx.TensorProto.FLOAT}> (room)
        halving = Constant <value_float = 0.5> ()
        middle = Mul (wide_room, halving)
        whole = Round (middle)
        begin = Cast <to = {onnx.TensorProto.INT64}> (whole)
        end = Add (begin, crop)
        axes = Constant <value_ints = [2, 3]> ()
        view = Slice (scaled, begin, end, axes)
        {_normalized("view", "pixels", spec)}
        """,
    )


def fitted(spec: Preprocessing, side: int) -> onnx.ModelProto:
    """Returns (image (height, width, 3) uint8) => (pixels (1, 3, side, side) float32, size, scaled_size): the whole
    image in the upper left corner, its longer side filling the canvas, zeros in what it leaves free. `size` and
    `scaled_size` are (height, width), int64, of the image and of what the canvas shows of it.

    Raises UserFault (`export_unsupported`)."""
    return graphs.written(
        "view",
        f"(uint8[height, width, 3] image) => (float[1, 3, {side}, {side}] pixels, int64[2] size, int64[2] scaled_size)",
        f"""
        size = Shape <start = 0, end = 2> (image)
        longer = ReduceMax <keepdims = 1> (size)
        exact_size = Cast <to = {onnx.TensorProto.DOUBLE}> (size)
        exact_longer = Cast <to = {onnx.TensorProto.DOUBLE}> (longer)
        exact_side = Constant <value = double[1] {{{side}.0}}> ()
        factor = Div (exact_side, exact_longer)
        grown = Mul (exact_size, factor)
        whole = Round (grown)
        pixel = Constant <value = double[1] {{1.0}}> ()
        kept = Max (whole, pixel)
        scaled_size = Cast <to = {onnx.TensorProto.INT64}> (kept)
        {resampling.resized(spec.interpolation)}
        {_normalized("scaled", "view", spec)}
        canvas = Constant <value_ints = [{side}, {side}]> ()
        free = Sub (canvas, scaled_size)
        none = Constant <value_ints = [0, 0, 0, 0, 0, 0]> ()
        margins = Concat <axis = 0> (none, free)
        pixels = Pad (view, margins)
        """,
    )


def _normalized(given: str, made: str, spec: Preprocessing) -> str:
    """Lines from levels (0 to 255) to shares of them, less the mean, by the deviation."""
    return f"""
        step = Constant <value_float = {1 / 255:.9e}> ()
        shares = Mul ({given}, step)
        mean = Constant <value = {_channels(spec.mean)}> ()
        deviation = Constant <value = {_channels(spec.std)}> ()
        centered = Sub (shares, mean)
        {made} = Div (centered, deviation)
    """


def _channels(values: Sequence[float]) -> str:
    return f"float[1, 3, 1, 1] {{{', '.join(f'{value:.9e}' for value in values)}}}"
