"""Reads a pickle that holds arrays, numbers, strings, lists and dictionaries, and runs nothing of it.

A pickle is a program: plain `pickle.load` does whatever its author wrote. Here no name in it reaches Python's or
NumPy's code: the three that an array of NumPy is made of become inert records, every other one is refused.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_BYTES = 256 * 2**20  # CIFAR-100's training file has 155 MB
_BYTE_TYPES = frozenset({"u1", b"u1"})


class NotPlain(Exception):
    """The pickle is damaged, or asks for more than plain data; the text says which."""


class _Record:
    """What an array or a data type says of itself, unchecked."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _encoded(text: Any, encoding: Any) -> bytes:
    """How Python 3 spells bytes in protocol 2."""
    if not isinstance(text, str) or encoding not in {"latin1", b"latin1"}:
        raise NotPlain("it holds something else than plain data")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Record,
    ("numpy._core.multiarray", "_reconstruct"): _Record,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Record,
    ("_codecs", "encode"): _encoded,
}


class _Unpickler(pickle._Unpickler):  # noqa: SLF001 - the one in Python, see below
    """Python's own reader in Python: the one in C sets memory aside for whatever number a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        found = _KNOWN.get((module, name))
        if found is None:
            raise NotPlain(f"it asks for {module}.{name}, and nothing but arrays and plain data is read")
        return found

    def persistent_load(self, _pid: Any) -> Any:
        raise NotPlain("it refers to objects outside of itself")


def load(content: bytes) -> Any:
    """Returns the data; strings of Python 2 are bytes, arrays are for `array_of`. Raises NotPlain."""
    if len(content) > MAX_BYTES:
        raise NotPlain(f"it is over {MAX_BYTES >> 20} MiB")
    try:
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except NotPlain:
        raise
    except Exception as error:  # a damaged pickle fails in as many ways as it has instructions
        raise NotPlain("it is damaged or no pickle") from error


def array_of(value: Any) -> npt.NDArray[np.uint8]:
    """Returns the array of bytes that a record describes. Raises NotPlain for any other type, order or length."""
    if not isinstance(value, _Record) or not isinstance(value.state, tuple) or len(value.state) != 5:
        raise NotPlain("its data is no array")
    _, shape, kind, is_fortran, raw = value.state
    if not isinstance(kind, _Record) or not kind.arguments or kind.arguments[0] not in _BYTE_TYPES:
        raise NotPlain("its array does not hold bytes (uint8)")
    plain = isinstance(shape, tuple) and all(type(side) is int and 0 <= side <= MAX_BYTES for side in shape)
    if not plain or not isinstance(raw, bytes) or bool(is_fortran) or np.prod(shape, dtype=object) != len(raw):
        raise NotPlain("its array contradicts itself about its size")
    return np.frombuffer(raw, np.uint8).reshape(shape)
