"""One side of `benchmarks features`: every image of a pack once through the network without its classifier.

`python -m benchmarks.forward_pass engine|eager RELEASE_DIR PACK TABLE` writes (N, D) float32 as .npy. The options are
the engine's: see `python -m benchmarks features --help`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from finetuning.engine.imports import without_compiler
from finetuning.engine.memory import keep_freed_memory


def main(way: str, release: Path, pack: Path, table: Path, *, reads: str, at_once: int, allocator: str) -> None:
    if way == "engine":  # as `__main__` of the engine does
        if allocator == "kept":
            keep_freed_memory()
        without_compiler()
    import numpy as np  # noqa: PLC0415 - after the lines above

    from benchmarks import ways  # noqa: PLC0415

    rows = ways.eager(release, pack) if way == "eager" else ways.engine(release, pack, reads=reads, at_once=at_once)
    np.save(table, rows.numpy())
    precision = ways.precision() if way == "engine" else "float32"
    print(json.dumps({"images": len(rows), "precision": precision}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.forward_pass")
    parser.add_argument("way", choices=("engine", "eager"))
    for name in ("release", "pack", "table"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--reads", default="last")
    parser.add_argument("--at-once", type=int, default=0)
    parser.add_argument("--allocator", default="kept")
    main(**vars(parser.parse_args()))
