"""A disk that can be filled without harm."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

DISK_BYTES = 768 * 2**20


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[bool]:
    """Gives the folder a disk of its own that can be filled, where this machine lets us; says whether it did."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "chaos", str(path)]
    is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(path)], check=False)  # noqa: S607 - as mount
