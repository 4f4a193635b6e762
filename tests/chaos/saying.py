"""The lines that somebody who watches reads."""

from __future__ import annotations

import sys
import time

_BEGAN = time.monotonic()


def say(line: str) -> None:
    sys.stdout.write(line if line.startswith("{") else f"{time.monotonic() - _BEGAN:6.0f} s  {line}")
    sys.stdout.write("\n")
    sys.stdout.flush()
