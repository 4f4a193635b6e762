"""`python -m benchmarks NAME [options]`: runs one benchmark and prints its report."""

from __future__ import annotations

import importlib
import sys

NAMES = (
    "head_only",
    "features",
    "last_stage",
    "full",
    "fastai",
    "trainer",
    "inspect",
    "memory",
    "floors",
    "floor_digits",
    "floor_fashion",
    "floor_text",
    "floor_detection",
    "floor_segmentation",
    "verdict",
    "intent",
    "estimate",
    "queue",
    "pages",
    "upload",
    "hub",
)


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in NAMES:
        print(f"usage: python -m benchmarks {{{','.join(NAMES)}}} [options]", file=sys.stderr)
        return 64
    importlib.import_module(f"benchmarks.{arguments[0]}").main(arguments[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
