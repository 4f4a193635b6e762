"""PIL's resizing of 8-bit images in ONNX, out of operations that every runtime has.

PIL resizes an axis by weights (out, in) with 22 binary places, adds them up in whole numbers and rounds to a level,
along the width, then along the height (Pillow, `libImaging/Resample.c`). Products of matrices in float32 do the same:
the weights are split into two parts of 11 places, whose sums stay below 2^24, where float32 counts exactly, as long as
an output reads at most 64 inputs (a bilinear reduction to 1/32). So the levels are equal, except: Pillow 13 takes the
height first where an image over twice as high as wide is reduced, and rounds in that order; and `nearest` may take
the next row or column where one lies exactly between two."""

from __future__ import annotations

import re
from dataclasses import dataclass

import onnx

from finetuning.engine.failures import UserFault

_PLACES = 22  # binary places of a weight
_PART = 2 ** (_PLACES // 2)
_DOUBLE, _FLOAT, _INT32 = onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT, onnx.TensorProto.INT32


@dataclass(frozen=True, slots=True)
class _Kernel:
    """`reach` in input pixels where nothing shrinks; `lines` compute {axis}_weight from {axis}_x >= 0."""

    reach: int
    lines: str


_KERNELS = {
    "bilinear": _Kernel(
        1,
        """
        {axis}_slope = Sub (one, {axis}_x)
        {axis}_weight = Max ({axis}_slope, zero)
        """,
    ),
    # Keys 1981 with a = -0.5.
    "bicubic": _Kernel(
        2,
        """
        {axis}_near_a = Mul ({axis}_x, c1_5)
        {axis}_near_b = Sub ({axis}_near_a, c2_5)
        {axis}_near_c = Mul ({axis}_near_b, {axis}_x)
        {axis}_near_d = Mul ({axis}_near_c, {axis}_x)
        {axis}_near = Add ({axis}_near_d, one)
        {axis}_far_a = Sub ({axis}_x, c5)
        {axis}_far_b = Mul ({axis}_far_a, {axis}_x)
        {axis}_far_c = Add ({axis}_far_b, c8)
        {axis}_far_d = Mul ({axis}_far_c, {axis}_x)
        {axis}_far_e = Sub ({axis}_far_d, c4)
        {axis}_far = Mul ({axis}_far_e, minus_half)
        {axis}_is_near = Less ({axis}_x, one)
        {axis}_is_far = Less ({axis}_x, two)
        {axis}_outer = Where ({axis}_is_far, {axis}_far, zero)
        {axis}_weight = Where ({axis}_is_near, {axis}_near, {axis}_outer)
        """,
    ),
    # sinc(x) sinc(x / 3); at 0, where both are 1, x is taken for a number that is as good.
    "lanczos": _Kernel(
        3,
        """
        {axis}_apart = Max ({axis}_x, tiny)
        {axis}_angle = Mul ({axis}_apart, pi)
        {axis}_third = Div ({axis}_angle, three)
        {axis}_sine = Sin ({axis}_angle)
        {axis}_sine_third = Sin ({axis}_third)
        {axis}_sinc = Div ({axis}_sine, {axis}_angle)
        {axis}_sinc_third = Div ({axis}_sine_third, {axis}_third)
        {axis}_window = Mul ({axis}_sinc, {axis}_sinc_third)
        {axis}_is_within = Less ({axis}_x, three)
        {axis}_weight = Where ({axis}_is_within, {axis}_window, zero)
        """,
    ),
}
_NEAREST = f"""
        width_index = Cast <to = {onnx.TensorProto.INT64}> (width_low)
        height_index = Cast <to = {onnx.TensorProto.INT64}> (height_low)
        narrowed = Gather <axis = 2> (planes, width_index)
        levels = Gather <axis = 1> (narrowed, height_index)
"""
_NUMBERS = {
    "zero": 0.0,
    "half": 0.5,
    "one": 1.0,
    "two": 2.0,
    "three": 3.0,
    "c1_5": 1.5,
    "c2_5": 2.5,
    "c4": 4.0,
    "c5": 5.0,
    "c8": 8.0,
    "minus_half": -0.5,
    "tiny": 1e-12,
    "pi": 3.141592653589793,
    "whole_weight": float(2**_PLACES),
    "part": float(_PART),
}


def resized(interpolation: str) -> str:
    """Returns lines of a graph from `image` (height, width, 3) uint8, `size` and `scaled_size` (height, width) int64
    to `scaled` (1, 3, height, width) float32, whole levels from 0 to 255. Raises UserFault (`export_unsupported`)."""
    if interpolation not in {*_KERNELS, "nearest"}:
        raise UserFault("export_unsupported", f"ONNX export knows no {interpolation} interpolation.")
    body = f"""
        {_axis("height", 0)}
        {_axis("width", 1)}
        planes_uint8 = Transpose <perm = [2, 0, 1]> (image)
        planes = Cast <to = {_FLOAT}> (planes_uint8)
        {_NEAREST if interpolation == "nearest" else _blended(interpolation)}
        batch_axis = Constant <value_ints = [0]> ()
        scaled = Unsqueeze (levels, batch_axis)
    """
    used = {name: value for name, value in _NUMBERS.items() if re.search(rf"\b{name}\b", body)}
    numbers = (f"{name} = Constant <value = double {{{value!r}}}> ()" for name, value in used.items())
    return "\n".join([*numbers, body])


def _blended(interpolation: str) -> str:
    """Lines from `planes` (3, height, width) to `levels`, by weights."""
    return f"""
        part_int = Constant <value = int32 {{{_PART}}}> ()
        rounding = Constant <value = int32 {{{2 ** (_PLACES - 1)}}}> ()
        whole_int = Constant <value = int32 {{{2**_PLACES}}}> ()
        black = Constant <value = int32 {{0}}> ()
        white = Constant <value = int32 {{255}}> ()
        last = Constant <value_ints = [-1]> ()
        {_weights("width", interpolation)}
        {_weights("height", interpolation)}
        width_coarse_columns = Transpose <perm = [1, 0]> (width_coarse)
        width_fine_columns = Transpose <perm = [1, 0]> (width_fine)
        width_sum_coarse = MatMul (planes, width_coarse_columns)
        width_sum_fine = MatMul (planes, width_fine_columns)
        {_levels("width")}
        height_sum_coarse = MatMul (height_coarse, width_levels)
        height_sum_fine = MatMul (height_fine, width_levels)
        {_levels("height")}
        levels = Identity (height_levels)
    """


def _axis(axis: str, place: int) -> str:
    """Lines to {axis}_center (out,): where each output pixel lies among the input's, and {axis}_low, the pixel that
    holds it."""
    return f"""
        {axis}_place = Constant <value_int = {place}> ()
        {axis}_given_count = Gather (size, {axis}_place)
        {axis}_made_count = Gather (scaled_size, {axis}_place)
        {axis}_given = Cast <to = {_DOUBLE}> ({axis}_given_count)
        {axis}_made = Cast <to = {_DOUBLE}> ({axis}_made_count)
        {axis}_scale = Div ({axis}_given, {axis}_made)
        {axis}_pixels = Range (zero, {axis}_made, one)
        {axis}_middles = Add ({axis}_pixels, half)
        {axis}_center = Mul ({axis}_middles, {axis}_scale)
        {axis}_low = Floor ({axis}_center)
    """


def _weights(axis: str, interpolation: str) -> str:
    """Lines to {axis}_coarse and {axis}_fine (out, in) float32: the weights, times 2^22, as coarse * 2^11 + fine."""
    kernel = _KERNELS[interpolation]
    return f"""
        {axis}_reach = Constant <value = double {{{float(kernel.reach)}}}> ()
        {axis}_stretch = Max ({axis}_scale, one)
        {axis}_support = Mul ({axis}_reach, {axis}_stretch)
        {axis}_rows = Unsqueeze ({axis}_center, last)
        {axis}_columns = Range (zero, {axis}_given, one)
        {axis}_start_edge = Sub ({axis}_rows, {axis}_support)
        {axis}_start_half = Add ({axis}_start_edge, half)
        {axis}_start = Floor ({axis}_start_half)
        {axis}_end_edge = Add ({axis}_rows, {axis}_support)
        {axis}_end_half = Add ({axis}_end_edge, half)
        {axis}_end = Floor ({axis}_end_half)
        {axis}_is_after = GreaterOrEqual ({axis}_columns, {axis}_start)
        {axis}_is_before = Less ({axis}_columns, {axis}_end)
        {axis}_is_read = And ({axis}_is_after, {axis}_is_before)
        {axis}_offset = Sub ({axis}_columns, {axis}_rows)
        {axis}_offset_half = Add ({axis}_offset, half)
        {axis}_unit = Div (one, {axis}_stretch)
        {axis}_signed_x = Mul ({axis}_offset_half, {axis}_unit)
        {axis}_x = Abs ({axis}_signed_x)
        {kernel.lines.format(axis=axis)}
        {axis}_own = Where ({axis}_is_read, {axis}_weight, zero)
        {axis}_sum = ReduceSum <keepdims = 1> ({axis}_own, last)
        {axis}_share = Div ({axis}_own, {axis}_sum)
        {axis}_long = Mul ({axis}_share, whole_weight)
        {axis}_sign = Sign ({axis}_long)
        {axis}_amount = Abs ({axis}_long)
        {axis}_amount_half = Add ({axis}_amount, half)
        {axis}_amount_whole = Floor ({axis}_amount_half)
        {axis}_fixed = Mul ({axis}_amount_whole, {axis}_sign)
        {axis}_parts = Div ({axis}_fixed, part)
        {axis}_coarse_exact = Round ({axis}_parts)
        {axis}_coarse_back = Mul ({axis}_coarse_exact, part)
        {axis}_fine_exact = Sub ({axis}_fixed, {axis}_coarse_back)
        {axis}_coarse = Cast <to = {_FLOAT}> ({axis}_coarse_exact)
        {axis}_fine = Cast <to = {_FLOAT}> ({axis}_fine_exact)
    """


def _levels(axis: str) -> str:
    """Lines from the two sums to {axis}_levels: added up, rounded, cut at black and white."""
    return f"""
        {axis}_coarse_int = Cast <to = {_INT32}> ({axis}_sum_coarse)
        {axis}_fine_int = Cast <to = {_INT32}> ({axis}_sum_fine)
        {axis}_coarse_shifted = Mul ({axis}_coarse_int, part_int)
        {axis}_added = Add ({axis}_coarse_shifted, {axis}_fine_int)
        {axis}_rounded = Add ({axis}_added, rounding)
        {axis}_level = Div ({axis}_rounded, whole_int)
        {axis}_lit = Max ({axis}_level, black)
        {axis}_cut = Min ({axis}_lit, white)
        {axis}_levels = Cast <to = {_FLOAT}> ({axis}_cut)
    """
