"""Safetensors, read only after a check of our own: the library accepts duplicate keys, huge headers and NaN."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from finetuning.engine import results
from finetuning.engine.problems import Problem, Rejected, reject

MAX_HEADER_BYTES = 10 * 2**20
MAX_TENSORS = 20_000
MAX_METADATA_BYTES = 64 * 1024
MAX_DIMENSIONS = 8
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_MAX_SIZE = 2**48  # bytes or elements: far above any disk here, far below where sums lose meaning
_FOREIGN_STARTS = (b"\x80", b"PK\x03\x04", b"\x93NUMPY", b"\x89HDF")  # pickle, zip, NumPy, HDF5
_PEEK_BYTES = 9


def check_header(path: Path) -> None:
    """Rejects a file whose header lies, with the codes of docs/engine.md."""
    size, name = path.stat().st_size, path.name
    with path.open("rb") as file:
        start = file.read(_PEEK_BYTES)
        length = int.from_bytes(start[:8], "little")
        # A pickle's first bytes can be a length too, so what follows decides: a header opens with a brace.
        if len(start) < 8 or (start[8:9] != b"{" and start.startswith(_FOREIGN_STARTS)):
            raise reject("not_safetensors", f"{name} is not a safetensors file. Save the weights as safetensors.")
        if length == 0 or length > size - 8:
            raise reject("bad_header", f"The header of {name} claims {length} bytes of a file of {size}.")
        if length > MAX_HEADER_BYTES:
            limit = MAX_HEADER_BYTES >> 20
            raise reject("header_too_large", f"The header of {name} is larger than {limit} MiB.")
        file.seek(8)
        raw = file.read(length)
    _check_entries(_parse(raw, name), size - 8 - length, name)


def _parse(raw: bytes, name: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise reject("duplicate_tensor", f"The header of {name} names something twice.")
        return dict(pairs)

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise reject("not_safetensors", f"{name} has no readable safetensors header.") from error
    if not isinstance(header, dict):
        raise reject("bad_header", f"The header of {name} is not an object.")
    return header


def _check_entries(header: dict[str, Any], data_bytes: int, name: str) -> None:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise reject("bad_header", f"The metadata of {name} must be texts by name.")
    if len(json.dumps(metadata)) > MAX_METADATA_BYTES:
        raise reject("header_too_large", f"The metadata of {name} is larger than 64 KiB.")
    if len(header) > MAX_TENSORS:
        raise reject("header_too_large", f"{name} has more than {MAX_TENSORS:,} tensors.")
    position = 0
    for begin, end, key in sorted(_span(key, entry) for key, entry in header.items()):
        if begin != position:
            message = f"A tensor of {name} overlaps another one or leaves a hole."
            raise reject("bad_offsets", message, [key])
        position = end
    if position != data_bytes:
        message = f"The tensors of {name} take {position} bytes, but the file holds {data_bytes}."
        raise reject("bad_offsets", message)


def _span(key: str, entry: Any) -> tuple[int, int, str]:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
        raise reject("bad_header", "A tensor has no dtype, shape or offsets.", [key])
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise reject("dtype", f"Use one of the types {', '.join(_BYTES)}.", [f"{key}: {dtype}"])
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS or 0 in shape:
        raise reject("shape", f"A shape has up to {MAX_DIMENSIONS} sizes of 1 and more.", [f"{key}: {shape}"])
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise reject("bad_offsets", "A tensor's offsets must be two positions.", [f"{key}: {offsets}"])
    if offsets[1] - offsets[0] != math.prod(shape) * _BYTES[dtype]:
        raise reject("shape", "The shape and the bytes of a tensor disagree.", [f"{key}: {dtype} {shape}"])
    return offsets[0], offsets[1], key


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int and 0 <= size < _MAX_SIZE for size in value)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors by name, on the processor. Rejects bad headers and NaN or infinite weights."""
    check_header(path)
    tensors: dict[str, Tensor] = load_file(path)
    broken = [
        name for name, tensor in tensors.items() if tensor.is_floating_point() and not torch.isfinite(tensor).all()
    ]
    if broken:
        raise reject("non_finite", "Some weights are NaN or infinite.", broken)
    return tensors


def load_strictly(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Loads every tensor into the module. Rejects missing, extra, misshapen and mistyped ones by name."""
    expected = module.state_dict()
    _check_keys(expected, tensors)
    wrong = [
        f"{name}: expected {tuple(expected[name].shape)}, got {tuple(tensor.shape)}"
        for name, tensor in tensors.items()
        if expected[name].shape != tensor.shape
    ]
    if wrong:
        raise reject("shape_mismatch", "Some tensors have another shape than this architecture's.", wrong)
    mistyped = [
        f"{name}: {tensor.dtype}"
        for name, tensor in tensors.items()
        if expected[name].is_floating_point() != tensor.is_floating_point() or tensor.dtype is torch.float64
    ]
    if mistyped:
        text = "Some tensors hold integers for fractions, the reverse, or doubles. Save them as float32 or smaller."
        raise reject("dtype", text, mistyped)
    module.load_state_dict(tensors, strict=True)


def constant(module: nn.Module) -> list[str]:
    """Returns the names of weights of two dimensions or more whose entries are all the same: they can compute
    nothing, so training or saving went wrong."""
    return [
        name
        for name, parameter in module.named_parameters()
        if parameter.dim() > 1 and parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all())
    ]


def _check_keys(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Rejects with one problem for what is missing and one for what is too much: 20 names of each."""
    problems: list[Problem] = []
    if missing := [name for name in expected if name not in given]:
        message = f"This architecture needs {len(missing):,} tensors that the file does not have."
        problems += reject("keys_mismatch", message, missing).problems
    if extra := [name for name in given if name not in expected]:
        message = f"The file has {len(extra):,} tensors that are not of this architecture."
        problems += reject("keys_mismatch", message, extra).problems
    if problems:
        raise Rejected(*problems)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Writes atomically: temporary name, fsync, rename. Tensors that share memory are written apart."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    # A fresh copy of each: safetensors refuses views of one storage, such as tied weights.
    apart = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    save_file(apart, partial, metadata={"format": "pt", **(metadata or {})})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    results.sync_directory(path.parent)
