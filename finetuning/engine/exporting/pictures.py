"""From raw pixels to a network's input, in ONNX: what preprocessing.py, canvas.py and placement.py do with PIL.

PIL resizes 8-bit images in two passes with whole levels between them. onnxruntime does the same for uint8, with
`exclude_outside` also at the edges: what remains is one level (1/255) in at most 0.2% of the values, measured by
tests/engine/test_export.py. Resizing float32 differs in a fifth of them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from finetuning.engine import preprocessing
from finetuning.engine.exporting import graphs
from finetuning.engine.failures import UserFault
from finetuning.engine.spec import Preprocessing

INPUT = "image (height, width, 3): uint8 RGB, upright, of any size"
_RESIZE = {
    "nearest": 'mode = "nearest", nearest_mode = "round_prefer_ceil"',
    "bilinear": 'mode = "linear", antialias = 1, exclude_outside = 1',
    # Keys' kernel with -0.5, as PIL's.
    "bicubic": 'mode = "cubic", antialias = 1, exclude_outside = 1, cubic_coeff_a = -0.5',
}


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
        {_resized(spec)}
        crop = Constant <value_ints = [{spec.size}, {spec.size}]> ()
        room = Sub (scaled_size, crop)
        wide_room = Cast <to = {onnx.TensorProto.FLOAT}> (room)
        half = Constant <value_float = 0.5> ()
        middle = Mul (wide_room, half)
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
        {_resized(spec)}
        {_normalized("scaled", "view", spec)}
        canvas = Constant <value_ints = [{side}, {side}]> ()
        free = Sub (canvas, scaled_size)
        none = Constant <value_ints = [0, 0, 0, 0, 0, 0]> ()
        margins = Concat <axis = 0> (none, free)
        pixels = Pad (view, margins)
        """,
    )


def _resized(spec: Preprocessing) -> str:
    """Lines from `image` and `scaled_size` (height, width) to `scaled` (1, 3, height, width) uint8."""
    if spec.interpolation not in _RESIZE:
        raise UserFault(
            "export_unsupported",
            f"ONNX has no {spec.interpolation} interpolation, which this model's preprocessing asks for.",
        )
    return f"""
        planes = Transpose <perm = [2, 0, 1]> (image)
        first = Constant <value_ints = [0]> ()
        batch = Unsqueeze (planes, first)
        lead = Constant <value_ints = [1, 3]> ()
        sizes = Concat <axis = 0> (lead, scaled_size)
        scaled = Resize <coordinate_transformation_mode = "half_pixel", {_RESIZE[spec.interpolation]}> (
            batch, , , sizes)
    """


def _normalized(given: str, made: str, spec: Preprocessing) -> str:
    """Lines from uint8 planes to float32: scaled to [0, 1], less the mean, by the deviation."""
    return f"""
        levels = Cast <to = {onnx.TensorProto.FLOAT}> ({given})
        step = Constant <value_float = {1 / 255:.9e}> ()
        shares = Mul (levels, step)
        mean = Constant <value = {_channels(spec.mean)}> ()
        deviation = Constant <value = {_channels(spec.std)}> ()
        centered = Sub (shares, mean)
        {made} = Div (centered, deviation)
    """


def _channels(values: Sequence[float]) -> str:
    return f"float[1, 3, 1, 1] {{{', '.join(f'{value:.9e}' for value in values)}}}"
