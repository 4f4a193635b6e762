"""Imports without what no verb uses. Standard library only, until torchvision is asked for."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_COMPILER = "torch._dynamo.utils"


def torchvision_without_compiler() -> None:
    """Imports torchvision and leaves torch's compiler out, whose import takes as long as torch's own.

    torchvision 0.2x asks it one question, in `ops.roi_align`, and only where an operator of its own is missing; a stand-in
    that passes the question on is there while torchvision is imported. Whoever needs the compiler still gets it."""
    if _COMPILER in sys.modules:
        return
    stand_in = ModuleType(_COMPILER)
    stand_in.is_compile_supported = _is_compile_supported  # type: ignore[attr-defined]
    sys.modules[_COMPILER] = stand_in
    try:
        importlib.import_module("torchvision")
    finally:
        del sys.modules[_COMPILER]


def _is_compile_supported(device_type: str) -> bool:
    return bool(importlib.import_module(_COMPILER).is_compile_supported(device_type))
