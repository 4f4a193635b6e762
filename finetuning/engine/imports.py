"""Imports without what no verb uses. Standard library only, until a library is asked for.

torch's compiler takes as long to import as torch itself. Libraries import it to mark what it must not compile; this
engine compiles nothing but what it exports. (transformers needs more of it, and has it.)"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"


def without_compiler() -> None:
    """Prepares a process that compiles nothing. Whoever needs the compiler all the same still gets it.

    torchvision and timm mark by a decorator what must not be compiled, torch's optimizers at their first step. What is
    never compiled needs no mark."""
    torchvision_without_compiler()
    compiler = importlib.import_module("torch.compiler")
    mark = compiler.disable

    @functools.wraps(mark)
    def unmarked(fn: Any = None, *arguments: Any, **options: Any) -> Any:
        return fn if callable(fn) and _COMPILER not in sys.modules else mark(fn, *arguments, **options)

    compiler.disable = unmarked  # type: ignore[attr-defined]
    optim = importlib.import_module("torch.optim")
    no_grad = importlib.import_module("torch").no_grad
    for kind in (optim.SGD, optim.Adam, optim.AdamW):
        # What it is wrapped in sets gradients to `differentiable`, which is False here, and breaks the graph.
        kind.step = no_grad()(inspect.unwrap(kind.step))
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        plain = inspect.unwrap(getattr(optim.Optimizer, name))
        plain.__dynamo_disable = plain  # noqa: SLF001 - where torch keeps the compiler's answer


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


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(f"{_COMPILER}.utils").is_compile_supported(device_type))
