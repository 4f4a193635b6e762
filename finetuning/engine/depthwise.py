"""Depthwise convolutions whose gradients are computed in float32, while a CPU trains in bfloat16.

oneDNN has no fast form of two of their gradients in bfloat16: that of the images where the stride is above 1, that of the
weights where the kernel is above 3 by 3. In float32 both take a quarter or less of the time (`python -m benchmarks full`
shows the whole), and the gradients are the same but for one rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SMALL_KERNEL = 3


class FloatGradients(TorchFunctionMode):
    """While it is entered, under autocast to bfloat16 on a CPU, depthwise convolutions that need it have gradients of
    float32 arithmetic, rounded to bfloat16."""

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
    is_slow = max(_two(stride)) > 1 or max(weight.shape[2:]) > _SMALL_KERNEL
    if not (is_rounded and is_depthwise and is_slow) or isinstance(padding, str):
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    with torch.autocast("cpu", enabled=False):
        rounded = [None if value is None else value.to(torch.bfloat16) for value in (input, weight, bias)]
        result: Tensor = _Depthwise.apply(*rounded, _two(stride), _two(padding), _two(dilation), groups)
        return result


class _Depthwise(torch.autograd.Function):
    """torch.conv2d of bfloat16, whose backward pass goes through float32."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry, ctx.biases = geometry, None if bias is None else list(bias.shape)
        return torch.conv2d(images, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        wanted = list(ctx.needs_input_grad[:3])
        found = torch.ops.aten.convolution_backward(
            gradient.float(),
            images.float(),
            weight.float(),
            ctx.biases,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            wanted,
        )
        rounded = [
            value.to(torch.bfloat16) if is_wanted else None for value, is_wanted in zip(found, wanted, strict=True)
        ]
        return (*rounded, None, None, None, None)


def _two(value: int | Sequence[int]) -> list[int]:
    sizes = [value] if isinstance(value, int) else list(value)
    return sizes * 2 if len(sizes) == 1 else sizes
