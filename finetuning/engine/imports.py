"""Imports without what no verb uses. Standard library only, until a library is asked for.

torch's compiler takes as long to import as torch itself. Libraries import it to mark what it must not compile; this
engine compiles nothing but what it exports."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_COMPILERS_MASK = f"{_COMPILER}._trace_wrapped_higher_order_op"
_wishes: set[str] = set()  # of this process


def without_compiler() -> None:
    """Prepares a process that compiles nothing. Whoever needs the compiler all the same still gets it.

    torchvision and timm mark by a decorator what must not be compiled, torch's optimizers at their first step, what counts
    operations at its first one. What is never compiled needs no mark."""
    if _wishes:
        return
    _wishes.add("without compiler")
    torchvision_without_compiler()
    compiler, library = (importlib.import_module(name) for name in ("torch.compiler", "torch"))
    compiler.disable = _unmarked(compiler.disable)  # type: ignore[attr-defined]
    library._disable_dynamo = _unmarked(library._disable_dynamo)  # type: ignore[attr-defined]  # noqa: SLF001 - of modes
    optim = importlib.import_module("torch.optim")
    for kind in (optim.SGD, optim.Adam, optim.AdamW):
        # What it is wrapped in sets gradients to `differentiable`, which is False here, and breaks the graph.
        kind.step = library.no_grad()(inspect.unwrap(kind.step))
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        plain = inspect.unwrap(getattr(optim.Optimizer, name))
        plain.__dynamo_disable = plain  # noqa: SLF001 - where torch keeps the compiler's answer


def _unmarked(mark: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(mark)
    def unmarked(fn: Any = None, *arguments: Any, **options: Any) -> Any:
        return fn if callable(fn) and _COMPILER not in sys.modules else mark(fn, *arguments, **options)

    return unmarked


def torchvision_without_compiler() -> None:
    """Imports torchvision, which asks the compiler one question in `ops.roi_align`, and only where an operator of its
    own is missing: a stand-in that passes it on is there while torchvision is imported."""
    lender = f"{_COMPILER}.utils"
    if lender in sys.modules:
        return
    stand_in = ModuleType(lender)
    stand_in.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules[lender] = stand_in
    try:
        importlib.import_module("torchvision")
    finally:
        del sys.modules[lender]


def transformers() -> Any:
    """Returns transformers, whose models no longer ask for the compiler, nor for tensors that are spread over devices,
    in a process that was prepared by `without_compiler`.

    Stand-ins are there while its models' base is imported: for the compiler, of which it wants marks, and one class for
    masks of a kind that no encoder here has, which comes when it is called. It knows builds of torch without
    torch.distributed, and is told that this is one: the engine shares out batches by itself (`collective`)."""
    library = importlib.import_module("transformers")
    if not _wishes or {_COMPILER, "transformers.modeling_utils"} & sys.modules.keys():
        return library
    utils: Any = importlib.import_module("transformers.utils")
    for module in (utils, utils.import_utils):
        module.is_torch_distributed_available = lambda: False
    masks = ModuleType(_COMPILERS_MASK)
    masks.TransformGetItemToIndex = _mask_by_compiler  # type: ignore[attr-defined]
    marks = _Marks(_COMPILER)
    marks.stand_ins = {_COMPILER: marks, _COMPILERS_MASK: masks}
    sys.modules.update(marks.stand_ins)
    try:
        for name in ("masking_utils", "modeling_utils"):
            importlib.import_module(f"transformers.{name}")
    except ImportError:  # something asks for a part of the compiler that no stand-in has
        _take_back(marks.stand_ins)
        importlib.import_module("transformers.modeling_utils")
    finally:
        _take_back(marks.stand_ins)
    return library


def _take_back(stand_ins: dict[str, ModuleType]) -> None:
    for name, module in stand_ins.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


class _Marks(ModuleType):
    """The compiler's marks, which do nothing; whatever else is asked of it is the compiler's own."""

    __path__: list[str] = []  # a package, or nothing could be imported from it
    stand_ins: dict[str, ModuleType]

    def __getattr__(self, name: str) -> Any:
        if name in {"allow_in_graph", "assume_constant_result", "disable"}:
            return lambda fn=None, *_arguments, **_options: fn if callable(fn) else lambda marked: marked
        if name.startswith("__"):
            raise AttributeError(name)
        _take_back(self.stand_ins)
        return getattr(importlib.import_module(_COMPILER), name)


def _mask_by_compiler() -> Any:
    return importlib.import_module(_COMPILERS_MASK).TransformGetItemToIndex()


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(f"{_COMPILER}.utils").is_compile_supported(device_type))
