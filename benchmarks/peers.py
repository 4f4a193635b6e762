"""Libraries that only the benchmarks compare with."""

from __future__ import annotations

import importlib.util
import sys


def need(library: str) -> None:
    """Ends with one line that says what to install where the library is missing."""
    if importlib.util.find_spec(library) is None:
        sys.exit(
            f"{library} is not installed here: see benchmarks/README.md, or pip install -r benchmarks/requirements.txt"
        )
