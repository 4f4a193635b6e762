"""Gradients of depthwise convolutions, while a CPU trains in bfloat16.

oneDNN has no fast form of two of them in bfloat16: that of the images where the stride is above 1, that of the weights where
the kernel is above 3 by 3. Both are made of forms that it has: the first is a convolution of stride 1 over the gradient with
zeros between its pixels, the second is put together of 3 by 3 pieces of the kernel; where a kernel is dilated both are computed
in float32. Sums are of float32 and are rounded to bfloat16 once, as oneDNN's own. `python -m benchmarks full` shows what that is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_AT_ONCE = 4  # images whose spread gradient stays in a processor's cache
_PIECE = 3  # pixels of a kernel's side for which oneDNN has a fast gradient of the weights


class FastGradients(TorchFunctionMode):
    """While it is entered, under autocast to bfloat16 on a CPU, depthwise convolutions that need it have the gradients of
    this module."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        return (_convolved if func is torch.conv2d else func)(*args, **(kwargs or {}))


def _convolved(  # noqa: PLR0917 - as torch's
    input: Tensor,  # noqa: A002 - torch's name of it, which may be said
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    is_rounded = torch.is_autocast_enabled("cpu") and input.dtype in {torch.float32, torch.bfloat16}
    is_depthwise = input.ndim == 4 and 1 < groups == input.shape[1] == weight.shape[0]
    is_slow = max(_two(stride)) > 1 or max(weight.shape[2:]) > _PIECE
    if not (is_rounded and is_depthwise and is_slow) or isinstance(padding, str):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    with torch.autocast("cpu", enabled=False):
        rounded = [None if value is None else value.to(torch.bfloat16) for value in (input, weight, bias)]
        result: Tensor = _Depthwise.apply(*rounded, Geometry(_two(stride), _two(padding), _two(dilation)))
        return result


class Geometry(NamedTuple):
    """Of both sides each."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]


class _Depthwise(torch.autograd.Function):
    """torch.conv2d of bfloat16, a group for each channel."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry = geometry
        return torch.conv2d(images, weight, bias, *geometry, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        needs_images, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        return (
            of_images(gradient, images, weight, ctx.geometry) if needs_images else None,
            of_weight(gradient, images, weight, ctx.geometry) if needs_weight else None,
            gradient.float().sum((0, 2, 3)).to(gradient.dtype) if needs_bias else None,
            None,
        )


def of_images(gradient: Tensor, images: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Returns the gradient (N, C, H, W) of the images from that of the outputs (N, C, H', W')."""
    stride, padding, dilation = geometry
    if max(dilation) > 1:
        return _exact(gradient, images, weight, geometry, is_weight=False)
    margins = [kernel - 1 - pad for kernel, pad in zip(weight.shape[2:], padding, strict=True)]
    if max(stride) == 1 or min(margins) < 0:  # padded by more than the kernel reaches
        return _native(gradient, images, weight, geometry, is_weight=False)
    height, width = (
        side + 2 * pad - kernel + 1
        for side, pad, kernel in zip(images.shape[2:], padding, weight.shape[2:], strict=True)
    )
    flipped, result = weight.flip(2, 3), torch.empty_like(images)
    shape = (_AT_ONCE, len(weight), height, width)
    spread = torch.empty(shape, dtype=gradient.dtype, memory_format=torch.channels_last).zero_()
    for first in range(0, len(gradient), _AT_ONCE):
        part = gradient[first : first + _AT_ONCE]
        whole = spread[: len(part)]
        whole[:, :, :: stride[0], :: stride[1]] = part
        result[first : first + len(part)] = torch.conv2d(whole, flipped, None, 1, margins, 1, len(weight))
    return result


def of_weight(gradient: Tensor, images: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """Returns the gradient (C, 1, K, L) of the weights."""
    stride, padding, dilation = geometry
    if max(dilation) > 1:
        return _exact(gradient, images, weight, geometry, is_weight=True)
    kernel = list(weight.shape[2:])
    if max(kernel) <= _PIECE:
        return _native(gradient, images, weight, geometry, is_weight=True)
    padded = functional.pad(images, [padding[1], padding[1], padding[0], padding[0]])
    piece = [min(side, _PIECE) for side in kernel]
    small = weight[:, :, : piece[0], : piece[1]]
    height, width = (
        (side - 1) * step + part for side, step, part in zip(gradient.shape[2:], stride, piece, strict=True)
    )
    whole = torch.empty_like(weight)
    for top in _starts(kernel[0], piece[0]):
        for left in _starts(kernel[1], piece[1]):
            window = padded[:, :, top : top + height, left : left + width]
            found = _native(gradient, window, small, Geometry(stride, [0, 0], dilation), is_weight=True)
            whole[:, :, top : top + piece[0], left : left + piece[1]] = found
    return whole


def _starts(side: int, piece: int) -> list[int]:
    """Returns where pieces begin that cover the side, the last one at its end: two may say the same."""
    return sorted({*range(0, side - piece + 1, piece), side - piece})


def _exact(gradient: Tensor, images: Tensor, weight: Tensor, geometry: Geometry, *, is_weight: bool) -> Tensor:
    """In float32, as oneDNN has no fast form in bfloat16."""
    found = _native(gradient.float(), images.float(), weight.float(), geometry, is_weight=is_weight)
    return found.to(gradient.dtype)


def _native(gradient: Tensor, images: Tensor, weight: Tensor, geometry: Geometry, *, is_weight: bool) -> Tensor:
    wanted = [not is_weight, is_weight, False]
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, *geometry, False, [0, 0], len(weight), wanted
    )
    return found[is_weight]


def _two(value: int | Sequence[int]) -> list[int]:
    sizes = [value] if isinstance(value, int) else list(value)
    return sizes * 2 if len(sizes) == 1 else sizes
