"""`result.json`: the last thing that a verb writes, and the only sign that its outputs count."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from finetuning.engine.crash_points import Point, reach
from finetuning.engine.spec import FORMAT, OUTPUTS_DIR, RESULT_FILE, Verb
from finetuning.engine.workers import in_threads

_STEPS = (Point.RESULT_WRITTEN, Point.RESULT_SYNCED, Point.RESULT_RENAMED)
_LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "keras",
    "h5py",
    "safetensors",
    "numpy",
    "pillow",
    "scikit-learn",
    "optuna",
)


# Rises with every change of this engine that moves a number: another rounding, another order of additions.
NUMERICS = "4"


def versions() -> dict[str, str]:
    """Returns the versions of Python, of this engine's arithmetic (`engine`) and of every installed library that can move
    a number."""
    found = {"python": platform.python_version(), "engine": NUMERICS}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # not every verb needs every library
    return found


def sha256_of(path: Path) -> str:
    """Returns the file's SHA-256 as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(outputs: Path) -> dict[str, dict[str, Any]]:
    """Returns `{path below outputs: {sha256, bytes}}`, sorted by path."""
    files = sorted(path for path in outputs.rglob("*") if path.is_file()) if outputs.is_dir() else []
    return {
        path.relative_to(outputs).as_posix(): {"sha256": sha256, "bytes": path.stat().st_size}
        for path, sha256 in in_threads(sha256_of, files)
    }


def finished(run_dir: Path, verb: Verb) -> bool:
    """Whether a whole result of this verb and format lies there, its outputs present in their sizes."""
    try:
        document = json.loads((run_dir / RESULT_FILE).read_text(encoding="utf-8"))
        return (
            document["format"] == FORMAT
            and document["verb"] == verb
            and all(
                (run_dir / OUTPUTS_DIR / name).stat().st_size == entry["bytes"]
                for name, entry in document["outputs"].items()
            )
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def write_durably(path: Path, content: bytes, *, steps: Sequence[Point] = ()) -> None:
    """Replaces `path` in one step; afterwards it survives a power cut. `steps` name the three moments between."""
    written, synced, renamed = steps or (None, None, None)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        _pass(written)
        os.fsync(file.fileno())
    _pass(synced)
    temporary.replace(path)
    _pass(renamed)
    sync_directory(path.parent)


def _pass(step: Point | None) -> None:
    if step is not None:
        reach(step)


def sync_directory(directory: Path) -> None:
    """Makes renames in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(run_dir: Path, *, verb: Verb, part: dict[str, Any], seconds: float) -> None:
    """Writes `result.json`: the verb's own `part` and what every verb records. `part` may carry the
    `device` and `threads` that it computed on; a verb without torch used one thread of the CPU."""
    document = {
        "device": "cpu",
        "threads": 1,
        **part,
        "format": FORMAT,
        "verb": verb.value,
        "outputs": _durable_digests(run_dir / OUTPUTS_DIR),
        "seconds": round(seconds, 3),
        "versions": versions(),
    }
    content = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False).encode()
    write_durably(run_dir / RESULT_FILE, content, steps=_STEPS)


def _durable_digests(outputs: Path) -> dict[str, dict[str, Any]]:
    """Digests, once the files themselves are on disk: a result must never outlive what it names."""
    for path in sorted(outputs.rglob("*")) if outputs.is_dir() else []:
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            sync_directory(path)
    reach(Point.OUTPUTS_SYNCED)
    return digests(outputs)
