"""A faster copy of a convolutional network for inference on a CPU: each batch norm, and the activation that
it carries, becomes part of the convolution before it.

oneDNN's fused convolution is what torch.compile would choose too; calling it takes no compile time. The copy
is used only if it gives the original's outputs.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Largest relative difference (L2) from the original, both in float32: many additions in another order.
TOLERANCE = 1e-3
# A copy of less precision may differ by so much, as bfloat16 has 8 bits of mantissa, or by this many times what the
# original itself does under autocast: rounding costs more in some networks, 2 to 8% in EfficientNet-Lite0.
ROUNDING, ROUNDING_TIMES = 0.05, 1.5
MAX_SHAPES = 8  # of images, for which a convolution keeps its weight laid out
_NORM = nn.modules.batchnorm._BatchNorm  # noqa: SLF001 - torch's own base class
# oneDNN's name of an activation, and its numbers.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.Hardswish: ("hardswish", []),
    nn.SiLU: ("swish", []),
}


@dataclass(frozen=True, slots=True)
class _Pair:
    """A convolution whose output only this norm reads, by their dotted names."""

    convolution: str
    norm: str


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A convolution's weight in oneDNN's layout for images of one shape; `margins` are functional.pad's, if any."""

    weight: Tensor
    padding: list[int]
    margins: list[int]


class FusedConvolution(nn.Module):
    """Convolution, folded norm and activation in one call: (N, C, H, W) -> (N, C', H', W')."""

    def __init__(self, convolution: nn.Conv2d, norm: Any) -> None:
        super().__init__()
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = 0 if convolution.bias is None else convolution.bias
        weight = convolution.weight * scale[:, None, None, None]
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        self.bias = nn.Parameter((norm.bias + (bias - norm.running_mean) * scale).detach(), requires_grad=False)
        self._kernel, self._groups = tuple(convolution.kernel_size), convolution.groups
        self._stride, self._dilation = list(convolution.stride), list(convolution.dilation)
        self._pads_by_size = _pads_by_size(convolution)
        self._padding = [0, 0] if self._pads_by_size else [int(side) for side in convolution.padding]
        self._activation, self._numbers = _ACTIVATIONS[type(_activation_of(norm))]
        self._prepared: dict[torch.Size, _Prepared] = {}

    def forward(self, images: Tensor) -> Tensor:
        shape = images.shape[1:]  # oneDNN's layout is the same for any number of images
        prepared = self._prepared.get(shape)
        if prepared is None:
            if len(self._prepared) >= MAX_SHAPES:
                self._prepared.clear()
            prepared = self._prepared[shape] = self._prepare(images.shape)
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(  # noqa: SLF001 - oneDNN's fused call has no public name
            functional.pad(images, prepared.margins) if prepared.margins else images,
            prepared.weight,
            self.bias,
            prepared.padding,
            self._stride,
            self._dilation,
            self._groups,
            self._activation,
            self._numbers,
            "",
        )
        return result

    def _apply(self, *arguments: Any, **options: Any) -> FusedConvolution:
        """What `to` and its like go through: the weight will not be what was laid out."""
        self._prepared.clear()
        super()._apply(*arguments, **options)  # type: ignore[no-untyped-call]
        return self

    def _prepare(self, shape: torch.Size) -> _Prepared:
        """Lays the weight out for oneDNN, which would otherwise do it in every call.

        oneDNN's call pads both ends alike. Where TensorFlow pads one more at the right and the bottom, as it does for
        every second pixel of an even side, a kernel with a first row and column of zeros does the same with one more
        at the left and the top, and the images need no copy with margins."""
        weight: Tensor = self.weight
        padding = self._padding
        margins: list[int] = self._margins(shape[-2:]) if self._pads_by_size else []
        if margins:
            left, right, top, bottom = margins
            if self._dilation == [1, 1] and right - left == bottom - top <= 1:
                padding, margins = [bottom, right], []
                if right > left:
                    weight = functional.pad(weight, [1, 0, 1, 0])
        whole = [*shape[:-2], shape[-2] + sum(margins[2:]), shape[-1] + sum(margins[:2])]
        laid_out = torch.ops.mkldnn._reorder_convolution_weight(  # noqa: SLF001 - as the call itself
            weight, padding, self._stride, self._dilation, self._groups, whole
        )
        return _Prepared(laid_out, padding, margins)

    def _margins(self, size: torch.Size) -> list[int]:
        """Returns TensorFlow's SAME padding (left, right, top, bottom): ceil(size / stride) outputs."""
        margins = []
        for side, kernel, stride, dilation in zip(size, self._kernel, self._stride, self._dilation, strict=True):
            missing = max((math.ceil(side / stride) - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
            margins.append([missing // 2, missing - missing // 2])
        return [*margins[1], *margins[0]]


def fused(module: nn.Module, sample: Tensor, dtype: torch.dtype) -> nn.Module | None:
    """Returns the fused copy in eval mode, taking and giving `dtype`; None where there is nothing to fuse,
    oneDNN is missing, or the outputs for `sample` (N, 3, H, W) float32 differ by more than rounding: in float32 by
    `TOLERANCE`, in another type by `ROUNDING` and by `ROUNDING_TIMES` what the original differs by under autocast."""
    if sample.device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return None
    try:
        pairs = _pairs(module, sample)
        if not pairs:
            return None
        quick = copy.deepcopy(module)
        for pair in pairs:
            whole = FusedConvolution(
                quick.get_submodule(pair.convolution),  # type: ignore[arg-type]  # `_pairs` saw a Conv2d
                quick.get_submodule(pair.norm),
            )
            _replace(quick, pair.convolution, whole)
            _replace(quick, pair.norm, nn.Identity())
        quick, wanted = quick.eval(), module(sample)
        if not _difference(quick(sample), wanted) <= TOLERANCE:  # NaN is no agreement
            return None
        if dtype is torch.float32:
            return quick
        quick = quick.to(dtype)
        with torch.autocast("cpu", dtype=dtype):
            rounded = module(sample)
        allowed = max(ROUNDING, ROUNDING_TIMES * _difference(rounded, wanted))
        fits = _difference(quick(sample.to(dtype)), wanted) <= allowed
    except (RuntimeError, TypeError, AttributeError):  # an architecture that this rewriting does not fit
        return None
    return quick if fits else None


def _difference(got: Tensor, wanted: Tensor) -> float:
    """Returns |got - wanted| / |wanted| (L2)."""
    return float((got.float() - wanted).norm() / wanted.norm().clamp(min=1e-12))


def _pairs(module: nn.Module, sample: Tensor) -> list[_Pair]:
    """Watches one forward pass for norms that read a convolution's output as it is."""
    made_by: dict[int, tuple[str, Tensor]] = {}  # the tensor is kept, so that its id stays its own
    pairs: list[_Pair] = []

    def after(name: str) -> Any:
        def note(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            made_by[id(output)] = (name, output)

        return note

    def before(name: str) -> Any:
        def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if id(inputs[0]) in made_by:
                pairs.append(_Pair(made_by[id(inputs[0])][0], name))

        return note

    hooks = []
    for name, child in module.named_modules():
        if isinstance(child, nn.Conv2d) and child.padding_mode == "zeros" and not isinstance(child.padding, str):
            hooks.append(child.register_forward_hook(after(name)))
        elif isinstance(child, _NORM) and child.track_running_stats and type(_activation_of(child)) in _ACTIVATIONS:
            hooks.append(child.register_forward_pre_hook(before(name)))
    try:
        module(sample[:1])
    finally:
        for hook in hooks:
            hook.remove()
    once = [pair for pair in pairs if [other.convolution for other in pairs].count(pair.convolution) == 1]
    return [pair for pair in once if [other.norm for other in pairs].count(pair.norm) == 1]


def _activation_of(norm: Any) -> nn.Module:
    """Timm's norms carry their activation; torch's have none."""
    drop: nn.Module | None = getattr(norm, "drop", None)
    if drop is not None and not isinstance(drop, nn.Identity):
        return drop  # of no known kind: the norm stays as it is
    found: nn.Module = getattr(norm, "act", None) or nn.Identity()
    return found


def _pads_by_size(convolution: nn.Conv2d) -> bool:
    """TensorFlow's padding, which depends on the input's size: timm computes it in the forward pass."""
    return type(convolution).__name__ == "Conv2dSame"


def _replace(module: nn.Module, path: str, child: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, child)
